"""Files that are no pictures that are read, beside sound ones, on the real stack: each says what it is."""

import io
import struct
import zipfile
from typing import Any

import httpx
from PIL import Image

from tests.image_server import make_photo
from tests.sample_files import samples
from tests.stack import finished
from tests.tiff_files import PREVIEW, picture, raw_file, tiff_file

SOUND = {"before.jpg": make_photo(1, 64, 48), "after.png": samples()["png, alpha"]}


def saved(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, name)
    return buffer.getvalue()


def bmp_that_holds_a_jpeg() -> bytes:
    data = saved("BMP")
    return data[:30] + struct.pack("<I", 4) + data[34:]


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "a.nef": (
        raw_file("NIKON CORPORATION"),
        "unsupported_format",
        "a camera raw file (Nikon NEF) is not read",
    ),
    "b.dng": (tiff_file(picture(t50706=b"\1\4\0\0"), PREVIEW), "unsupported_format", "camera raw file (DNG)"),
    "c.jpg": (b"\0\0\0\x18ftypcrx " + bytes(99), "unsupported_format", "camera raw file (Canon CR3)"),
    "d.tif": (
        tiff_file(picture(compression=34712), bytes(9999)),
        "unsupported_format",
        "a TIFF compressed with JPEG 2000 is not read: save it with LZW, Deflate or none",
    ),
    "e.tif": (
        tiff_file(picture(bits=32, t339=3), bytes(99_999)),
        "unsupported_format",
        "a TIFF of 3 samples of 32 bits (RGB, floating point) is not read",
    ),
    "f.bmp": (bmp_that_holds_a_jpeg(), "unsupported_format", "a BMP that holds a JPEG is not read"),
    "g.tga": (saved("TGA"), "unsupported_format", "TGA files are not supported"),
    "h.jpg": (
        b"<!doctype html><html>Sorry</html>",
        "not_an_image",
        "the content is a web page, not a picture",
    ),
    "i.tif": (tiff_file(picture()), "corrupt_image", "the picture is cut off"),
}


def endings(job: dict[str, Any], http: httpx.Client) -> dict[str, tuple[str, str]]:
    items = http.get(f"/v1/jobs/{job['job_id']}/items", params={"limit": 100}).json()["items"]
    return {item["source"]: (item["code"], item["detail"]) for item in items if item["status"] == "failed"}


def test_each_says_what_it_is_and_sound_ones_beside_it_are_indexed(http: httpx.Client) -> None:
    refused = {name: data for name, (data, _, _) in REFUSED.items()}
    named = [*SOUND.items(), *refused.items()]
    files = [("files", (name, data, "application/octet-stream")) for name, data in named]
    job = finished(http, http.post("/v1/jobs", files=files, data={"collection": "kinds"}))
    assert (job["counts"]["indexed"], job["counts"]["failed"]) == (len(SOUND), len(REFUSED))
    said = endings(job, http)
    for name, (_, code, words) in REFUSED.items():
        assert said[name][0] == code, said[name]
        assert words in said[name][1]


def test_raw_files_of_an_archive_are_left_out_and_counted(http: httpx.Client) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in SOUND.items():
            archive.writestr(name, data)
        for name in ("1.NEF", "2.nef", "3.dng"):
            archive.writestr(name, raw_file("NIKON"))
    files = [("files", ("a.zip", buffer.getvalue(), "application/zip"))]
    job = finished(http, http.post("/v1/jobs", files=files, data={"collection": "kinds-zip"}))
    assert (job["total"], job["counts"]["indexed"]) == (2, 2)
    assert [note["detail"] for note in job["notes"]] == ["No pictures: 2 .nef, 1 3.dng."]


def test_a_query_by_a_raw_file_says_that_it_is_one(http: httpx.Client) -> None:
    answer = http.post("/v1/search", files={"image": ("a.nef", raw_file("SONY")), "query": (None, "{}")})
    assert answer.status_code == 422
    assert "a camera raw file (Sony ARW) is not read" in answer.json()["detail"]
