"""The fetch stage, and what becomes of pictures that kill the process that reads them."""

import hashlib
import io
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from shared.download.downloader import Downloader
from shared.errors import BlobsUnavailable, HostBusy, ItemError
from shared.imaging.decode import DecodedImage
from shared.imaging.isolation import run_isolated
from shared.imaging.preprocess import Preprocess
from shared.models import Item, ItemState, JobStatus, Stage
from shared.storage.arrays import unpack
from shared.storage.blobs import file_key
from shared.storage.manifest import read_results
from shared.storage.vector_log import Addition
from tests.raw_server import raw_server
from tests.unit.counted import Counted
from tests.unit.crashing import crashing_decode, hang, identity
from tests.unit.stages import StubModel, StubServices, make_services, unavailable
from worker.recovery.lease import MAX_DELIVERIES, SUSPICIOUS_DELIVERIES, exhausted
from worker.stages import fetch
from worker.stages.fetch import run
from worker.stages.known import KnownImages
from worker.stages.transition import fail_chunk

PENDING, FETCHED, FAILED = ItemState.PENDING, ItemState.FETCHED, ItemState.FAILED
PREPROCESS = Preprocess((4, 4), None, PillowImage.Resampling.BICUBIC, (0.0,) * 3, (1.0,) * 3, 1.0)


def png(shade: int) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGB", (8, 6), (shade, 0, 0)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    services = make_services(tmp_path, fetch_concurrency=2, keep="rendition")
    services.downloader.pages = {f"http://x/{number}": png(number) for number in range(4)}
    return services


def redelivered(services: StubServices, deliveries: int) -> Any:
    """A claim of the next chunk that so many workers have had."""
    claim = services.claim()
    for _ in range(deliveries - 1):
        services.ledger.release([claim], -1.0, count_delivery=True)
        services.ledger.sweep()
        again = services.ledger.claim(claim.chunk, Stage.FETCH)
        assert again is not None
        claim = again
    return claim


def test_fetched_pictures_go_to_encode_in_one_blob(services: StubServices) -> None:
    job_id = services.job(3)
    claim = services.claim()
    run(services.real, StubModel(PREPROCESS), claim)
    assert services.states(job_id) == [FETCHED] * 3
    assert services.dispatcher.sent == [(Stage.ENCODE, claim.chunk)]
    (key,) = services.blobs.list("scratch/")
    _, records, pixels = unpack(services.blobs.get(key))
    assert pixels.shape == (3, 4, 4, 3)
    assert pixels.dtype == np.uint8
    additions = [Addition.from_record(record) for record in records]
    assert [a.owner for a in additions] == [f"{job_id}:{i}" for i in range(3)]
    assert [a.version for a in additions] == [claim.version + i for i in range(3)]
    assert [a.image.id for a in additions] == [hashlib.sha256(png(i)).hexdigest() for i in range(3)]
    assert services.blobs.exists(file_key("images", additions[0].image.id, "thumbnail"))
    assert not services.blobs.exists(file_key("images", additions[0].image.id, "original"))


def test_what_the_pixels_and_the_request_say_goes_along(services: StubServices) -> None:
    services.downloader.pages = {"http://x/0": png(255), "http://x/1": png(0)}
    items = [Item(source=f"http://x/{i}", url=f"http://x/{i}", skip_near=i == 1) for i in range(2)]
    services.job(items)
    run(services.real, StubModel(PREPROCESS), services.claim())
    (key,) = services.blobs.list("scratch/")
    additions = [Addition.from_record(record) for record in unpack(services.blobs.get(key))[1]]
    assert [a.skip_near for a in additions] == [False, True]
    assert [a.image.colors for a in additions] == [["red"], ["black"]]
    assert [a.image.phash for a in additions] == ["8000000000000000", "0000000000000000"]


