"""The sweeper: callbacks and what is cleared away."""

import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import ItemError
from shared.ledger.callbacks import Call, Lane
from shared.models import Chunk, ItemState, JobKind, JobStatus, Stage
from shared.storage.blobs import file_key, trash_key
from shared.storage.trash import discard, restore
from tests.redis_server import fake_ledger
from tests.unit.counted import Counted
from tests.unit.stages import StubServices, make_services
from worker.recovery import callbacks
from worker.recovery import sweep as sweeper
from worker.recovery.callbacks import CALLBACK_TRIES, CallbackSender
from worker.recovery.sweep import ORPHAN_AGE_SECONDS, clear_away, clear_orphans, empty_trash, sweep

CALLBACK = "https://example.com/done"


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path, callback_secret="shh")


def finish(services: StubServices, job_id: str, state: ItemState = ItemState.INDEXED) -> None:
    while services.ledger.get(job_id).finished_at is None:
        claim = services.claim()
        services.ledger.advance(claim, transitions=[(i, state) for i in services.ledger.pending(claim)])


def send_callbacks(services: StubServices) -> None:
    sender = CallbackSender(services.real, threading.Event())
    sender.start()
    sender.wait(10)


def next_try_in(services: StubServices, job_id: str) -> float | None:
    due = services.ledger._redis.client.zscore("is:callbacks:example.com", job_id)
    return None if due is None else due - time.time()


def now_due(services: StubServices, job_id: str) -> None:
    client = services.ledger._redis.client
    client.delete("is:receiver:example.com", *(f"is:receivers:{lane}" for lane in Lane))
    client.zadd("is:callbacks:example.com", {job_id: 0.0}, xx=True)
    client.zadd("is:receivers:new", {"example.com": 0.0})


def test_a_callback_carries_the_final_status_and_a_signature_that_verifies(services: StubServices) -> None:
    job_id = services.job(2, callback_url=CALLBACK)
    finish(services, job_id)
    send_callbacks(services)
    ((url, body, headers),) = services.downloader.posts
    assert url == CALLBACK
    assert json.loads(body)["job_id"] == job_id
    assert json.loads(body)["status"] == "succeeded"
    moment, _, signature = headers["X-Image-Search-Signature"].partition(",v1=")
    signed = f"{moment.removeprefix('t=')}.".encode() + body
    assert signature == hmac.new(b"shh", signed, hashlib.sha256).hexdigest()
    send_callbacks(services)
    assert len(services.downloader.posts) == 1
    assert next_try_in(services, job_id) is None


@pytest.mark.parametrize("answer", [500, 302, ItemError("timeout", "too slow"), UnicodeError("odd host")])
def test_a_callback_that_is_not_taken_is_tried_again_ever_later_and_then_dropped(
    services: StubServices, answer: object
) -> None:
    services.downloader.pages[CALLBACK] = answer
    job_id = services.job(1, callback_url=CALLBACK)
    finish(services, job_id)
    waits = []
    for _ in range(CALLBACK_TRIES):
        send_callbacks(services)
        waits.append(next_try_in(services, job_id))
        now_due(services, job_id)
    assert waits[-1] is None
    assert [wait for wait in waits if wait] == [pytest.approx(5.0 * 2**n, abs=3) for n in range(1, 8)]
    assert len(services.downloader.posts) == CALLBACK_TRIES


