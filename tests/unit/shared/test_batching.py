import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.batching.batching import Batching
from tests.stack import eventually

Vectors = NDArray[np.float32]


class Computing:
    """Computes `row + 0.5`; keeps what came together, holds the first up, and fails at negative rows."""

    def __init__(self, at_once: int = 1, most: int = 16) -> None:
        self.batching = Batching(at_once)
        self.most = most
        self.together: list[list[list[int]]] = []
        self.free = threading.Event()

    def compute(self, calls: Sequence[list[int]]) -> Vectors:
        self.together.append(list(calls))
        assert self.free.wait(30)
        rows = [row for call in calls for row in call]
        if min(rows) < 0:
            raise ValueError(f"{min(rows)} is negative")
        return np.array([[row + 0.5] for row in rows], np.float32)

    def run(self, *rows: int, kind: str = "") -> list[float]:
        vectors = self.batching.run(kind, list(rows), self.compute, self.most)
        return [float(one) for one in vectors[:, 0]]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(80) as made:
        yield made


def held(computing: Computing, pool: ThreadPoolExecutor) -> Future[Any]:
    """The first call, which is being computed."""
    first = pool.submit(computing.run, 0)
    eventually(lambda: bool(computing.together))
    return first


def _grown(computing: Computing, before: int) -> bool:
    return len(computing.batching._waiting) > before  # no other way to see who waits


def queued(
    computing: Computing, pool: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]
) -> list[Future[Any]]:
    """Calls that wait, in this order."""
    found = []
    for call in calls:
        before = len(computing.batching._waiting)
        found.append(pool.submit(call))
        eventually(partial(_grown, computing, before))
    return found


def test_a_lone_call_waits_for_nobody() -> None:
    computing = Computing()
    computing.free.set()
    assert computing.run(1, 2) == [1.5, 2.5]
    assert computing.run(3) == [3.5]
    assert computing.together == [[[1, 2]], [[3]]]


def test_calls_that_wait_are_computed_together_in_the_order_in_which_they_came(
    pool: ThreadPoolExecutor,
) -> None:
    computing = Computing()
    first = held(computing, pool)
    rest = queued(computing, pool, [partial(computing.run, n, n + 100) for n in range(1, 5)])
    computing.free.set()
    assert first.result(30) == [0.5]
    assert [one.result(30) for one in rest] == [[n + 0.5, n + 100.5] for n in range(1, 5)]
    assert computing.together == [[[0]], [[n, n + 100] for n in range(1, 5)]]


def test_only_calls_of_a_kind_are_computed_together_and_none_is_overtaken_for_ever(
    pool: ThreadPoolExecutor,
) -> None:
    computing = Computing()
    held(computing, pool)
    kinds = enumerate("abbab", 1)
    rest = queued(computing, pool, [partial(computing.run, n, kind=kind) for n, kind in kinds])
    computing.free.set()
    assert [one.result(30) for one in rest] == [[n + 0.5] for n in range(1, 6)]
    assert computing.together == [[[0]], [[1], [4]], [[2], [3], [5]]]


def test_a_batch_has_a_bound_but_a_large_call_is_whole(pool: ThreadPoolExecutor) -> None:
    computing = Computing(most=3)
    held(computing, pool)
    asked = [(1,), (2, 3), (4,), (5, 6, 7, 8), (9,)]
    rest = queued(computing, pool, [partial(computing.run, *rows) for rows in asked])
    computing.free.set()
    assert [one.result(30) for one in rest] == [[n + 0.5 for n in rows] for rows in asked]
    assert computing.together == [[[0]], [[1], [2, 3]], [[4], [9]], [[5, 6, 7, 8]]]


def test_a_failure_hits_only_whom_it_concerns(pool: ThreadPoolExecutor) -> None:
    computing = Computing()
    held(computing, pool)
    rest = queued(computing, pool, [partial(computing.run, n) for n in (1, -2, 3, -4)])
    computing.free.set()
    assert [rest[0].result(30), rest[2].result(30)] == [[1.5], [3.5]]
    for place, row in ((1, -2), (3, -4)):
        with pytest.raises(ValueError, match=f"{row} is negative"):
            rest[place].result(30)
    assert computing.run(5) == [5.5]


class Interrupted(BaseException):
    """As a signal's, or an exit's."""


def test_whoever_is_interrupted_while_it_computes_leaves_nobody_waiting(pool: ThreadPoolExecutor) -> None:
    computing = Computing()
    held(computing, pool)

    def interrupted() -> None:
        def fail(_: Any) -> Vectors:
            raise Interrupted

        computing.batching.run("", [1], fail, 16)

    rest = queued(
        computing,
        pool,
        [interrupted, *(partial(computing.run, n) for n in (2, 3))],
    )
    computing.free.set()
    with pytest.raises(Interrupted):
        rest[0].result(30)
    assert [one.result(30) for one in rest[1:]] == [[2.5], [3.5]]
    assert computing.together == [[[0]], [[2], [3]]]


@pytest.mark.parametrize("turn", [False, True], ids=["in the queue", "as it gets its turn"])
def test_whoever_is_interrupted_while_it_waits_leaves_nobody_waiting(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, turn: bool
) -> None:
    computing = Computing()
    held(computing, pool)
    interrupt = threading.Event()

    class Woken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if interrupt.is_set():
                return super().wait(timeout)
            interrupt.set()
            if turn:
                assert super().wait(30)
            raise Interrupted

    monkeypatch.setattr("shared.batching.batching.Event", Woken)
    lost = pool.submit(computing.run, 1)
    eventually(interrupt.is_set)
    if not turn:
        with pytest.raises(Interrupted):
            lost.result(30)
    rest = queued(computing, pool, [lambda: computing.run(2)])
    computing.free.set()
    with pytest.raises(Interrupted):
        lost.result(30)
    assert rest[0].result(30) == [2.5]
    assert computing.run(3) == [3.5]


def test_as_many_are_computed_at_once_as_are_let(pool: ThreadPoolExecutor) -> None:
    computing = Computing(at_once=2)
    both = [pool.submit(computing.run, n) for n in (1, 2)]
    eventually(lambda: len(computing.together) == 2)
    rest = queued(computing, pool, [partial(computing.run, n) for n in (3, 4)])
    assert len(computing.together) == 2
    computing.free.set()
    assert [one.result(30) for one in (*both, *rest)] == [[1.5], [2.5], [3.5], [4.5]]
    assert sum(len(calls) for calls in computing.together) == 4


def test_many_threads_get_each_their_own(pool: ThreadPoolExecutor) -> None:
    computing = Computing(at_once=2, most=5)
    computing.free.set()
    asked = [pool.submit(computing.run, n, -n % 7 + 1000, kind="ab"[n % 2]) for n in range(2_000)]
    for n, one in enumerate(asked):
        assert one.result(60) == [n + 0.5, -n % 7 + 1000.5]
    assert not computing.batching._waiting
    assert computing.batching._free == 2