def test_a_picture_has_its_item_s_key_and_a_version_that_a_retry_does_not_change(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_retry_delay", lambda *_: 0.0)
    services.downloader.pages |= {"http://x/0": png(0), "http://x/1": unavailable()}
    items = [Item(source=f"s{n}", url=f"http://x/{n}", key=f"sku-{n}") for n in range(2)]
    services.job(items)
    first = services.claim()
    run(services.real, StubModel(PREPROCESS), first)
    services.downloader.pages["http://x/1"] = png(1)
    ((stage, chunk),) = [due for due in services.ledger.sweep() if due[0] is Stage.FETCH]
    again = services.ledger.claim(chunk, stage)
    assert again is not None
    run(services.real, StubModel(PREPROCESS), again)
    found = [
        Addition.from_record(record)
        for key in services.blobs.list("scratch/")
        for record in unpack(services.blobs.get(key))[1]
    ]
    assert sorted((a.index, a.image.keys, a.version) for a in found) == [
        (0, ["sku-0"], first.version),
        (1, ["sku-1"], first.version + 1),
    ]


def test_each_bad_item_fails_alone_with_its_code(services: StubServices) -> None:
    services.downloader.pages |= {
        "http://x/0": ItemError("http_status", "404 Not Found", http_status=404),
        "http://x/1": b"plain words",
        "http://x/3": ZeroDivisionError(),
    }
    job_id = services.job(4)
    run(services.real, StubModel(PREPROCESS), services.claim())
    assert services.states(job_id) == [FAILED, FAILED, FETCHED, FAILED]
    codes = [error.code for error in services.ledger.get(job_id).errors]
    assert codes == ["http_status", "not_an_image", "internal"]


def test_a_picture_that_failed_keeps_neither_its_file_nor_its_pixels(services: StubServices) -> None:
    """64 of them in a chunk would be gigabytes."""

    class Pixels(bytearray):
        pass

    def read(data: bytes) -> DecodedImage:
        pixels = Pixels(data)
        kept.append(weakref.ref(pixels))
        raise ItemError("corrupt_image", "cut off") from ValueError(pixels)

    kept: list[weakref.ref[Pixels]] = []
    services.downloader.pages["http://x/0"] = png(0)
    item = Item(source="x", url="http://x/0")
    known = KnownImages(services.real, "images", StubModel(PREPROCESS))
    found = fetch.fetch_item(services.real, read, services.downloader.download, known, item)
    assert isinstance(found, ItemError)
    assert found.detail == "cut off"
    assert kept[0]() is None


def test_a_chunk_that_is_no_longer_held_is_not_downloaded_to_its_end(services: StubServices) -> None:
    lost = threading.Event()

    def trickle(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        while True:
            if len(server.heads) == 2:
                lost.set()
            yield b"x"
            time.sleep(0.1)

    services.downloader = Downloader(timeout_s=5, whole_s=50, max_bytes=1000, allow_hosts=["127.0.0.1"])  # type: ignore[assignment]
    with raw_server(trickle) as server:
        job_id = services.job([Item(source=str(i), url=server.url(f"/{i}")) for i in range(4)])
        before = time.monotonic()
        run(services.real, StubModel(PREPROCESS), services.claim(), lost)
        assert time.monotonic() - before < 4
        assert len(server.heads) == 2, "those of two threads, and no more"
    assert services.states(job_id) == [PENDING] * 4
    assert not read_results(services.blobs, job_id, 4, 0, 4)


def test_items_that_the_request_refused_or_lost_keep_their_reason(services: StubServices) -> None:
    items = [
        Item(source="a", error="invalid_url: no host"),
        Item(source="b", upload="jobs/none/uploads/000000000"),
    ]
    job_id = services.job(items)
    run(services.real, StubModel(PREPROCESS), services.claim())
    errors = services.ledger.get(job_id).errors
    assert [(error.code, error.detail.split(";")[0]) for error in errors] == [
        ("invalid_url", "no host"),
        ("internal", "The uploaded file has expired"),
    ]


def test_transient_failures_alone_are_fetched_again_and_fail_after_the_last_attempt(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_retry_delay", lambda *_: 0.0)
    services.downloader.pages["http://x/1"] = unavailable()
    job_id = services.job(2)
    run(services.real, StubModel(PREPROCESS), services.claim())
    assert services.states(job_id) == [FETCHED, PENDING]
    for attempt in range(1, fetch.MAX_ATTEMPTS):
        ((stage, chunk),) = [due for due in services.ledger.sweep() if due[0] is Stage.FETCH]
        assert chunk.attempt == attempt
        claim = services.ledger.claim(chunk, stage)
        assert claim is not None
        run(services.real, StubModel(PREPROCESS), claim)
    assert services.states(job_id) == [FETCHED, FAILED]
    assert read_results(services.blobs, job_id, 4, 0, 2)[1].attempts == fetch.MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("error", "attempts", "least", "most"),
    [
        (unavailable(), 1, 1.0, 1.5),
        (unavailable(), 3, 9.0, 13.5),
        (ItemError("http_status", "429", http_status=429, retry_after_s=60), 1, 60.0, 60.0),
    ],
)
def test_retries_back_off_and_honour_retry_after(
    error: ItemError, attempts: int, least: float, most: float
) -> None:
    assert fetch._worth_retrying(error, attempts)
    assert least <= fetch._retry_delay(error, attempts) <= most


def test_a_server_that_asks_for_an_hour_is_not_waited_for() -> None:
    error = ItemError("http_status", "503", http_status=503, retry_after_s=3600)
    assert not fetch._worth_retrying(error, 1)


def test_a_cancelled_job_leaves_no_scratch(services: StubServices) -> None:
    job_id = services.job(2)
    claim = services.claim()
    services.ledger.cancel(job_id)
    run(services.real, StubModel(PREPROCESS), claim)
    assert services.blobs.list("scratch/") == []
    assert services.dispatcher.sent == []


def test_a_lost_blob_store_is_not_the_pictures_fault(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise BlobsUnavailable("No space left on device.")

    job_id = services.job(2)
    claim = services.claim()
    monkeypatch.setattr(services.blobs, "put", full)
    with pytest.raises(BlobsUnavailable):
        run(services.real, StubModel(PREPROCESS), claim)
    assert services.states(job_id) == [PENDING, PENDING]


def test_pictures_that_kill_their_process_fail_alone_once_the_chunk_is_suspicious(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "decode", crashing_decode)
    services.downloader.pages |= {"http://x/1": b"exit", "http://x/2": b"segv", "http://x/3": b"corrupt"}
    job_id = services.job(4)
    run(services.real, StubModel(PREPROCESS), redelivered(services, SUSPICIOUS_DELIVERIES))
    assert services.states(job_id) == [FETCHED, FAILED, FAILED, FAILED]
    codes = [error.code for error in services.ledger.get(job_id).errors]
    assert codes == ["internal", "internal", "corrupt_image"]


def _daemon_child(answer: Any) -> None:
    try:
        answer.send(run_isolated(divmod, 7, 2, timeout_s=20))
    except Exception as error:
        answer.send(error)


def test_isolation_works_inside_a_daemonic_pool_process() -> None:
    """As a Celery prefork child is: multiprocessing refuses children there."""
    import billiard  # noqa: PLC0415 - what Celery forks with

    ours, theirs = billiard.Pipe(duplex=False)
    child = billiard.Process(target=_daemon_child, args=(theirs,), daemon=True)
    child.start()
    assert ours.poll(30)
    assert ours.recv() == (3, 1)
    child.join(10)


def test_isolation_gives_back_what_is_raised_and_ends_whathangs() -> None:
    with pytest.raises(ZeroDivisionError):
        run_isolated(divmod, 1, 0, timeout_s=20)
    error = ItemError("http_status", "503", http_status=503, retry_after_s=2.0)
    same = run_isolated(identity, error, timeout_s=20)
    assert (same.code, same.detail, same.http_status, same.retry_after_s) == ("http_status", "503", 503, 2.0)
    with pytest.raises(ItemError, match="alone and twice"):
        run_isolated(hang, timeout_s=1)


def test_a_chunk_that_is_given_up_fails_only_what_its_own_attempt_holds(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_retry_delay", lambda *_: 0.0)
    services.downloader.pages["http://x/1"] = unavailable()
    job_id = services.job(2)
    run(services.real, StubModel(PREPROCESS), services.claim())
    services.downloader.pages["http://x/1"] = png(1)
    ((_, again),) = [due for due in services.ledger.sweep() if due[0] is Stage.FETCH]
    claim = services.ledger.claim(again, Stage.FETCH)
    assert claim is not None
    run(services.real, StubModel(PREPROCESS), claim)
    first, second = services.ledger.claim_ready(Stage.ENCODE, 100)
    assert (first.chunk.attempt, second.chunk.attempt) == (0, 1)
    fail_chunk(services.real, first, exhausted(first))
    assert services.states(job_id) == [FAILED, FETCHED]
    assert str(MAX_DELIVERIES) in services.ledger.get(job_id).errors[0].detail
    fail_chunk(services.real, second, exhausted(second))
    assert services.ledger.get(job_id).status is JobStatus.FAILED


def test_a_job_says_what_it_waits_for_and_then_whether_a_retry_is_worth_it(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_retry_delay", lambda *_: 0.0)
    services.downloader.pages["http://x/1"] = ItemError("http_status", "503", http_status=503)
    services.downloader.pages["http://x/2"] = ItemError("http_status", "404", http_status=404)
    job_id = services.job(3)
    claim: Any = services.claim()
    for attempt in range(2, fetch.MAX_ATTEMPTS + 1):
        run(services, StubModel(PREPROCESS), claim)
        waits = services.ledger.get(job_id).retrying
        assert waits is not None
        assert (waits.items, waits.attempt, waits.attempts) == (1, attempt, fetch.MAX_ATTEMPTS)
        ((_, chunk),) = [one for one in services.ledger.sweep() if one[0] is Stage.FETCH]
        claim = services.ledger.claim(chunk, Stage.FETCH)
    run(services, StubModel(PREPROCESS), claim)
    job = services.ledger.get(job_id)
    assert job.retrying is None
    assert [(one.code, one.count, one.worth_retrying) for one in job.failures] == [("http_status", 2, 1)]


def test_downloads_decodes_and_retries_are_counted(services: StubServices) -> None:
    services.downloader.pages |= {
        "http://x/1": unavailable(),
        "http://x/2": b"plain words",
        "http://x/3": HostBusy("x", 5.0),
    }
    services.blobs.put("uploads/1", png(9))
    items = [Item(source=f"http://x/{i}", url=f"http://x/{i}") for i in range(4)]
    services.job([*items, Item(source="a.png", upload="uploads/1")], chunk_size=5)
    counted = Counted()
    run(services.real, StubModel(PREPROCESS), services.claim())
    assert counted("download_seconds_count") == 3, "a busy host was not asked"
    assert counted("download_bytes_total") == len(png(0)) + len(b"plain words")
    assert counted("decode_seconds_count") == 3
    assert counted("retries_total", code="http_status") == 1
    assert counted("chunks_total", stage="fetch") == 1


def test_of_a_claim_that_is_held_no_longer_its_loss_alone_is_counted(services: StubServices) -> None:
    services.job(1)
    lost = threading.Event()
    lost.set()
    counted = Counted()
    run(services.real, StubModel(PREPROCESS), services.claim(), lost)
    assert counted("leases_lost_total", stage="fetch") == 1
    assert counted("chunks_total", stage="fetch") == 0
