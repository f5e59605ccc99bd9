"""How chunks that have no items leave their stage: the one before a sync's items, and the one beyond them."""

from pathlib import Path

import pytest

from shared.errors import ItemError
from shared.models import Chunk, Claim, JobKind, JobStatus, Stage
from tests.unit.counted import Counted
from tests.unit.stages import StubServices, make_services
from worker.stages.transition import end_chunk, fail_chunk

ERROR = ItemError("internal", "The fetch worker failed on this chunk 10 times; its log says why.")


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path)


def sync(services: StubServices) -> Claim:
    job_id = services.job(0, kind=JobKind.SYNC, begins=True, final_stage=Stage.FETCH, source="feed")
    claim = services.ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert claim is not None
    return claim


def planned(services: StubServices, states: str) -> str:
    begin = sync(services)
    assert services.ledger.plan(begin, states)
    return begin.chunk.job_id


def fail_final(services: StubServices) -> None:
    ((stage, chunk),) = services.ledger.sweep()
    final = services.ledger.claim(chunk, stage)
    assert final is not None
    fail_chunk(services.real, final, ERROR)


def test_a_sync_that_cannot_begin_fails_and_says_why(services: StubServices) -> None:
    begin = sync(services)
    fail_chunk(services.real, begin, ERROR)
    job = services.ledger.get(begin.chunk.job_id)
    assert (job.status, job.total, job.result) == (JobStatus.FAILED, 0, {"detail": ERROR.detail})
    assert services.ledger.sources.running("feed") is None


def test_one_that_another_worker_has_planned_is_not_failed_by_the_first(services: StubServices) -> None:
    begin = sync(services)
    assert services.ledger.plan(begin, "0000")
    fail_chunk(services.real, begin, ERROR)
    job = services.ledger.get(begin.chunk.job_id)
    assert (job.status, job.total, job.result) == (JobStatus.RUNNING, 4, None)


def test_a_sync_whose_last_chunk_fails_is_partial_and_holds_its_source_no_longer(
    services: StubServices,
) -> None:
    job_id = planned(services, "66")
    fail_final(services)
    job = services.ledger.get(job_id)
    assert (job.status, job.result) == (JobStatus.PARTIAL, {"detail": ERROR.detail})
    assert services.ledger.sources.running("feed") is None


def test_neither_does_a_cancelled_one(services: StubServices) -> None:
    job_id = planned(services, "00")
    services.ledger.cancel(job_id)
    fail_final(services)
    job = services.ledger.get(job_id)
    assert (job.status, job.result) == (JobStatus.CANCELLED, {"detail": ERROR.detail})
    assert services.ledger.sources.running("feed") is None


def test_the_end_of_a_chunk_and_a_lease_that_was_lost_are_counted(services: StubServices) -> None:
    counted = Counted()
    services.job(1)
    claim = services.claim()
    assert end_chunk(services.real, claim, [])
    services.job(1)
    lost = services.claim()
    services.ledger.cancel(lost.chunk.job_id)
    assert not end_chunk(services.real, lost, [])
    assert counted("chunks_total", stage="fetch") == 1
    assert counted("leases_lost_total", stage="fetch") == 1
    assert counted("writer_lag_seconds_count") == 0, "no writer had them"