def test_a_job_retried_while_its_callback_was_due_sends_none_until_it_ends(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = services.job(1, callback_url=CALLBACK)
    finish(services, job_id, ItemState.FAILED)
    take = services.ledger.callbacks.take

    def retried_meanwhile(lane: Lane, hold_s: float) -> Call | None:
        found = take(lane, hold_s)
        if found:
            services.ledger.retry(found.job_id)
        return found

    monkeypatch.setattr(services.ledger.callbacks, "take", retried_meanwhile)
    send_callbacks(services)
    assert services.downloader.posts == []
    finish(services, job_id)
    monkeypatch.undo()
    send_callbacks(services)
    assert [json.loads(body)["status"] for _, body, _ in services.downloader.posts] == ["succeeded"]


def test_the_files_of_jobs_that_went_early_are_deleted_however_many(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    services.ledger = fake_ledger(most_jobs=1)
    jobs = []
    for _ in range(130):
        jobs.append(services.job(1))
        finish(services, jobs[-1])
    assert set(services.blobs.folders("jobs/")) == set(jobs)
    clear_away(services.real)
    assert services.blobs.folders("jobs/") == jobs[-1:]


def test_a_lost_message_is_sent_again(services: StubServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ledger.ledger.RESEND_SECONDS", -1.0)
    services.job(1)
    (chunk,) = services.ledger.dispatch()
    counted = Counted()
    sweep(services.real)
    assert services.dispatcher.sent == [(Stage.FETCH, chunk)]
    assert counted("messages_resent_total", stage="fetch") == 1


def test_a_body_whose_reader_is_gone_ends_truncated(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.ledger.ledger.READING_LEASE_SECONDS", -1.0)
    job_id = services.job(2, reading=True)
    clear_away(services.real)
    finish(services, job_id)
    job = services.ledger.get(job_id)
    assert job.truncated
    assert job.status is JobStatus.SUCCEEDED


def test_scratch_goes_when_its_job_has_ended_and_leaves_no_folder(
    services: StubServices, tmp_path: Path
) -> None:
    over, running = services.job(1), services.job(8)
    finish(services, over)
    for job_id in (over, running, "unknown"):
        services.blobs.put(f"scratch/{job_id}/0.npz", b"x")
    services.blobs.delete(f"scratch/{over}/0.npz")
    clear_away(services.real)
    assert [folder.name for folder in (tmp_path / "blobs" / "scratch").iterdir()] == [running]
    assert services.blobs.exists(f"scratch/{running}/0.npz")


def test_scratch_of_a_cancelled_sync_stays_for_its_last_chunk(services: StubServices) -> None:
    job_id = services.job(0, kind=JobKind.SYNC, begins=True, final_stage=Stage.FETCH, source="feed")
    begin = services.ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert begin is not None
    services.ledger.plan(begin, "00")
    services.blobs.put(f"scratch/{job_id}/listing.parquet", b"x")
    services.ledger.cancel(job_id)
    clear_away(services.real)
    assert services.blobs.exists(f"scratch/{job_id}/listing.parquet")
    ((stage, chunk),) = services.ledger.sweep()
    final = services.ledger.claim(chunk, stage)
    assert final is not None
    services.ledger.advance(final, transitions=[])
    clear_away(services.real)
    assert not services.blobs.exists(f"scratch/{job_id}/listing.parquet")


def test_an_expired_job_goes_with_its_files(services: StubServices) -> None:
    services.ledger = fake_ledger(job_ttl_s=-1)
    job_id = services.job(2)
    running = services.job(9)
    finish(services, job_id)
    clear_away(services.real)
    assert not services.ledger.exists(job_id)
    assert services.blobs.folders("jobs/") == [running]


def test_files_of_a_job_that_the_ledger_does_not_know_go_after_a_day(
    services: StubServices, tmp_path: Path
) -> None:
    known = services.job(1)
    for job_id in ("old", "fresh"):
        services.blobs.put(f"jobs/{job_id}/uploads/000000000", b"x")
        services.blobs.put(f"jobs/{job_id}/manifest/000000.jsonl", b"x")
    long_ago = time.time() - ORPHAN_AGE_SECONDS - 60
    folder = tmp_path / "blobs" / "jobs"
    for path in [*(folder / "old").rglob("*.*"), *folder.rglob("uploads/*"), *(folder / known).rglob("*.*")]:
        os.utime(path, (long_ago, long_ago))
    clear_orphans(services.real)
    assert sorted(services.blobs.folders("jobs/")) == sorted([known, "fresh"])


def test_the_sweeper_starts_what_is_due_and_restores_schedules(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop: list[Callable[..., None]] = []
    done: list[str] = []
    monkeypatch.setattr(sweeper, "configure_logging", lambda _: None)
    monkeypatch.setattr(sweeper, "build_services", lambda _: services.real)
    monkeypatch.setattr(sweeper.signal, "signal", lambda _, handler: stop.append(handler))
    for name in ("clear_deleted", "restore_schedule", "start_due"):
        monkeypatch.setattr(sweeper, name, lambda _, name=name: done.append(name))
    monkeypatch.setattr(sweeper, "clear_away", lambda _: stop[0]())
    sweeper.run_sweep(services.settings)
    assert done == ["start_due", "clear_deleted", "restore_schedule"]


def test_callbacks_outlive_a_failure_of_their_own(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Twice:
        def wait(self, _: float) -> bool:
            return len(calls) == 2

    def broken(_: object) -> None:
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(CallbackSender, "start", broken)
    callbacks.send_callbacks_until(services.real, Twice())  # type: ignore[arg-type]
    assert len(calls) == 2


def test_files_that_were_put_aside_go_in_the_end(
    services: StubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image_id in "ab":
        services.blobs.put(file_key("images", image_id, "thumbnail"), b"webp")
    discard(services.real.ledger, services.blobs, "images", ["a"])
    empty_trash(services.real)
    assert services.blobs.list("discarded/") == [trash_key("images", "a", "thumbnail")]
    restore(services.real.ledger, services.blobs, "images", ["a", "b"])
    assert services.blobs.get(file_key("images", "a", "thumbnail")) == b"webp"
    discard(services.real.ledger, services.blobs, "images", ["a"])
    monkeypatch.setattr(sweeper, "TRASH_TTL_SECONDS", -1.0)
    empty_trash(services.real)
    restore(services.real.ledger, services.blobs, "images", ["a", "b"])
    assert services.blobs.list("discarded/") == []
    assert [services.blobs.exists(file_key("images", image_id, "thumbnail")) for image_id in "ab"] == [
        False,
        True,
    ]


def test_callbacks_are_counted_by_what_becomes_of_them(services: StubServices) -> None:
    services.downloader.pages[CALLBACK] = 500
    finish(services, job_id := services.job(1, callback_url=CALLBACK))
    counted = Counted()
    for _ in range(CALLBACK_TRIES):
        now_due(services, job_id)
        send_callbacks(services)
    services.downloader.pages[CALLBACK] = 204
    finish(services, job_id := services.job(1, callback_url=CALLBACK))
    now_due(services, job_id)
    send_callbacks(services)
    assert counted("callbacks_total", outcome="retried") == CALLBACK_TRIES - 1
    assert counted("callbacks_total", outcome="given_up") == 1
    assert counted("callbacks_total", outcome="taken") == 1
