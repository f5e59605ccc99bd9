"""Which sources are due, and that each has one sync at a time."""

import threading
from typing import Any

import pytest
import redis

from shared.errors import SyncRunning, TooManyJobs
from shared.ledger.ledger import Ledger
from shared.ledger.scripts import PREFIX
from shared.ledger.sources import NotDue
from tests.contract.test_ledger_begin import claim_begin, make_sync
from tests.redis_server import fake_ledger


def end(ledger: Ledger, job_id: str) -> None:
    assert ledger.advance(claim_begin(ledger, job_id), transitions=[], complete=True)


def test_sources_are_due_by_their_schedule_those_that_wait_longest_first(ledger: Ledger) -> None:
    for name, due in {"later": 2e11, "b": 20.5, "a": 10.0, "c": 1_700_000_000.123456}.items():
        ledger.sources.schedule(name, due)
    assert ledger.sources.due() == [("a", 10.0), ("b", 20.5), ("c", 1_700_000_000.123456)]
    assert ledger.sources.due(limit=1) == [("a", 10.0)]
    assert ledger.sources.due(now=15.0) == [("a", 10.0)]
    assert ledger.sources.next_due(["later", "none", "a"]) == {"later": 2e11, "none": None, "a": 10.0}
    assert ledger.sources.next_due([]) == {}
    ledger.sources.schedule("a", 2e11)
    ledger.sources.unschedule("b")
    ledger.sources.unschedule("none")
    assert [name for name, _ in ledger.sources.due()] == ["c"]


def test_a_run_that_is_due_moves_the_schedule_on_and_is_begun_once(ledger: Ledger) -> None:
    ledger.sources.schedule("feed", 1_700_000_000.123456)
    ((name, due_at),) = ledger.sources.due()
    job_id = make_sync(ledger, name, due_at=due_at, next_due=2e11)
    assert ledger.sources.next_due([name]) == {name: 2e11}
    with pytest.raises(NotDue):
        make_sync(ledger, name, due_at=due_at, next_due=3e11)
    assert ledger.sources.next_due([name]) == {name: 2e11}
    end(ledger, job_id)
    with pytest.raises(NotDue):
        make_sync(ledger, name, due_at=due_at, next_due=3e11)
    assert len(ledger.list_jobs(None, None, 9)[0]) == 1


def test_a_source_whose_schedule_was_taken_away_meanwhile_is_not_due(ledger: Ledger) -> None:
    ledger.sources.schedule("feed", 10.0)
    ledger.sources.unschedule("feed")
    with pytest.raises(NotDue):
        make_sync(ledger, due_at=10.0, next_due=20.0)
    assert ledger.sources.next_due(["feed"]) == {"feed": None}


def test_a_sync_that_somebody_asks_for_leaves_the_schedule_as_it_is(ledger: Ledger) -> None:
    ledger.sources.schedule("feed", 2e11)
    make_sync(ledger)
    assert ledger.sources.next_due(["feed"]) == {"feed": 2e11}


def test_a_source_has_one_sync_at_a_time_and_who_asks_for_another_is_told_which(ledger: Ledger) -> None:
    assert ledger.sources.running("feed") is None
    job_id = make_sync(ledger)
    assert ledger.sources.running("feed") == job_id
    with pytest.raises(SyncRunning, match=f"feed is being synced by job {job_id}"):
        make_sync(ledger)
    other = make_sync(ledger, "another")
    end(ledger, job_id)
    assert (ledger.sources.running("feed"), ledger.sources.running("another")) == (None, other)
    assert ledger.sources.running("feed") != make_sync(ledger)


def test_a_source_that_is_being_synced_is_due_when_that_has_ended_and_keeps_no_other_waiting(
    ledger: Ledger,
) -> None:
    for name, due in {"busy": 10.0, "free": 20.0}.items():
        ledger.sources.schedule(name, due)
    job_id = make_sync(ledger, "busy")
    assert ledger.sources.due(limit=1) == [("free", 20.0)]
    with pytest.raises(SyncRunning):
        make_sync(ledger, "busy", due_at=10.0, next_due=2e11)
    end(ledger, job_id)
    assert ledger.sources.due(limit=1) == [("busy", 10.0)]


def test_a_job_that_is_gone_holds_its_source_no_longer(ledger: Ledger) -> None:
    ledger.sources.schedule("feed", 10.0)
    job_id = make_sync(ledger)
    ledger._redis.client.delete(f"{PREFIX}job:{job_id}")
    assert ledger.sources.running("feed") is None
    assert ledger.sources.due() == [("feed", 10.0)]
    again = make_sync(ledger)
    assert ledger.sources.running("feed") == again


def test_a_run_for_which_there_is_no_room_stays_due() -> None:
    ledger = fake_ledger(most_jobs=1)
    make_sync(ledger, "another", made_by="k")
    ledger.sources.schedule("feed", 10.0)
    with pytest.raises(TooManyJobs):
        make_sync(ledger, made_by="k", due_at=10.0, next_due=2e11)
    assert ledger.sources.due() == [("feed", 10.0)]
    assert ledger.sources.running("feed") is None


def test_a_repeated_request_is_answered_with_its_job_while_that_runs(ledger: Ledger) -> None:
    job_id = make_sync(ledger, idempotency=("once", "digest"))
    assert make_sync(ledger, idempotency=("once", "digest")) == job_id


@pytest.mark.parametrize("is_due", [True, False])
def test_of_many_that_begin_a_sync_at_once_one_does(real_redis: str, is_due: bool) -> None:
    redis.Redis.from_url(real_redis).flushall()
    ledger = Ledger(real_redis)
    ledger.sources.schedule("feed", 10.0)
    due: dict[str, Any] = {"due_at": 10.0, "next_due": 2e11} if is_due else {}
    made: list[str] = []
    refused: list[type[Exception]] = []
    together = threading.Barrier(8)

    def begin() -> None:
        own = Ledger(real_redis)
        own.ping()
        together.wait(10)
        try:
            made.append(make_sync(own, **due))
        except (NotDue, SyncRunning) as error:
            refused.append(type(error))

    threads = [threading.Thread(target=begin, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert refused == [NotDue if is_due else SyncRunning] * 7
    assert [ledger.sources.running("feed")] == made
