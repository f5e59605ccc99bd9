"""A catalogue that stays in step: what changes in a feed, a folder or a bucket changes here, and no more."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import s3fs
from PIL import Image

from tests.image_server import ImageServer
from tests.integration.test_pipeline import finished
from tests.object_store import BUCKET, SECRET, ObjectStore
from tests.stack import Stack

COUNT = 60


class Feed:
    """A CSV feed of pictures with keys and titles, which a test changes row by row."""

    def __init__(self, pictures: ImageServer, path: str, first: int = 0) -> None:
        self._pictures, self._path = pictures, path
        self.rows = {f"sku-{n}": [n + first, f"Boot {n}"] for n in range(COUNT)}
        self.publish()

    @property
    def url(self) -> str:
        return self._pictures.url(self._path)

    def publish(self) -> None:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["key", "url", "title"])
        for key, (number, title) in self.rows.items():
            table.writerow([key, self._pictures.url(f"/kept/{number}.png"), title])
        self._pictures.texts[self._path] = text.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, folder: Path, store: ObjectStore) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"), CHUNK_SIZE="16", SOURCE_FOLDERS=str(folder))
    made.configure_process(**store.env)
    with made as running:
        yield running


@pytest.fixture
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def define(http: httpx.Client, name: str, location: str, **options: Any) -> dict[str, Any]:
    answer = http.put(f"/v1/sources/{name}", json={"from": location, "collection": name, **options})
    assert answer.status_code == 201, answer.text
    source: dict[str, Any] = answer.json()
    return source


def sync(http: httpx.Client, name: str, **options: Any) -> dict[str, Any]:
    answer = http.post(f"/v1/sources/{name}/sync", json=options)
    assert answer.status_code == 202, answer.text
    return finished(http, answer.json()["job_id"])


def counts(job: dict[str, Any]) -> dict[str, int]:
    assert sum(job["counts"].values()) == job["total"]
    return {state: count for state, count in job["counts"].items() if count}


def images(http: httpx.Client, name: str) -> int:
    answer = http.get(f"/v1/collections/{name}")
    return int(answer.json()["count"]) if answer.status_code == 200 else 0


def image_of(http: httpx.Client, name: str, key: str) -> dict[str, Any] | None:
    found = http.get("/v1/images", params={"collection": name, "key": key}).json()["images"]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_night_of_a_feed(http: httpx.Client, pictures: ImageServer) -> None:
    feed = Feed(pictures, "/feed.csv")
    define(http, "shop", feed.url, delete_missing=True)
    assert counts(sync(http, "shop")) == {"indexed": COUNT}

    pictures.statuses.clear()
    assert counts(sync(http, "shop")) == {"unchanged": COUNT}
    assert pictures.statuses == {304: COUNT}

    for n in range(5):
        pictures.versions[n] = 1  # changed
    gone = [feed.rows.pop(f"sku-{n}") for n in range(10, 20)]
    assert len(gone) == 10
    feed.rows |= {f"new-{n}": [1_000 + n, "New"] for n in range(3)}
    feed.rows["sku-30"][0] = 2_000  # moved to another URL
    feed.rows["sku-31"][1] = "Sandal"
    pictures.versions[32] = -1  # 404 from now on
    before = {key: image_of(http, "shop", key) for key in ("sku-0", "sku-10", "sku-30", "sku-31", "sku-32")}
    feed.publish()

    dry = sync(http, "shop", dry_run=True)
    assert dry["total"] == 0
    expected = {"added": 3, "changed": 2, "unchanged": COUNT - 12, "removed": 10, "withheld": 0}
    assert dry["result"]["counts"] == expected
    assert {one["key"] for one in dry["result"]["removed"]} == {f"sku-{n}" for n in range(10, 20)}
    assert images(http, "shop") == COUNT

    night = sync(http, "shop")
    assert counts(night) == {
        "indexed": 3 + 5 + 1, "updated": 1, "failed": 1, "removed": 10, "unchanged": COUNT - 10 - 5 - 3,
    }  # fmt: skip
    assert night["status"] == "partial"
    assert images(http, "shop") == COUNT - 10 + 3
    now = {key: image_of(http, "shop", key) for key in before}
    assert now["sku-10"] is None
    assert now["sku-32"] == before["sku-32"]
    for key in ("sku-0", "sku-30"):
        assert now[key] and before[key] and now[key]["id"] != before[key]["id"]
        lost = http.get(f"/v1/images/{before[key]['id']}", params={"collection": "shop"})
        assert lost.status_code == 404
    assert now["sku-31"] and before["sku-31"] and now["sku-31"]["id"] == before["sku-31"]["id"]
    assert now["sku-31"]["metadata"] == {"title": "Sandal"}


def test_an_empty_feed_and_half_a_feed_remove_nothing(http: httpx.Client, pictures: ImageServer) -> None:
    feed = Feed(pictures, "/halved.csv", first=3_000)
    define(http, "halved", feed.url, delete_missing=True)
    assert counts(sync(http, "halved")) == {"indexed": COUNT}
    whole = dict(feed.rows)

    feed.rows = {}
    feed.publish()
    empty = sync(http, "halved")
    assert (empty["status"], empty["total"]) == ("partial", 0)
    (note,) = [note for note in empty["notes"] if note["code"] == "too_many_deletions"]
    assert note["count"] == COUNT
    assert images(http, "halved") == COUNT

    feed.rows = dict(list(whole.items())[: COUNT // 2])
    feed.publish()
    half = sync(http, "halved")
    assert counts(half) == {"unchanged": COUNT // 2}
    assert half["status"] == "partial"
    assert images(http, "halved") == COUNT

    meant = sync(http, "halved", max_delete_share=0.5)
    assert counts(meant) == {"unchanged": COUNT // 2, "removed": COUNT // 2}
    assert meant["status"] == "succeeded"
    assert images(http, "halved") == COUNT // 2

    feed.rows = whole
    feed.publish()
    assert counts(sync(http, "halved")) == {"unchanged": COUNT // 2, "indexed": COUNT // 2}


def test_a_feed_that_breaks_off_or_is_none_ends_the_job_before_anything_goes(
    http: httpx.Client, pictures: ImageServer
) -> None:
    feed = Feed(pictures, "/broken.csv", first=6_000)
    define(http, "broken", feed.url, delete_missing=True, max_delete_share=1)
    sync(http, "broken")
    pictures.texts["/broken.csv"] = "<!doctype html><html><body>Sorry</body></html>"
    job = sync(http, "broken")
    assert (job["status"], job["total"]) == ("failed", 0)
    assert "web page" in job["result"]["detail"].lower() or "html" in job["result"]["detail"].lower()
    assert images(http, "broken") == COUNT
    source = http.get("/v1/sources/broken").json()
    assert [run["status"] for run in source["runs"]] == ["failed", "succeeded"]


def test_two_sources_with_the_same_picture_and_a_picture_that_comes_back(
    http: httpx.Client, pictures: ImageServer
) -> None:
    first, second = Feed(pictures, "/one.csv", first=9_000), Feed(pictures, "/two.csv", first=9_000)
    second.rows = {f"other-{key}": row for key, row in second.rows.items()}
    second.publish()
    for name, feed in (("one", first), ("two", second)):
        answer = http.put(
            f"/v1/sources/{name}",
            json={"from": feed.url, "collection": "both", "delete_missing": True, "max_delete_share": 1},
        )
        assert answer.status_code == 201, answer.text
    assert counts(sync(http, "one")) == {"indexed": COUNT}
    assert counts(sync(http, "two")) == {"duplicate": COUNT}

    rows = dict(first.rows)
    first.rows = {}
    first.publish()
    assert counts(sync(http, "one")) == {"removed": COUNT}
    assert images(http, "both") == COUNT, "the other source still has them"
    second.rows = {}
    second.publish()
    assert counts(sync(http, "two")) == {"removed": COUNT}
    assert images(http, "both") == 0
    first.rows = rows
    first.publish()
    assert counts(sync(http, "one")) == {"indexed": COUNT}
    assert images(http, "both") == COUNT

    answer = http.delete("/v1/sources/one", params={"images": "delete"})
    assert answer.status_code == 202, answer.text
    assert counts(finished(http, answer.json()["job_id"])) == {"removed": COUNT}
    assert http.get("/v1/sources/one").status_code == 404
    assert images(http, "both") == 0


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def picture(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(colour))


def test_the_night_of_a_folder(http: httpx.Client, folder: Path, tmp_path: Path) -> None:
    here = folder / tmp_path.name
    for n in range(40):
        picture(here / f"{n % 3}" / f"{n}.png", (n, 5, 5))
    define(http, "prints", f"file://{here}", delete_missing=True)
    assert counts(sync(http, "prints")) == {"indexed": 40}
    assert counts(sync(http, "prints")) == {"unchanged": 40}

    picture(here / "0" / "0.png", (0, 200, 5))
    (here / "1" / "1.png").unlink()
    picture(here / "new.png", (7, 7, 200))
    (here / "notes.txt").write_text("no picture")
    night = sync(http, "prints")
    assert counts(night) == {"unchanged": 38, "indexed": 2, "removed": 1}
    assert images(http, "prints") == 40, "the old picture of the changed file is gone, too"

    shutil.move(here, folder / "elsewhere")
    missing = sync(http, "prints")
    assert missing["status"] == "failed"
    here.mkdir()  # the mount point without its disk
    unmounted = sync(http, "prints")
    assert (unmounted["status"], counts(unmounted)) == ("partial", {})
    assert images(http, "prints") == 40
    here.rmdir()
    shutil.move(folder / "elsewhere", here)
    assert counts(sync(http, "prints")) == {"unchanged": 40}

    some = http.get("/v1/images", params={"collection": "prints", "limit": 5}).json()["images"]
    for image in some:
        assert http.delete(f"/v1/images/{image['id']}", params={"collection": "prints"}).status_code == 204
    assert counts(sync(http, "prints")) == {"unchanged": 35, "indexed": 5}, "what is listed comes back"


def test_the_night_of_a_bucket(
    store: ObjectStore, stack: Stack, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3fs.S3FileSystem(endpoint_url=store.env["AWS_ENDPOINT_URL"], use_listings_cache=False)
    prefix = f"{BUCKET}/{tmp_path.name}"
    for n in range(40):
        bucket.pipe_file(f"{prefix}/{n % 3}/{n}.png", png((n, 5, 5)))
    bucket.pipe_file(f"{prefix}/notes.txt", b"no picture")
    define(http, "photos", f"s3://{prefix}", delete_missing=True)
    assert counts(sync(http, "photos")) == {"indexed": 40}

    with store.counted() as asked:
        assert counts(sync(http, "photos")) == {"unchanged": 40}
    assert asked == {"LIST": 1}, "no object is opened"

    bucket.pipe_file(f"{prefix}/0/0.png", png((0, 200, 5)))
    bucket.rm_file(f"{prefix}/1/1.png")
    bucket.pipe_file(f"{prefix}/new.png", png((7, 7, 200)))
    with store.counted() as asked:
        assert counts(sync(http, "photos")) == {"unchanged": 38, "indexed": 2, "removed": 1}
    assert asked == {"LIST": 1, "GET": 2}
    assert images(http, "photos") == 40

    with store.away():
        unreachable = sync(http, "photos")
    assert (unreachable["status"], unreachable["total"]) == ("failed", 0)
    assert images(http, "photos") == 40
    assert SECRET not in stack.logs() + http.get("/v1/sources/photos").text
