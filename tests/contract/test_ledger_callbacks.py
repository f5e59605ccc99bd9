"""Whose callback is next, and which host is left alone: shared by every sweeper."""

import pytest

from shared.ledger import callbacks
from shared.ledger.callbacks import FAILURES_TO_OPEN, Call, CallResult, Lane
from shared.ledger.ledger import Ledger
from shared.ledger.scripts import PREFIX
from tests.contract.test_ledger import FAILED, make_job, run_to_end
from tests.redis_server import fake_redis

ANSWERED, FAILED_CALL, NOTHING = CallResult.ANSWERED, CallResult.FAILED, CallResult.NOTHING


def ended(ledger: Ledger, count: int = 1, url: str = "https://a.example/done") -> list[str]:
    jobs = [make_job(ledger, total=1, callback_url=url) for _ in range(count)]
    run_to_end(ledger)
    return jobs


def take(ledger: Ledger, lane: Lane = Lane.NEW) -> Call:
    call = ledger.callbacks.take(lane, 60)
    assert call is not None
    return call


def take_all(ledger: Ledger, lane: Lane) -> list[Call]:
    taken = []
    while call := ledger.callbacks.take(lane, 60):
        taken.append(call)
    return taken


def calls_over(ledger: Ledger, result: CallResult, times: int = 1, next_in_s: float | None = 0.0) -> None:
    """So many calls of the one host that is due, in whichever lane, end like this."""
    for _ in range(times):
        call = next(call for lane in Lane if (call := ledger.callbacks.take(lane, 60)))
        ledger.callbacks.over(call, result, next_in_s=next_in_s)


def lanes(ledger: Ledger) -> dict[Lane, list[Call]]:
    return {lane: taken for lane in Lane if (taken := take_all(ledger, lane))}


def test_a_callback_is_due_once_and_then_when_it_is_scheduled(ledger: Ledger) -> None:
    job_id = make_job(ledger, total=1, callback_url="https://A.example:444/done?x=1")
    assert lanes(ledger) == {}
    run_to_end(ledger)
    call = take(ledger)
    assert (call.job_id, call.host, call.tries) == (job_id, "a.example:444", 1)
    assert lanes(ledger) == {}
    ledger.callbacks.over(call, NOTHING, next_in_s=30.0)
    assert lanes(ledger) == {}
    ledger.callbacks.over(call, NOTHING, next_in_s=0.0)
    assert lanes(ledger) == {}, "it was over"


def test_the_last_try_leaves_nothing_to_be_sent(ledger: Ledger) -> None:
    ended(ledger)
    ledger.callbacks.over(take(ledger), ANSWERED, next_in_s=None)
    assert lanes(ledger) == {}
    left = {key.removeprefix(PREFIX) for key in ledger._redis.client.keys(f"{PREFIX}*call*")}
    assert not left


def test_each_run_of_a_job_has_all_its_callback_tries(ledger: Ledger) -> None:
    (job_id,) = [make_job(ledger, total=1, callback_url="https://a.example/")]
    run_to_end(ledger, FAILED)
    for tries in (1, 2, 3):
        call = take(ledger)
        assert call.tries == tries
        ledger.callbacks.over(call, NOTHING, next_in_s=0.0)
    ledger.retry(job_id)
    assert lanes(ledger) == {}
    run_to_end(ledger)
    assert (again := take(ledger)).tries == 1
    assert again.job_id == job_id


def test_the_end_of_an_earlier_run_s_call_takes_nothing_from_the_next(ledger: Ledger) -> None:
    (job_id,) = [make_job(ledger, total=1, callback_url="https://a.example/")]
    run_to_end(ledger, FAILED)
    earlier = take(ledger)
    ledger.retry(job_id)
    run_to_end(ledger)
    ledger.callbacks.over(earlier, ANSWERED, next_in_s=None)
    assert take(ledger, Lane.KNOWN).job_id == job_id


def test_a_call_whose_sender_died_is_made_again(ledger: Ledger) -> None:
    (job_id,) = ended(ledger)
    lost = ledger.callbacks.take(Lane.NEW, 0.0)
    assert lost is not None
    again = take(ledger)
    assert (again.job_id, again.tries) == (job_id, 2)
    ledger.callbacks.over(lost, NOTHING, next_in_s=None)
    ledger.callbacks.over(again, NOTHING, next_in_s=0.0)
    assert take(ledger).job_id == job_id, "what the lost call's sender says is late"


