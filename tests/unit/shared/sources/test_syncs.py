import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from shared.errors import BlobsUnavailable, BrokerUnavailable, IdempotencyMismatch, SyncRunning
from shared.models import Chunk, JobKind, JobStatus, Stage
from shared.services import Services
from shared.sources import store, syncs
from shared.sources.definition import Run, Source
from shared.sources.syncs import clear_deleted, next_due, restore_schedule, start_due, start_sync
from shared.storage.blobs import Blobs, brought_key
from shared.tracing import tracing
from tests.otlp_receiver import OtlpReceiver
from tests.unit.fakes import make_services

HOUR = 3_600
SOURCE = Source("shop", "s3://bucket", "clothes", every_s=HOUR, every="1h", made_by="k1", created_at=1e9)


class Sent:
    def __init__(self) -> None:
        self.messages: list[tuple[Stage, Chunk]] = []
        self.is_down = False

    def send(self, stage: Stage, chunk: Chunk) -> None:
        if self.is_down:
            raise BrokerUnavailable("The message broker does not answer.")
        self.messages.append((stage, chunk))


@pytest.fixture
def services(tmp_path: Path) -> Services:
    made = replace(make_services(tmp_path), dispatcher=cast(Any, Sent()))
    store.new_source(made.blobs, SOURCE)
    return made


def jobs(services: Services) -> list[str]:
    return [job.job_id for job in services.ledger.list_jobs(None, None, 100)[0]]


def end(services: Services, job_id: str) -> None:
    services.ledger.cancel(job_id)
    assert services.ledger.get(job_id).status is JobStatus.CANCELLED


def due(services: Services, name: str = "shop") -> float | None:
    return services.ledger.sources.next_due([name])[name]


def test_a_sync_is_a_job_that_carries_the_whole_definition(services: Services) -> None:
    job_id = start_sync(services, SOURCE, dry_run=True, max_delete_share=0.5, made_by="k2")
    job = services.ledger.get(job_id)
    assert (job.kind, job.status, job.collection) == (JobKind.SYNC, JobStatus.QUEUED, "clothes")
    assert (job.label.name, job.label.origin, job.label.made_of) == ("shop", "source", "shop")
    assert Source.from_json(job.options["definition"]) == SOURCE
    assert {name: job.options[name] for name in ("source", "dry_run", "max_delete_share", "removing")} == {
        "source": "shop", "dry_run": True, "max_delete_share": 0.5, "removing": False,
    }  # fmt: skip
    assert cast(Sent, services.dispatcher).messages == [(Stage.FETCH, Chunk(job_id, 0, 0))]


def test_the_share_is_the_source_s_where_none_is_given(services: Services) -> None:
    job_id = start_sync(services, replace(SOURCE, max_delete_share=0.05))
    assert services.ledger.get(job_id).options["max_delete_share"] == 0.05


def test_a_source_has_one_sync_at_a_time(services: Services) -> None:
    job_id = start_sync(services, SOURCE)
    with pytest.raises(SyncRunning, match=job_id):
        start_sync(services, SOURCE)
    other = start_sync(services, replace(SOURCE, name="other"))
    end(services, job_id)
    assert len({job_id, other, start_sync(services, SOURCE)}) == 3


def test_a_repeated_request_is_answered_by_its_job_also_while_that_runs(services: Services) -> None:
    job_id = start_sync(services, SOURCE, idempotency=("monday", "digest"))
    assert start_sync(services, SOURCE, idempotency=("monday", "digest")) == job_id
    with pytest.raises(IdempotencyMismatch):
        start_sync(services, SOURCE, idempotency=("monday", "another"))
    assert len(cast(Sent, services.dispatcher).messages) == 1


def test_a_sync_is_made_although_the_broker_is_away(services: Services) -> None:
    cast(Sent, services.dispatcher).is_down = True
    assert services.ledger.get(start_sync(services, SOURCE)).status is JobStatus.QUEUED


def test_what_is_due_starts_once_and_the_next_time_is_of_the_schedule(services: Services) -> None:
    at = time.time() - 2.5 * HOUR  # so that three runs were missed
    services.ledger.sources.schedule("shop", at)
    start_due(services)
    start_due(services)
    (job_id,) = jobs(services)
    assert due(services) == pytest.approx(at + 3 * HOUR)
    end(services, job_id)
    start_due(services)
    assert jobs(services) == [job_id]


