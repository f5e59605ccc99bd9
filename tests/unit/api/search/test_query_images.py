"""Pictures in requests: large ones in a process of their own, one after the other, and nobody else waits."""

import io
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.http import concurrency
from api.search import query_images
from shared.imaging.decode import open_query_image
from shared.imaging.memory import Budget, decoding
from shared.storage.blobs import file_key
from tests.unit.api.search.test_routes import crop_vector
from tests.unit.crashing import crashing_crop
from tests.unit.fakes import (
    Api,
    StubEncoder,
    Vector,
    assert_problem,
    axis,
    image_id,
    make_api,
    picture,
    wait_until,
)

URL = "https://example.com/a.png"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = make_api(tmp_path)
    api.add(1, axis(0))
    api.downloads[URL] = picture()
    return api


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is a large one."""
    monkeypatch.setattr(query_images, "SMALL_BYTES", 0)
    monkeypatch.setattr("shared.imaging.memory.SMALL_BYTES", 0)
    monkeypatch.setattr(query_images, "WAIT_SECONDS", 0.05)


def by_upload(api: Api, *files: bytes) -> TestResponse:
    parts = [(io.BytesIO(data), "a.png") for data in files or (picture(),)]
    return api.http.post("/v1/search", data={"image": parts})


def by_url(api: Api) -> TestResponse:
    return api.http.post("/v1/search", json={"image_url": URL})


def compared(api: Api) -> TestResponse:
    return api.http.post("/v1/compare", json={"a": {"image_url": URL}, "b": {"image_url": URL}})


def explained(api: Api) -> TestResponse:
    api.services.blobs.put(file_key("images", image_id(1), "original"), picture())
    return api.http.get("/v1/explain", query_string={"image_id": image_id(1), "text": "axis 0"})


ASKING = [by_upload, by_url, compared, explained]


@pytest.mark.usefixtures("large")
def test_a_large_picture_is_read_elsewhere_and_is_the_same(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_elsewhere(reader: Any, data: bytes, *arguments: Any, timeout_s: int) -> Any:
        seen.append(data)
        return real(reader, data, *arguments, timeout_s=timeout_s)

    real, seen = query_images.run_isolated, list[bytes]()
    monkeypatch.setattr(query_images, "run_isolated", run_elsewhere)
    vectors: list[Vector] = []
    expected, encode = list(crop_vector(picture())), StubEncoder.encode_images

    def encode_watched(self: StubEncoder, crops: Any) -> Any:
        vectors.append(encode(self, crops))
        return vectors[-1]

    monkeypatch.setattr(StubEncoder, "encode_images", encode_watched)
    monkeypatch.setattr(query_images, "WAIT_SECONDS", 30)
    assert by_upload(api).status_code == 200
    assert by_url(api).status_code == 200
    assert seen == [picture()] * 2
    assert [list(vector[0]) for vector in vectors] == [expected, expected]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("word", "code"), [(b"segv", "internal"), (b"corrupt", "corrupt_image")])
def test_a_large_picture_that_crashes_its_reader_fails_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch, word: bytes, code: str
) -> None:
    monkeypatch.setattr("api.search.query.open_query_image", crashing_crop)
    monkeypatch.setattr(query_images, "estimate", lambda *_: 1)
    monkeypatch.setattr(query_images, "WAIT_SECONDS", 30)
    assert_problem(by_upload(api, picture(), word), 422, code, "/image/1")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("ask", ASKING)
def test_a_large_picture_waits_for_others_so_long_and_nobody_waits_for_it(
    api: Api, ask: Callable[[Api], TestResponse]
) -> None:
    with decoding(2**40):
        response = ask(api)
        document = assert_problem(response, 503, "unavailable")
        assert "try again in some seconds" in document["detail"]
        assert int(response.headers["Retry-After"]) > 0
        assert api.http.post("/v1/search", json={"text": "axis 0"}).status_code == 200


@pytest.mark.parametrize("ask", ASKING)
def test_requests_with_pictures_leave_half_of_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Api], TestResponse]
) -> None:
    monkeypatch.setattr(concurrency, "THREADS", 4)
    api = make_api(tmp_path)
    api.add(1, axis(0))
    api.downloads[URL] = picture()
    begun, go_on = [], Event()

    def wait(*_: Any, **__: Any) -> bytes:
        begun.append(1)
        assert go_on.wait(30)
        return picture()

    monkeypatch.setattr(query_images, "_bytes_of", wait)
    with ThreadPoolExecutor() as threads:
        for _ in range(2):
            begun.clear()
            go_on.clear()
            two = [threads.submit(ask, api) for _ in range(2)]
            wait_until(lambda: len(begun) >= 2)
            document = assert_problem(ask(api), 503, "unavailable")
            assert "with pictures are open at once than" in document["detail"]
            assert api.http.post("/v1/search", json={"text": "axis 0"}).status_code == 200
            go_on.set()
            assert not [one for one in two if one.result().status_code == 503]


def test_files_that_requests_hold_are_bounded_and_one_alone_is_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Budget(1 << 20, 1_000)
    monkeypatch.setattr(query_images, "_files", files)
    monkeypatch.setattr(query_images, "WAIT_SECONDS", 0.05)
    long = picture() + bytes(3 << 20)
    with files.taking(1):
        assert "try again" in assert_problem(by_upload(api, long), 503, "unavailable")["detail"]
        assert by_upload(api).status_code == 200
    api.downloads[URL] = long
    assert by_upload(api, long, long).status_code == by_url(api).status_code == 200
    assert files._free == 1 << 20


def test_pictures_leave_a_core_and_their_files_stay_on_disk_meanwhile(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Lock()
    files, decoding_now = Counter[str](), Counter[str]()

    def watched(now: Counter[str], real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with lock:
                now["now"] += 1
                now["most"] = max(now["most"], now["now"])
            time.sleep(0.01)
            found = real(*arguments, **options)
            with lock:
                now["now"] -= 1
            return found

        return call

    monkeypatch.setattr(query_images, "_cores", Budget(1, 1))
    monkeypatch.setattr(query_images, "_read", watched(files, query_images._read))
    crop = watched(decoding_now, open_query_image)
    monkeypatch.setattr("api.search.query.open_query_image", crop)
    assert by_upload(api, *[picture((shade, 0, 0)) for shade in range(8)]).status_code == 200
    assert 1 < files["most"] <= query_images._AT_ONCE
    assert decoding_now["most"] == 1
