"""Pictures with damage that is none of their pixels', cut off, or larger than most, on the real stack."""

from typing import Any

import httpx
from PIL import Image

from tests.image_server import make_photo
from tests.sample_files import png_with, samples, save
from tests.stack import finished


def results(http: httpx.Client, collection: str, files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    parts = [("files", (name, data)) for name, data in files.items()]
    job = finished(http, http.post("/v1/jobs", files=parts, data={"collection": collection}))
    items = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return {item["source"]: item for item in items}


def test_what_has_all_of_its_rows_is_indexed(http: httpx.Client) -> None:
    jpeg, large = make_photo(71, 600, 450), make_photo(72, 2048, 1536)
    png = save(Image.linear_gradient("L"), "PNG")
    files = {
        "no-end.jpg": jpeg[:-2],
        "zeros.jpg": large[:-2] + bytes(64),
        "half-a-mark.jpg": large[:-1],
        "comment.png": png_with(png, (b"tEXt", b"a\0b"), wrong=True),
        "drawing.png": png_with(save(Image.new("L", (64, 64)), "PNG"), (b"tEXt", b"a\0b"), wrong=True),
        "gamma.png": png_with(png, (b"gAMA", b"\0\0"), wrong=True),
        "no-end.png": png[:-12],
        "planes.jpg": samples()["jpeg, planes"],
    }
    assert {name: item["status"] for name, item in results(http, "whole", files).items()} == dict.fromkeys(
        files, "indexed"
    )


def test_what_is_cut_off_says_so(http: httpx.Client) -> None:
    files = {
        f"{name}.{place}": data[: len(data) * place // 10]
        for name, data in (
            ("small.jpg", make_photo(73, 600, 450)),
            ("large.jpg", make_photo(74, 2048, 1536)),
            *(
                (name, samples()[name])
                for name in ("jpeg, progressive", "png", "gif", "webp", "avif", "heic")
            ),
        )
        for place in (3, 8)
    }
    for name, item in results(http, "cut", files).items():
        assert (item["status"], item["code"]) == ("failed", "corrupt_image"), name
        assert "cut off" in item["detail"], (name, item)


def test_two_hundred_megapixels_of_a_phone_are_indexed_and_more_say_the_limit(http: httpx.Client) -> None:
    flat = {"optimize": True}
    files = {
        "108.jpg": save(Image.new("RGB", (12_000, 9_000), "teal"), "JPEG", **flat),
        "200.jpg": save(Image.new("RGB", (16_320, 12_240), "red"), "JPEG", **flat)[:-2],
        "260.jpg": save(Image.new("RGB", (20_400, 12_750), "blue"), "JPEG", **flat),
        "progressive.jpg": save(Image.new("RGB", (12_000, 9_000)), "JPEG", progressive=True),
    }
    items = results(http, "huge", files)
    assert [item["status"] for item in items.values()] == ["indexed", "indexed", "failed", "failed"]
    shown = {
        image["width"] for image in http.get("/v1/images", params={"collection": "huge"}).json()["images"]
    }
    assert shown == {12_000, 16_320}
    for name in ("260.jpg", "progressive.jpg"):
        assert items[name]["code"] == "too_many_pixels"
        assert "100,000,000 (IMAGE_SEARCH_MAX_IMAGE_PIXELS)" in items[name]["detail"]
        assert "2.5 times" in items[name]["detail"]


def test_a_file_over_the_limit_says_the_limit(http: httpx.Client) -> None:
    (item,) = results(http, "bytes", {"a.jpg": samples()["jpeg"] + bytes(3_000_000)}).values()
    assert item["code"] == "too_large"
    assert "3,000,000 bytes (IMAGE_SEARCH_MAX_IMAGE_BYTES)" in item["detail"]
