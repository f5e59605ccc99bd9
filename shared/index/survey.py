"""What metadata a collection's pictures have: names, types and frequent values, from a bounded look.

A look reads up to MOST records and stops after LONGEST_SECONDS: MOST of 60,000 take Chroma 0.7 s of a busy
core, so that of a million pictures nobody wants all.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.filters.conditions import Scalar, Where, compared
from shared.index.records import PLACES, from_record, read_records
from shared.index.search import Store
from shared.models import Image, MetadataValue
from shared.validation import nfc

MOST = 5_000
LONGEST_SECONDS = 1.5
MAX_LISTED = 200  # names that are listed with their values
MAX_VALUES = 25  # of one name
_LONGEST_VALUE = 120  # characters; what is longer is nothing to choose or type
_PAGE = 500
_MAX_NAMES = 5_000
_MAX_COUNTED = 100_000  # distinct values of all names together
_FIELDS = ("tags", "colors", "format")
_LEAST_AGE_SECONDS = 2.0
_AGE_PER_COST = 20  # so that looking takes at most a twentieth of one core
_MAX_KEPT = 16

Type = Literal["text", "number", "boolean", "texts"]


@dataclass(frozen=True, slots=True)
class Name:
    """How many pictures have the name, by type, and its most frequent values; a list's are counted apart.

    Texts are in NFC, and one where they are equal there.

    `all_values`: whether these are all that were seen.
    """

    name: str
    types: Mapping[Type, int]
    values: list[tuple[Scalar, int]]
    all_values: bool

    @property
    def pictures(self) -> int:
        return sum(self.types.values())


@dataclass(frozen=True, slots=True)
class Survey:
    """What `pictures` of a collection's `count` have: metadata names, most frequent first, and some `fields`.

    `complete`: whether there are no other pictures and names. Past MAX_LISTED names have no values.
    """

    pictures: int
    count: int
    complete: bool
    names: Mapping[str, Name]
    fields: list[Name]
    took_s: float


def survey(store: Store, where: Where | None) -> Survey:
    """Look at pictures; those that `where` does not match count as not there."""
    started = time.monotonic()
    count = store.count()
    looked_at = passed = 0
    names, fields = _Counts(), _Counts()
    for image in _sample(store, count, started + LONGEST_SECONDS):
        looked_at += 1
        if where is None or where.matches(image):
            passed += 1
            names.add(image.metadata)
            fields.add({name: value for name in _FIELDS if (value := getattr(image, name))})
    complete = looked_at >= count and not names.cut_off
    took_s = time.monotonic() - started
    return Survey(passed, count, complete, names.ranked(), list(fields.ranked().values()), took_s)


def type_of(value: MetadataValue) -> Type:
    if isinstance(value, list):
        return "texts"
    return "text" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number"


def _sample(store: Store, count: int, until: float) -> Iterator[Image]:
    """Yield those of the pictures whose ids come first: hashes, and so spread evenly over the collection.

    To read pages at several offsets instead takes Chroma longer, and misses what came in between.
    """
    few = None if count <= MOST else {"_place": {"$lt": PLACES * MOST // count}}
    ids = sorted(store.get(where=few, include=[])["ids"])[:MOST]
    for start in range(0, len(ids), _PAGE):
        if time.monotonic() > until:
            return
        yield from map(from_record, read_records(store, ids[start : start + _PAGE]))


class _Counts:
    """How often names, types and values occur; hostile metadata do not make it grow without end."""

    def __init__(self) -> None:
        self._types: dict[str, Counter[Type]] = {}
        # By type, too: 1 and true are equal in Python.
        self._values: dict[str, Counter[tuple[Type, Scalar]]] = {}
        self._partial: set[str] = set()  # names of which some value is not counted
        self._room = _MAX_COUNTED
        self.cut_off = False

    def add(self, named: Mapping[str, MetadataValue]) -> None:
        for name, value in named.items():
            if name not in self._types and len(self._types) == _MAX_NAMES:
                self.cut_off = True
                continue
            self._types.setdefault(name, Counter())[type_of(value)] += 1
            for one in set(map(nfc, value)) if isinstance(value, list) else (compared(value),):
                self._count(name, one)

    def _count(self, name: str, value: Scalar) -> None:
        counts, key = self._values.setdefault(name, Counter()), (type_of(value), value)
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            self._partial.add(name)
        elif key in counts:
            counts[key] += 1
        elif self._room:
            self._room -= 1
            counts[key] = 1
        else:
            self._partial.add(name)

    def ranked(self) -> dict[str, Name]:
        order = sorted(self._types, key=lambda name: (-self._types[name].total(), name))
        return {name: self._name(name, listed=place < MAX_LISTED) for place, name in enumerate(order)}

    def _name(self, name: str, *, listed: bool) -> Name:
        counts = self._values.get(name, Counter())
        # By value too, so that the order does not depend on that of the pictures.
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0][0], _sortable(item[0][1])))
        values = [(value, count) for (_, value), count in ordered[: MAX_VALUES if listed else 0]]
        return Name(name, self._types[name], values, len(values) == len(counts) and name not in self._partial)


def _sortable(value: Scalar) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value), "")


class Surveyed(Protocol):
    """What Surveys needs of a Collection."""

    @property
    def physical(self) -> str: ...
    def survey(self, where: Where | None) -> Survey: ...


@dataclass(slots=True)
class _Kept:
    look: Future[Survey]
    ended_at: float = float("inf")

    def is_over(self, now: float) -> bool:
        if not self.look.done():
            return False
        failed = self.look.exception() is not None
        return failed or now - self.ended_at > max(
            _LEAST_AGE_SECONDS, _AGE_PER_COST * self.look.result().took_s
        )


class Surveys:
    """Surveys made lately, kept the longer the more they cost, and made in threads of their own.

    Safe to share between threads; those that want the same one wait for one look.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Where | None], _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(2, "survey")

    def get(self, collection: Surveyed, where: Where | None, wait_s: float) -> Survey | None:
        """Return what is known, or becomes known in time; else None, and it is on its way.

        Raises as Collection's methods do.
        """
        key = collection.physical, where
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.is_over(time.monotonic()):
                kept = self._kept[key] = self._begin(collection, where)
            self._kept.move_to_end(key)
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        try:
            return kept.look.result(wait_s)
        except NotYet:
            return None

    def _begin(self, collection: Surveyed, where: Where | None) -> _Kept:
        kept = _Kept(self._threads.submit(collection.survey, where))

        def end(_: Future[Survey]) -> None:
            kept.ended_at = time.monotonic()

        kept.look.add_done_callback(end)
        return kept