def test_of_two_sweepers_one_starts_what_is_due(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.ledger.sources.schedule("shop", time.time() - 1)
    real = syncs.get_source

    def slower(blobs: Blobs, name: str) -> Source:
        monkeypatch.undo()
        start_due(services)
        end(services, jobs(services)[0])
        return real(blobs, name)

    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        tracing.set_up("sweep")
        monkeypatch.setattr(syncs, "get_source", slower)
        start_due(services)
        tracing.shut_down()
    assert len(jobs(services)) == 1
    assert len(receiver.named("scheduled sync")) == 2
    assert not any(span.failed for span in receiver.spans)


def test_what_is_due_while_a_sync_runs_starts_when_that_has_ended(services: Services) -> None:
    first = start_sync(services, SOURCE)
    services.ledger.sources.schedule("shop", time.time() - 1)
    start_due(services)
    assert jobs(services) == [first]
    end(services, first)
    start_due(services)
    assert len(jobs(services)) == 2


def test_one_that_cannot_start_stays_due_and_keeps_no_other(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.new_source(services.blobs, replace(SOURCE, name="other"))
    for name, at in (("shop", 1.0), ("other", 2.0)):
        services.ledger.sources.schedule(name, at)
    real = syncs.get_source

    def away(blobs: Blobs, name: str) -> Source:
        if name == "shop":
            raise BlobsUnavailable("The blob store does not answer.")
        return real(blobs, name)

    monkeypatch.setattr(syncs, "get_source", away)
    start_due(services)
    assert [services.ledger.get(job_id).label.name for job_id in jobs(services)] == ["other"]
    assert due(services) == 1.0


@pytest.mark.parametrize("left", [None, replace(SOURCE, every_s=None), replace(SOURCE, removing=True)])
def test_what_is_no_longer_to_run_by_itself_loses_its_schedule(
    services: Services, left: Source | None
) -> None:
    store.put_source(services.blobs, left) if left else store.delete_source(services.blobs, "shop")
    services.ledger.sources.schedule("shop", 1.0)
    start_due(services)
    assert (jobs(services), due(services)) == ([], None)


@pytest.mark.parametrize(("now", "expected"), [(100, 160), (99, 160), (159.9, 160), (160, 220), (1000, 1060)])
def test_the_next_time_is_the_first_after_now(now: float, expected: float) -> None:
    assert next_due(100.0, 60, now) == expected


def test_a_schedule_that_the_ledger_lost_is_restored_from_the_last_run(services: Services) -> None:
    for name, others in {
        "run": {}, "asked": {"every_s": None}, "going": {"removing": True}, "kept": {},
    }.items():  # fmt: skip
        store.new_source(services.blobs, replace(SOURCE, name=name, **cast(Any, others)))
    store.add_run(services.blobs, "run", Run("j", "succeeded", 2e9, 2e9 + 60))
    services.ledger.sources.schedule("kept", 7.0)
    restore_schedule(services)
    assert services.ledger.sources.next_due(["shop", "run", "asked", "going", "kept"]) == {
        "shop": 1e9 + HOUR, "run": 2e9 + HOUR, "asked": None, "going": None, "kept": 7.0,
    }  # fmt: skip


def test_a_source_that_a_clock_far_ahead_has_put_off_is_due_every_from_now(services: Services) -> None:
    services.ledger.sources.schedule("shop", 9e9)
    restore_schedule(services)
    due = services.ledger.sources.next_due(["shop"])["shop"]
    assert due is not None
    assert due <= time.time() + HOUR


def test_clearing_away_leaves_a_source_that_is_defined_meanwhile(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.sources.syncs.source_exists", lambda *_: False)  # it was not, a moment ago
    clear_deleted(services)
    assert store.source_exists(services.blobs, "shop")


def test_what_a_sync_of_a_deleted_source_left_goes_when_it_has_ended(services: Services) -> None:
    job_id = start_sync(services, replace(SOURCE, name="gone"))
    for name in ("gone", "shop"):
        services.blobs.put(brought_key(name), b"x")
    clear_deleted(services)
    assert services.blobs.exists(brought_key("gone"))
    end(services, job_id)
    clear_deleted(services)
    assert not services.blobs.exists(brought_key("gone"))
    assert services.blobs.exists(brought_key("shop"))
    assert store.source_exists(services.blobs, "shop")
