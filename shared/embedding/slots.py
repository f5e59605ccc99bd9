"""Places for the models that one process has loaded, which more models than places take turns in."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

TURN_SECONDS = 20.0  # for which a model that is used keeps its place: loading one takes seconds
IDLE_SECONDS = 3.0  # unused for so long, it gives its place up before

T = TypeVar("T")


@dataclass(slots=True)
class _Kept(Generic[T]):
    value: T
    since: float
    used_at: float


class Slots(Generic[T]):
    """At most `most` values by name, and those of names in `extra`; not safe to share between threads."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()  # the least recently used first
        self.extra: Set[str] = frozenset()

    def get(self, name: str) -> T | None:
        """Return what is kept under a name, which counts as used."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        kept.used_at = self._clock()
        self._kept.move_to_end(name)
        return kept.value

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Iterate over names and values, none of which counts as used."""
        return iter([(name, kept.value) for name, kept in self._kept.items()])

    def make_room(self, name: str, drop: Callable[[T], None] = lambda _: None) -> bool:
        """Give places up, to `drop`, until there is one for `name`; False while all are in use."""
        while len(self._kept.keys() - self.extra) >= self._most and name not in self.extra:
            now = self._clock()
            victim = next(
                (
                    one
                    for one, kept in self._kept.items()
                    if one not in self.extra
                    and (now - kept.used_at >= IDLE_SECONDS or now - kept.since >= TURN_SECONDS)
                ),
                None,
            )
            if victim is None:
                return False
            drop(self._kept.pop(victim).value)
        return True

    def put(self, name: str, value: T) -> None:
        """Keep a value, for which `make_room` has made room."""
        now = self._clock()
        self._kept[name] = _Kept(value, now, now)

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)
