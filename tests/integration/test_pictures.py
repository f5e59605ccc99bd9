"""What ingestion finds out about a picture, and what becomes of near-duplicates: the real stack over HTTP.

The checkpoint is a tiny random one, so what the tags say means nothing; that they come from the vocabulary,
lie in the index and can be filtered on does. Every nsfw score is above this stack's NSFW_MAX of 0.
"""

import io
import json
import os
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image

from tests.image_server import ImageServer, make_photo
from tests.integration.conftest import VOCABULARY
from tests.stack import ROOT, Stack, eventually, finished

ALL = {"nsfw": {"gte": 0}}  # a condition on nsfw asks for what NSFW_MAX leaves out


@pytest.fixture(scope="module")
def stack(poisoned_stack: Stack) -> Stack:
    return poisoned_stack


def upload(http: httpx.Client, files: dict[str, bytes], collection: str, **fields: str) -> dict[str, Any]:
    parts = [("files", (name, data, "application/octet-stream")) for name, data in files.items()]
    return finished(http, http.post("/v1/jobs", files=parts, data={"collection": collection, **fields}))


def items(http: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return rows


def found(http: httpx.Client, collection: str, **query: Any) -> list[dict[str, Any]]:
    answer = http.post("/v1/search", json={"text": "x", "collection": collection, **query})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def flat(name: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, name).save(file, "JPEG", **options)
    return file.getvalue()


def snapshot() -> bytes:
    """Red, stored on its side, of a summer evening in Zurich."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.DateTimeOriginal: "2026:07:01 20:04:05", ExifTags.Base.OffsetTimeOriginal: "+02:00"}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (47.0, 22.0, 12.0),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: (8.0, 32.0, 24.0),
        }
    )
    return flat("red", exif=exif)


def dated(time: str, offset: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.DateTimeOriginal: time, ExifTags.Base.OffsetTimeOriginal: offset}
    )
    return flat("red", exif=exif)


def variant(data: bytes, width: int, quality: int) -> bytes:
    image = Image.open(io.BytesIO(data))
    file = io.BytesIO()
    image.resize((width, width * image.height // image.width)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def test_what_the_file_and_the_model_say_is_shown_and_filtered_on(http: httpx.Client) -> None:
    job = upload(http, {"summer.jpg": snapshot(), "sea.jpg": flat("blue", (80, 40))}, "fields")
    assert job["status"] == "succeeded"
    summer, sea = (
        http.get(f"/v1/images/{item['image_id']}", params={"collection": "fields"}).json()
        for item in items(http, job)
    )
    assert (summer["format"], summer["width"], summer["height"]) == ("jpeg", 48, 64)
    assert summer["taken_at"] == "2026-07-01T18:04:05.000Z"
    assert (summer["lat"], summer["lon"]) == (pytest.approx(47.37), pytest.approx(8.54))
    assert (summer["colors"], sea["colors"]) == (["red"], ["blue"])
    assert len(summer["phash"]) == 16
    for image in (summer, sea):
        assert len(image["tags"]) == 5
        assert set(image["tags"]) < set(VOCABULARY)
        assert 0 < image["nsfw"] < 1

    def sources(**filters: Any) -> set[str]:
        return {hit["source"] for hit in found(http, "fields", filters={**ALL, **filters})}

    assert sources(colors={"in": ["red"]}) == {"summer.jpg"}
    assert sources(colors={"nin": ["red", "green"]}) == {"sea.jpg"}
    assert sources(taken_at={"gte": "2026-07-01", "lt": "2026-07-02"}) == {"summer.jpg"}
    assert sources(near={"lat": 47.4, "lon": 8.5, "radius_km": 10}) == {"summer.jpg"}
    assert sources(tags={"in": summer["tags"]}) == {"summer.jpg", "sea.jpg"}
    left_out = (set(VOCABULARY) - set(summer["tags"])).pop()
    assert "summer.jpg" not in sources(tags=left_out)
    assert sources(nsfw={"gt": 1}) == set()
    (hit,) = found(http, "fields", filters={**ALL, "colors": "red"}, include=["tags"])
    assert hit["tags"] == summer["tags"]


def test_a_time_that_no_answer_can_say_costs_only_itself(http: httpx.Client) -> None:
    files = {"first.jpg": dated("0001:01:01 00:00:00", "+01:00"), "sea.jpg": flat("blue")}
    job = upload(http, files | {"last.jpg": dated("9999:12:31 23:59:59", "-05:00")}, "times")
    assert job["status"] == "succeeded"
    listed = http.get("/v1/images", params={"collection": "times", "filters": json.dumps(ALL)})
    assert listed.status_code == 200
    assert [image["taken_at"] for image in listed.json()["images"]] == [None] * 3
    assert len(found(http, "times", filters=ALL, facets=["taken_at"])) == 3


def test_what_is_over_nsfw_max_is_left_out_unless_asked_for(http: httpx.Client) -> None:
    job = upload(http, {"a.jpg": flat("green"), "b.jpg": flat("yellow")}, "nsfw")
    assert found(http, "nsfw") == []
    assert len(found(http, "nsfw", filters={"nsfw": {"lte": 1}})) == 2
    first = items(http, job)[0]["image_id"]
    similar = http.get(f"/v1/images/{first}/similar", params={"collection": "nsfw"}).json()
    assert similar["results"] == []
    assert http.get(f"/v1/images/{first}", params={"collection": "nsfw"}).status_code == 200


def test_near_duplicates_are_groups_with_the_largest_to_keep(http: httpx.Client, stack: Stack) -> None:
    photos = {n: make_photo(n, 640, 480) for n in (1, 2, 3)}
    files = {f"{n}.jpg": data for n, data in photos.items()}
    files |= {"1-small.jpg": variant(photos[1], 320, 60), "1-tiny.jpg": variant(photos[1], 200, 80)}
    files["2-recompressed.jpg"] = variant(photos[2], 640, 40)
    assert upload(http, files, "twins")["counts"]["indexed"] == 6
    answer = http.get("/v1/duplicates", params={"collection": "twins", "threshold": 0.9}).json()
    groups = sorted([one["source"] for one in group["images"]] for group in answer["groups"])
    assert [group[0] for group in groups] == ["1.jpg", "2.jpg"]
    assert [set(group) for group in groups] == [
        {"1.jpg", "1-small.jpg", "1-tiny.jpg"}, {"2.jpg", "2-recompressed.jpg"},
    ]  # fmt: skip
    assert (answer["total"], answer["compared"], answer["not_compared"]) == (2, 6, 0)
    for group in answer["groups"]:
        assert group["keeper"] == group["images"][0]["id"]
        assert all(one["score"] >= 0.9 and one["distance"] <= 8 for one in group["images"])
    assert http.get("/v1/duplicates", params={"collection": "twins", "threshold": 2}).status_code == 422

    command = [sys.executable, "-m", "deploy.cli", "duplicates", "-c", "twins", "--threshold", "0.9", "--url"]
    shown = subprocess.run(
        [*command, stack.url],
        cwd=ROOT,
        env=stack.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert shown.stdout.count("keep") == 2
    assert "1-tiny.jpg" in shown.stdout


def test_every_form_of_job_skips_near_duplicates_when_asked(
    http: httpx.Client, pictures: ImageServer, stack: Stack
) -> None:
    large, small, other = (
        pictures.url(f"/photo/{n}.jpg?w={w}&h={h}")
        for n, w, h in ((50, 640, 480), (50, 320, 240), (51, 320, 240))
    )
    kept = finished(http, http.post("/v1/jobs", json={"urls": [large], "collection": "skip"}))
    (first,) = items(http, kept)
    skip = {"on_near_duplicate": "skip"}
    lines = {"collection": "skip", **skip}
    ndjson = json.dumps({"url": small, "metadata": {"n": 1}}) + "\n"
    answers = [
        http.post("/v1/jobs", json={"urls": [small, other], "collection": "skip", **skip}),
        http.post("/v1/jobs", params=lines, content=ndjson, headers={"Content-Type": "application/x-ndjson"}),
        http.post("/v1/jobs", params=lines, content=small, headers={"Content-Type": "text/plain"}),
        http.post("/v1/jobs", files={"files": ("s.jpg", httpx.get(small).content)}, data=lines),
    ]
    jobs = [finished(http, answer) for answer in answers]
    assert [job["counts"]["duplicate"] for job in jobs] == [1, 1, 1, 1]
    assert [job["status"] for job in jobs] == ["succeeded"] * 4
    for job in jobs:
        item = items(http, job)[0]
        assert (item["status"], item["image_id"]) == ("duplicate", first["image_id"])
    assert items(http, jobs[0])[1]["status"] == "indexed"
    assert http.get("/v1/collections/skip").json()["count"] == 2
    image = http.get(f"/v1/images/{first['image_id']}", params={"collection": "skip"}).json()
    assert (image["sources"], image["metadata"]) == ([large], {})

    again = finished(http, http.post("/v1/jobs", json={"urls": [small], "collection": "skip"}))
    assert again["counts"]["indexed"] == 1, "without the option it is kept"
    refused = http.post("/v1/jobs", json={"urls": [small], "on_near_duplicate": "merge"})
    assert refused.json()["errors"][0]["pointer"] == "/on_near_duplicate"


def test_of_near_duplicates_that_come_together_one_is_kept(http: httpx.Client) -> None:
    photo = make_photo(77, 640, 480)
    files = {f"{n}.jpg": variant(photo, 200 + 16 * n, 70) for n in range(12)}
    job = upload(http, files, "together", on_near_duplicate="skip")
    assert (job["counts"]["indexed"], job["counts"]["duplicate"]) == (1, 11)
    assert len({item["image_id"] for item in items(http, job)}) == 1
    assert http.get("/v1/collections/together").json()["count"] == 1


@pytest.mark.parametrize("role", ["encode", "index"])
def test_a_killed_worker_neither_keeps_two_nor_loses_the_one(
    http: httpx.Client, stack: Stack, role: str
) -> None:
    photo = make_photo(88, 640, 480)
    parts = [("files", (f"{n}.jpg", variant(photo, 200 + 8 * n, 70), "image/jpeg")) for n in range(40)]
    form = {"collection": f"killed-{role}", "on_near_duplicate": "skip"}
    answer = http.post("/v1/jobs", files=parts, data=form)
    eventually(lambda: http.get(f"/v1/jobs/{answer.json()['job_id']}").json()["started_at"])
    for pid in stack.processes(role):
        os.kill(pid, signal.SIGKILL)
    job = finished(http, answer, 240)
    assert (job["counts"]["indexed"], job["counts"]["duplicate"]) == (1, 39)
    assert http.get(f"/v1/collections/killed-{role}").json()["count"] == 1


def test_the_openapi_page_describes_it_with_examples(http: httpx.Client) -> None:
    page = http.get("/openapi.json").json()
    names = {one["name"] for one in page["paths"]["/v1/duplicates"]["get"]["parameters"]}
    assert names == {"collection", "threshold", "max_distance", "limit", "cursor", "X-Request-ID"}
    schemas = page["components"]["schemas"]
    for name in ("DuplicatePage", "Image", "JobRequest"):
        assert schemas[name]["examples"]
    assert {"tags", "nsfw", "colors", "phash"} <= schemas["Image"]["properties"].keys()
