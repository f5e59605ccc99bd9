"""Calls that wait while others are computed are computed together."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence, Sized
from threading import Event, Lock
from typing import Any, TypeVar

Calls = TypeVar("Calls", bound=Sized)
Results = TypeVar("Results")


class _Call:
    """One call: what it asks for, and what came of it."""

    def __init__(self, kind: Hashable, rows: Any) -> None:
        self.kind = kind
        self.rows = rows
        self.woken = Event()
        self.results: Any = None
        self.error: Exception | None = None

    @property
    def answered(self) -> bool:
        return self.results is not None or self.error is not None


class Batching:
    """At most `at_once` computations, each by a thread that asked for it; nobody waits for company.

    A call that finds a place free is computed at once, alone. The others queue, and whose turn comes takes
    those of its kind along that wait then, in the order in which they came: the first of the queue always
    goes next, so none is overtaken for ever. No thread of its own, no timer.
    """

    def __init__(self, at_once: int) -> None:
        self._lock = Lock()
        self._free = at_once
        self._waiting = deque[_Call]()

    def run(
        self,
        kind: Hashable,
        rows: Calls,
        compute: Callable[[Sequence[Calls]], Results],
        most: int,
    ) -> Results:
        """Return what `compute` makes of these rows, a result each, in a batch of up to `most` rows.

        `compute` gets the rows of one or more calls, which must mean the same by it where they are of one
        kind. Where it fails for several, it is called for each, so that an error hits whom it concerns.
        """
        call = _Call(kind, rows)
        with self._lock:
            is_free = self._free > 0
            if is_free:
                self._free -= 1
            else:
                self._waiting.append(call)
        if not is_free:
            self._wait(call)
        if not call.answered:
            batch = self._batch(call, most)
            try:
                _compute(batch, compute)
            finally:
                self._pass_on([one for one in batch[1:] if not one.answered])
                for one in batch:
                    if one.answered:
                        one.woken.set()
        if call.error is not None:
            raise call.error
        results: Results = call.results
        return results

    def _wait(self, call: _Call) -> None:
        """Wait for the answer, or for the turn."""
        try:
            call.woken.wait()
        except BaseException:  # a signal's, in the main thread
            with self._lock:
                had_turn = call.woken.is_set() and not call.answered
                if call in self._waiting:
                    self._waiting.remove(call)
            if had_turn:
                self._pass_on([])
            raise

    def _batch(self, first: _Call, most: int) -> list[_Call]:
        """Take what is computed together with `first` out of the queue."""
        batch, count = [first], len(first.rows)
        with self._lock:
            for call in list(self._waiting):
                if call.kind == first.kind and count + len(call.rows) <= most:
                    self._waiting.remove(call)
                    batch.append(call)
                    count += len(call.rows)
        return batch

    def _pass_on(self, left: Sequence[_Call]) -> None:
        """Give the turn to the next, before that to those that an interrupted computation has `left`."""
        with self._lock:
            self._waiting.extendleft(reversed(left))
            if self._waiting:
                self._waiting.popleft().woken.set()
            else:
                self._free += 1


def _compute(batch: Sequence[_Call], compute: Callable[[Sequence[Any]], Any]) -> None:
    try:
        results = compute([call.rows for call in batch])
    except Exception as error:
        if len(batch) == 1:
            batch[0].error = error
            return
        for call in batch:
            _compute([call], compute)
        return
    start = 0
    for call in batch:
        call.results = results[start : start + len(call.rows)]
        start += len(call.rows)