@pytest.mark.parametrize(
    ("outcomes", "lane", "at_once"),
    [
        ([], Lane.NEW, 1),
        ([NOTHING], Lane.NEW, 1),
        ([ANSWERED], Lane.KNOWN, 4),
        ([FAILED_CALL], Lane.FAILING, 1),
        ([ANSWERED, FAILED_CALL], Lane.FAILING, 1),
        ([FAILED_CALL, NOTHING], Lane.FAILING, 1),
        ([FAILED_CALL, FAILED_CALL, ANSWERED], Lane.KNOWN, 4),
    ],
)
def test_a_host_has_a_share_of_the_lane_that_its_calls_brought_it_to(
    ledger: Ledger, outcomes: list[CallResult], lane: Lane, at_once: int
) -> None:
    ended(ledger, count=9)
    for result in outcomes:
        calls_over(ledger, result)
    assert {name: len(taken) for name, taken in lanes(ledger).items()} == {lane: at_once}


def test_one_that_ends_makes_room_for_the_next(ledger: Ledger) -> None:
    ended(ledger, count=9)
    calls_over(ledger, ANSWERED, next_in_s=None)
    first, *_ = take_all(ledger, Lane.KNOWN)
    ledger.callbacks.over(first, ANSWERED, next_in_s=None)
    assert len(take_all(ledger, Lane.KNOWN)) == 1


def test_ports_of_one_host_are_hosts_of_their_own(ledger: Ledger) -> None:
    for port in (1, 2, 3):
        ended(ledger, count=2, url=f"http://127.0.0.1:{port}/")
    assert [call.host for call in take_all(ledger, Lane.NEW)] == [f"127.0.0.1:{port}" for port in (1, 2, 3)]


def test_hosts_take_turns_however_much_one_has_to_send(ledger: Ledger) -> None:
    ended(ledger, count=9, url="http://many.example/")
    calls_over(ledger, ANSWERED, next_in_s=None)
    ended(ledger, count=1, url="http://few.example/")
    calls = [take(ledger, Lane.KNOWN)]
    ledger.callbacks.over(take(ledger), ANSWERED, next_in_s=0.0)
    ledger.callbacks.over(calls[0], ANSWERED, next_in_s=None)
    hosts = [call.host for call in take_all(ledger, Lane.KNOWN)]
    assert "few.example" in hosts[:2]


def test_a_host_that_keeps_failing_is_left_alone_for_a_while_with_all_its_jobs(ledger: Ledger) -> None:
    ended(ledger, count=9)
    calls_over(ledger, FAILED_CALL, times=FAILURES_TO_OPEN)
    ended(ledger, count=1)
    assert lanes(ledger) == {}
    (waits,) = ledger._redis.client.zrange(f"{PREFIX}receivers:failing", 0, -1, withscores=True)
    assert waits[1] - ledger._redis.now() == pytest.approx(callbacks.OPEN_SECONDS, abs=1)


def test_it_is_left_alone_longer_each_time_and_not_for_ever(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "OPEN_SECONDS", 1e-6)
    ended(ledger, count=9)
    calls_over(ledger, FAILED_CALL, times=FAILURES_TO_OPEN + 4)
    monkeypatch.undo()
    calls_over(ledger, FAILED_CALL)
    ((_, until),) = ledger._redis.client.zrange(f"{PREFIX}receivers:failing", 0, -1, withscores=True)
    assert until - ledger._redis.now() == pytest.approx(callbacks.MAX_OPEN_SECONDS, abs=1)


def test_one_answer_after_that_brings_all_its_jobs_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "OPEN_SECONDS", 1e-6)
    ended(ledger, count=9)
    calls_over(ledger, FAILED_CALL, times=FAILURES_TO_OPEN)
    calls_over(ledger, ANSWERED, next_in_s=None)
    assert {lane: len(taken) for lane, taken in lanes(ledger).items()} == {Lane.KNOWN: 4}


def test_an_expired_job_s_callback_goes_with_it() -> None:
    client = fake_redis()
    ledger = Ledger("", client=client, job_ttl_s=-1)
    ended(ledger, count=3)
    ledger.callbacks.take(Lane.NEW, 60)
    for job_id in ledger.expired_jobs():
        assert ledger.forget_job(job_id)
    assert [key for key in client.scan_iter(f"{PREFIX}*") if "call" in key or "receivers" in key] == []


def test_callbacks_that_an_older_version_left_are_sent() -> None:
    client = fake_redis()
    before = Ledger("", client=client)
    (job_id,) = ended(before)
    for key in client.keys(f"{PREFIX}callbacks:*") + client.keys(f"{PREFIX}receivers:*"):
        client.delete(key)
    client.zadd(f"{PREFIX}callbacks", {job_id: 5.0})
    client.set(f"{PREFIX}format", 2)
    assert take(Ledger("", client=client)).job_id == job_id
    assert not client.exists(f"{PREFIX}callbacks")
