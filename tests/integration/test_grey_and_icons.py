"""Deep grey and drawings on transparency over HTTP: how they look, and what is found near them."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.image_server import make_photo
from tests.sample_files import bmp_with_alpha, deep_png, save
from tests.stack import Stack, finished
from tests.tiff_files import deep_tiff

WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
SHAPES: dict[str, Any] = {
    "circle": lambda draw, color: draw.ellipse((20, 20, 108, 108), fill=color),
    "ring": lambda draw, color: draw.ellipse((20, 20, 108, 108), outline=color, width=14),
    "square": lambda draw, color: draw.rectangle((24, 24, 104, 104), fill=color),
    "triangle": lambda draw, color: draw.polygon([(64, 10), (118, 110), (10, 110)], fill=color),
    "bar": lambda draw, color: draw.rectangle((10, 50, 118, 78), fill=color),
    "column": lambda draw, color: draw.rectangle((50, 10, 78, 118), fill=color),
}


@pytest.fixture(scope="module")
def http(starter_stack: Stack) -> Any:
    with httpx.Client(base_url=starter_stack.url, timeout=60) as client:
        yield client


def icon(name: str, color: tuple[int, ...]) -> Image.Image:
    image = Image.new("RGBA", (128, 128))
    SHAPES[name](ImageDraw.Draw(image), color)
    return image


def grey_photo(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(make_photo(seed, 320, 240))).convert("L")


def upload(http: httpx.Client, collection: str, files: dict[str, bytes], **fields: str) -> dict[str, Any]:
    parts = [("files", file) for file in files.items()]
    return finished(http, http.post("/v1/jobs", files=parts, data={"collection": collection, **fields}))


def pictures(http: httpx.Client, collection: str) -> dict[str, dict[str, Any]]:
    listed = http.get("/v1/images", params={"collection": collection, "limit": 100}).json()["images"]
    return {one["source"]: one for one in listed}


def thumbnail(http: httpx.Client, picture: dict[str, Any]) -> Any:
    answer = http.get(picture["thumbnail_url"])
    assert answer.status_code == 200
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def similar(http: httpx.Client, collection: str, picture: dict[str, Any]) -> list[tuple[str, float]]:
    found = http.get(f"/v1/images/{picture['id']}/similar", params={"collection": collection, "limit": 20})
    return [(hit["source"], hit["score"]) for hit in found.json()["results"]]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_an_x_ray_of_any_depth_looks_like_its_twin_of_8_bits_and_is_nearest_to_it(
    http: httpx.Client, bits: int
) -> None:
    collection = f"grey{bits}"
    base = grey_photo(1)
    values = (np.asarray(base).astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    deep = {
        "deep.png": deep_png(values),
        "deep.tif": deep_tiff(values),
        "inverted.tif": deep_tiff(2**bits - 1 - values, white_is_zero=True),
        "signed.tif": deep_tiff(values.astype(np.int16) - 1024),
        "alpha.png": deep_png(np.stack([values, np.full_like(values, 65535)], -1)),
    }
    others = {f"{seed}.png": save(grey_photo(seed), "PNG") for seed in range(2, 6)}
    job = upload(http, collection, {"twin.png": save(base, "PNG"), **deep, **others})
    assert job["counts"]["indexed"] == len(deep) + len(others) + 1
    listed = pictures(http, collection)
    twin = thumbnail(http, listed["twin.png"])
    for name in deep:
        assert np.abs(thumbnail(http, listed[name]) - twin).mean() < (20 if name == "signed.tif" else 3)
        nearest = [source for source, _ in similar(http, collection, listed[name])]
        assert set(nearest[: len(deep)]) == {"twin.png", *deep} - {name}


@pytest.mark.parametrize("name", ["png", "webp", "gif", "bmp"])
def test_white_icons_are_seen_and_each_is_kept(http: httpx.Client, name: str) -> None:
    def saved(image: Image.Image) -> bytes:
        if name == "bmp":
            return bmp_with_alpha(image)
        return save(image, name.upper(), **({"lossless": True} if name == "webp" else {}))

    collection = f"icons-{name}"
    files = {f"{shape}.{name}": saved(icon(shape, WHITE)) for shape in SHAPES}
    job = upload(http, collection, files, on_near_duplicate="skip")
    assert job["counts"]["indexed"] == len(SHAPES)
    listed = pictures(http, collection)
    for source, picture in listed.items():
        seen = thumbnail(http, picture)
        assert (seen[0, 0].max(), seen.max()) < (10, 256), source
        assert seen.max() > 245, source
        assert {"black", "white"} <= set(picture["colors"]), source
        assert max(score for _, score in similar(http, collection, picture)) < 0.98


def test_black_icons_stay_on_white(http: httpx.Client) -> None:
    upload(http, "black-icons", {f"{shape}.png": save(icon(shape, BLACK), "PNG") for shape in SHAPES})
    for picture in pictures(http, "black-icons").values():
        seen = thumbnail(http, picture)
        assert seen[0, 0].min() > 245
        assert seen.min() < 10


def test_a_bitmap_whose_alpha_is_zero_everywhere_is_its_opaque_twin(http: httpx.Client) -> None:
    photo = Image.open(io.BytesIO(make_photo(7, 320, 240))).convert("RGB")
    unused = photo.copy()
    unused.putalpha(0)
    files = {
        "twin.png": save(photo, "PNG"),
        "unused.bmp": bmp_with_alpha(unused),
        "unused.png": save(unused, "PNG"),
    }
    upload(http, "unused-alpha", files)
    listed = pictures(http, "unused-alpha")
    seen = {source: thumbnail(http, picture) for source, picture in listed.items()}
    assert np.array_equal(seen["unused.bmp"], seen["twin.png"])
    assert np.array_equal(seen["unused.png"], seen["twin.png"])
    assert all(score > 0.999 for _, score in similar(http, "unused-alpha", listed["twin.png"]))
