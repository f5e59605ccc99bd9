"""Places for the models that one process has loaded, which more models than places take turns in."""

import math
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

TURN_SECONDS = 20.0  # for which a model that is used keeps its place: loading one takes seconds
IDLE_SECONDS = 3.0  # unused for so long, it gives its place up before

T = TypeVar("T")


@dataclass(slots=True)
class _Kept(Generic[T]):
    """A value; `since` and `used_at` are infinite while it is held, and minus that once anybody may go in."""

    value: T
    since: float
    used_at: float


class Slots(Generic[T]):
    """At most `most` values by name, and those of names in `extra`; not safe to share between threads."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kept: dict[str, _Kept[T]] = {}
        self.extra: Set[str] = frozenset()

    def get(self, name: str) -> T | None:
        """Return what is kept under a name, which counts as used."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        if math.isfinite(kept.used_at):
            kept.used_at = self._clock()
        return kept.value

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Iterate over names and values, none of which counts as used."""
        return iter([(name, kept.value) for name, kept in self._kept.items()])

    @property
    def has_room(self) -> bool:
        """Whether there is a place that nobody would have to give up."""
        return len(self._kept.keys() - self.extra) < self._most

    def make_room(self, name: str, drop: Callable[[T], None] = lambda _: None) -> bool:
        """Give places up, to `drop`, until there is one for `name`; False while all are in use."""
        return name in self.extra or self._shrink(self._most - 1, drop)

    def trim(self, drop: Callable[[T], None] = lambda _: None) -> None:
        """Give up, to `drop`, those not in use that are too many since `extra` holds them no more."""
        self._shrink(self._most, drop)

    def _shrink(self, most: int, drop: Callable[[T], None]) -> bool:
        while len(counted := self._kept.keys() - self.extra) > most:
            now = self._clock()
            free = [one for one in counted if self._may_go(self._kept[one], now)]
            if not free:
                return False
            drop(self._kept.pop(min(free, key=lambda one: self._kept[one].used_at)).value)
        return True

    @staticmethod
    def _may_go(kept: _Kept[T], now: float) -> bool:
        return now - kept.used_at >= IDLE_SECONDS or now - kept.since >= TURN_SECONDS

    def put(self, name: str, value: T) -> None:
        """Keep a value, for which `make_room` has made room; its turn begins."""
        now = self._clock()
        self._kept[name] = _Kept(value, now, now)

    def hold(self, name: str) -> None:
        """Keep a value, however long it is not used, until `put` or `offer`."""
        self._kept[name].since = self._kept[name].used_at = math.inf

    def offer(self, name: str) -> None:
        """Let the next who asks have the place, also while this is used."""
        self._kept[name].since = self._kept[name].used_at = -math.inf

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)
