"""Colours over HTTP: a picture whose file says what its numbers mean is shown and found as its twin."""

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.icc_profiles import ADOBE, DISPLAY_P3, converted, inked, lab_bytes, press
from tests.image_server import make_photo
from tests.stack import finished

SIZE = (480, 320)


def scene(seed: int, mode: str = "RGB") -> Image.Image:
    """Without grain, which each format blurs in its own way."""
    image = Image.open(io.BytesIO(make_photo(seed, 1920, 1280))).convert("RGB").resize(SIZE)
    planes = [*image.split(), Image.linear_gradient("L").resize(SIZE).point(lambda level: level // 3)]
    return Image.merge("CMYK", planes) if mode == "CMYK" else image


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def lab(image: Image.Image) -> Image.Image:
    planes = np.moveaxis(lab_bytes(np.asarray(image, dtype=float)), -1, 0)
    return Image.merge("LAB", [Image.fromarray(plane) for plane in planes])


def printed(inks: Image.Image) -> Image.Image:
    return Image.fromarray(inked(np.asarray(inks) / 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def twins() -> dict[str, tuple[bytes, Image.Image]]:
    """By file name: the file, and the picture that it shows."""
    inks = scene(3, "CMYK")
    quality: dict[str, Any] = {"quality": 95, "subsampling": 0}
    return {
        "p3.jpg": (
            saved(converted(scene(1), DISPLAY_P3), "JPEG", icc_profile=DISPLAY_P3, **quality),
            scene(1),
        ),
        "adobe.jpg": (saved(converted(scene(2), ADOBE), "JPEG", icc_profile=ADOBE, **quality), scene(2)),
        "inks.jpg": (saved(inks, "JPEG", icc_profile=press(), **quality), printed(inks)),
        "inks.tif": (saved(scene(4, "CMYK"), "TIFF", icc_profile=press()), printed(scene(4, "CMYK"))),
        "lab.tif": (saved(lab(scene(5)), "TIFF"), scene(5)),
        "broken.png": (saved(scene(6), "PNG", icc_profile=b"no profile" * 30), scene(6)),
    }


def test_each_looks_and_is_found_as_its_twin(
    http: httpx.Client, twins: dict[str, tuple[bytes, Image.Image]]
) -> None:
    where = {"collection": "profiles"}
    files = [("files", (name, data)) for name, (data, _) in twins.items()]
    files += [("files", (f"twin of {name}.png", saved(twin, "PNG"))) for name, (_, twin) in twins.items()]
    job = finished(http, http.post("/v1/jobs", files=files, data=where))
    assert job["status"] == "succeeded", job
    items = http.get(f"/v1/jobs/{job['job_id']}/items", params={"limit": 100}).json()["items"]
    ids = [item["image_id"] for item in items]
    for name, mine, others in zip(twins, ids, ids[len(twins) :], strict=False):
        kept, same = (http.get(f"/v1/images/{one}", params=where).json() for one in (mine, others))
        assert (kept["source"], same["source"]) == (name, f"twin of {name}.png")
        assert set(kept["colors"]) == set(same["colors"]), name
        for part in ("thumbnail", "rendition"):
            left, right = (shown(http, f"/v1/images/{one}/{part}", where) for one in (mine, others))
            assert np.abs(left - right).mean() < 4, (name, part)
        query = {"query": json.dumps(where | {"limit": 3})}
        answer = http.post(
            "/v1/search", files={"image": ("query.png", saved(twins[name][1], "PNG"))}, data=query
        )
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert {one["id"] for one in results[:2]} == {mine, others}, (name, results)
        assert results[1]["score"] > 0.99


def shown(http: httpx.Client, path: str, where: dict[str, str]) -> Any:
    answer = http.get(path, params=where)
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    assert not image.info.get("icc_profile")
    return np.asarray(image.convert("RGB"), dtype=float)
