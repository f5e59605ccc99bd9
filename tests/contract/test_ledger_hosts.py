"""The token bucket and the breaker a host, that every worker shares."""

from typing import Any

import pytest

from shared.errors import ItemError
from shared.ledger import hosts
from shared.ledger.hosts import FAILURES_TO_OPEN
from shared.ledger.ledger import Ledger

TROUBLE = ItemError("http_status", "503 Service Unavailable", http_status=503)


def waits(ledger: Ledger, host: str, count: int, rate: float = 2.0, longest: float = 60.0) -> list[float]:
    return [ledger.hosts.turn(host, rate, longest).wait_s for _ in range(count)]


def fail(ledger: Ledger, host: str, times: int) -> None:
    for _ in range(times):
        ledger.hosts.failed(host, TROUBLE, 0.0)


def test_a_second_s_worth_goes_at_once_and_the_rest_at_the_rate(ledger: Ledger) -> None:
    assert waits(ledger, "a.example", 6) == pytest.approx([0, 0, 0.5, 1.0, 1.5, 2.0], abs=0.2)


def test_a_rate_below_one_a_second_is_kept(ledger: Ledger) -> None:
    assert waits(ledger, "a.example", 3, rate=0.1) == pytest.approx([0, 10, 20], abs=0.2)


def test_one_host_s_rate_is_not_another_s(ledger: Ledger) -> None:
    waits(ledger, "a.example", 5)
    assert waits(ledger, "b.example", 1) == [0]


def test_a_turn_that_is_too_far_away_is_not_reserved(ledger: Ledger) -> None:
    waits(ledger, "a.example", 4)
    far = waits(ledger, "a.example", 3, longest=0.1)
    assert far == pytest.approx([1.5, 1.5, 1.5], abs=0.2)
    assert waits(ledger, "a.example", 1) == pytest.approx([1.5], abs=0.2)


def test_what_one_answer_asked_for_with_retry_after_holds_for_all(ledger: Ledger) -> None:
    ledger.hosts.failed("a.example", TROUBLE, 30.0)
    assert waits(ledger, "a.example", 4) == pytest.approx([30, 30, 30.5, 31], abs=0.3)
    ledger.hosts.answered("a.example")
    assert waits(ledger, "a.example", 1)[0] > 25


def test_a_host_that_keeps_failing_is_not_asked_for_a_while(ledger: Ledger) -> None:
    fail(ledger, "a.example", FAILURES_TO_OPEN - 1)
    assert ledger.hosts.turn("a.example", 100, 60).refusal is None
    fail(ledger, "a.example", 1)
    turn = ledger.hosts.turn("a.example", 100, 60)
    assert turn.refusal is not None
    assert (turn.refusal.code, turn.refusal.http_status, turn.refusal.transient) == ("http_status", 503, True)
    assert f"failed {FAILURES_TO_OPEN} times in a row" in turn.refusal.detail
    assert "503 Service Unavailable" in turn.refusal.detail
    assert turn.wait_s == pytest.approx(hosts.OPEN_SECONDS, abs=1)


def test_an_answer_in_between_starts_the_count_anew(ledger: Ledger) -> None:
    fail(ledger, "a.example", FAILURES_TO_OPEN - 1)
    ledger.hosts.answered("a.example")
    fail(ledger, "a.example", FAILURES_TO_OPEN - 1)
    assert ledger.hosts.turn("a.example", 100, 60).refusal is None


@pytest.fixture
def reopened(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host whose breaker's time is over."""
    monkeypatch.setattr(hosts, "OPEN_SECONDS", 0.0)
    fail(ledger, "a.example", FAILURES_TO_OPEN)
    monkeypatch.undo()
    return ledger


def test_one_try_goes_through_when_the_breaker_s_time_is_over(reopened: Ledger) -> None:
    assert reopened.hosts.turn("a.example", 100, 60).refusal is None
    assert reopened.hosts.turn("a.example", 100, 60).refusal is not None


def test_the_breaker_closes_when_that_try_brings_an_answer(reopened: Ledger) -> None:
    assert reopened.hosts.turn("a.example", 100, 60).failures == FAILURES_TO_OPEN
    reopened.hosts.answered("a.example")
    assert [reopened.hosts.turn("a.example", 100, 60).refusal for _ in range(3)] == [None] * 3


def test_the_breaker_stays_open_twice_as_long_when_that_try_fails_too(reopened: Ledger) -> None:
    reopened.hosts.turn("a.example", 100, 60)
    fail(reopened, "a.example", 1)
    assert reopened.hosts.turn("a.example", 100, 60).wait_s == pytest.approx(2 * hosts.OPEN_SECONDS, abs=1)


def test_failures_of_what_was_under_way_do_not_prolong_an_open_breaker(ledger: Ledger) -> None:
    fail(ledger, "a.example", FAILURES_TO_OPEN + 20)
    assert ledger.hosts.turn("a.example", 100, 60).wait_s <= hosts.OPEN_SECONDS
