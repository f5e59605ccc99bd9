"""Archives and the names of files, over HTTP on the real stack: small bodies in memory, large on disk."""

import gzip
import io
import os
import tarfile
import zipfile
from typing import Any

import httpx
import pytest

from tests.image_server import make_photo
from tests.sample_files import make_tar
from tests.stack import Stack, finished

SIZES = pytest.mark.parametrize("padding", [0, 2**21], ids=["small", "large"])
A, B = make_photo(1, 64, 48), make_photo(2, 64, 48)


@pytest.fixture(scope="module")
def http(stack: Stack) -> Any:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def upload(http: httpx.Client, data: bytes, name: str = "upload") -> tuple[dict[str, Any], list[str]]:
    """Uploads one file, to the job's end; returns the job and its items' sources in order."""
    answer = http.post("/v1/jobs", files={"files": (name, data)}, data={"collection": "uploads"})
    assert answer.status_code == 202, answer.text
    job = finished(http, answer)
    items = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return job, [item["source"] for item in items]


def refused(http: httpx.Client, data: bytes) -> str:
    answer = http.post("/v1/jobs", files={"files": ("upload", data)}, data={"collection": "uploads"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/files"
    detail: str = answer.json()["detail"]
    return detail


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            archive.writestr(info, data)
    return buffer.getvalue()


def companion(padding: int) -> dict[str, bytes]:
    return {"film.mov": os.urandom(padding)} if padding else {}


@SIZES
@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tar-gz"])
def test_tars_in_a_row_are_one_archive(http: httpx.Client, padding: int, packed: bool) -> None:
    tars = [make_tar({"a.jpg": A}), make_tar({**companion(padding), "b.jpg": B})]
    job, sources = upload(http, b"".join(gzip.compress(tar) if packed else tar for tar in tars))
    assert (job["status"], sources) == ("succeeded", ["a.jpg", "b.jpg"])


@SIZES
def test_a_tar_cut_over_several_gzip_members_is_one(http: httpx.Client, padding: int) -> None:
    whole = make_tar({"a.jpg": A, **companion(padding), "b.jpg": B})
    pieces = [whole[:700], whole[700 : len(whole) // 2], whole[len(whole) // 2 :]]
    assert upload(http, b"".join(map(gzip.compress, pieces)))[1] == ["a.jpg", "b.jpg"]


@SIZES
def test_an_archives_end_may_be_any_and_what_is_odd_is_told(http: httpx.Client, padding: int) -> None:
    with io.BytesIO() as buffer, tarfile.TarFile(fileobj=buffer, mode="w") as archive:
        for name, data in ((("film.mov", bytes(padding)),) if padding else ()) + (("a.jpg", A),):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        without_end = buffer.getvalue()
    for data, codes in (
        (without_end, ["archive_end"]),
        (without_end + bytes(512), []),
        (without_end + bytes(512) + b"junk", ["archive_end"]),
    ):
        job, sources = upload(http, data)
        assert (job["status"], sources) == ("succeeded", ["a.jpg"])
        assert [note["code"] for note in job["notes"] if note["code"] != "files_skipped"] == codes
    assert "breaks off" in refused(http, without_end[:-1100])


@SIZES
def test_companions_are_left_out_and_counted_by_suffix(http: httpx.Client, padding: int) -> None:
    entries = {
        "IMG.jpg": A,
        "IMG.jpg.json": b"{}",
        "IMG.MOV": bytes(padding),
        "d/Thumbs.db": b"\xd0\xcf\x11\xe0",
    }
    inner = zipped(("c.jpg", B))
    entries |= {"b.jpg.json": b"{}", "inner.zip": inner, "photo.jpg?w=100": B}
    for data in (zipped(*entries.items()), make_tar(entries)):
        job, sources = upload(http, data)
        assert (job["status"], sources) == ("succeeded", ["IMG.jpg", "photo.jpg?w=100"])
        detail = "No pictures: 2 .json, 1 IMG.MOV, 1 Thumbs.db, 1 inner.zip."
        assert job["notes"] == [{"code": "files_skipped", "detail": detail, "count": 5}]


@SIZES
def test_folders_are_no_items_however_they_are_spelled(http: httpx.Client, padding: int) -> None:
    entries = [("photos\\", b""), ("photos\\a.jpg", A), ("photos\\sub\\", b""), ("photos\\sub\\b.jpg", B)]
    entries += list(companion(padding).items())
    job, sources = upload(http, zipped(*entries))
    assert (job["status"], sources) == ("succeeded", ["photos/a.jpg", "photos/sub/b.jpg"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_unpacks_itself_is_read_and_entries_of_one_name_are_told_apart(http: httpx.Client) -> None:
    data = b"#!/bin/sh\n" + zipped(("a.jpg", A), ("a.jpg", B))
    assert upload(http, data)[1] == ["a.jpg", "a (2).jpg"]


def test_names_are_read_from_what_they_are_written_in(http: httpx.Client) -> None:
    names = ["写真/東京タワー.jpg", "写真/家族旅行.jpg"]
    raw = zipped(("1" * 19 + ".jpg", A), ("2" * 18 + ".jpg", B))
    for number, name in enumerate(names, 1):
        odd = name.removesuffix(".jpg").encode("cp932")
        raw = raw.replace(str(number).encode() * (20 - number), odd.ljust(20 - number, b"_"))
    assert upload(http, raw)[1] == ["写真/東京タワー____.jpg", "写真/家族旅行_____.jpg"]


def test_an_archive_without_a_picture_says_what_it_has(http: httpx.Client) -> None:
    assert refused(http, zipped(("a.json", b"{}"))) == "The archive has no picture: it has 1 a.json."
    assert refused(http, zipped()) == "The archive has no picture: it is empty."


def test_another_kind_of_archive_says_which_are_read(http: httpx.Client) -> None:
    kinds = {
        b"7z\xbc\xaf\x27\x1c": "a 7z archive",
        b"Rar!\x1a\x07\0": "a RAR archive",
        b"BZh9": "a bzip2 file",
    }
    kinds |= {gzip.compress(A): "a gzip file", b"\xfd7zXZ\0": "an xz file"}
    for data, name in kinds.items():
        detail = refused(http, data + bytes(1000))
        assert detail.startswith(f"The file is {name}; zip, tar and tar.gz are")
    files = [("files", ("a.jpg", A)), ("files", ("b.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100)))]
    job = finished(http, http.post("/v1/jobs", files=files, data={"collection": "uploads"}))
    assert [(error["code"], error["detail"]) for error in job["errors"]] == [
        ("not_an_image", "the content is a 7z archive, not a picture")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2024-05-01 at 10.02.33\u202fAM.png", "می\u200cروم.jpg", "👩\u200d👩\u200d👧.jpg",
        "a\u00a0b.jpg", "日本\u3000語.jpg", "a\u00adb.jpg", "\ue000\U0010fffd.jpg", 'a "quoted" name.jpg',
    ],
    ids=ascii,
)  # fmt: skip
def test_names_are_kept_as_given_and_found_by(http: httpx.Client, name: str) -> None:
    assert upload(http, A, name)[1] == [name]
    assert upload(http, zipped((name, A)))[1] == [name]
    query = {"collection": "uploads", "text": "x", "filters": {"source": name}}
    assert len(http.post("/v1/search", json=query).json()["results"]) == 1
