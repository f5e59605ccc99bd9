"""Filters: what `filters` says in a search, as a tree of conditions that each image fulfils or does not.

`matches` decides. `to_chroma` only narrows what Chroma must look at: it selects every image that matches, and
perhaps others, since Chroma 1.5 cannot express all conditions (see `_narrow` of each class).

Texts compare in NFC, in which records.py keeps them for Chroma. Earlier versions kept them as they came:
`to_chroma` asks for NFD and the form that was given, too.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shared.models import Image, JsonObject
from shared.validation import FIELDS, Kind, forms, nfc

Scalar = str | bool | int | float

RANGES: Mapping[str, Callable[[Scalar, Scalar], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_EARTH_RADIUS_KM = 6_371.0088
# Whole numbers up to here are the same as int and as float, in 15 digits too.
_EXACT = 10**15
# SQLite gives up on an expression tree deeper than 1,000, and Chroma's grows with each alternative.
_MAX_CHROMA_LEAVES = 400
# The jobs that brought the picture; users may have metadata of that name, which is compared, too.
JOB = "job"
_NOTHING: JsonObject = {"id": {"$eq": ""}}


def survives_chroma(number: float) -> bool:
    """Return whether Chroma keeps and compares the number exactly: past 15 digits it may change a bit."""
    if isinstance(number, int):
        return abs(number) <= _EXACT
    return number == 0 or (1e-5 <= abs(number) <= _EXACT and float(f"{number:.15g}") == number)


class Where(ABC):
    """A condition on an image."""

    @abstractmethod
    def matches(self, image: Image) -> bool:
        """Return whether the image fulfils the condition."""

    def to_chroma(self) -> JsonObject | None:
        """Return a Chroma `where` that selects at least every match; None where it cannot narrow."""
        narrowed = self._narrow(negated=False)
        return None if narrowed is None or _leaves(narrowed) > _MAX_CHROMA_LEAVES else narrowed

    def to_document(self) -> JsonObject | None:
        """Return a Chroma `where_document` that selects at least every match; None where it cannot narrow."""
        return None

    @abstractmethod
    def _narrow(self, *, negated: bool) -> JsonObject | None:
        """Return a Chroma `where` for a superset of what matches, or if `negated` of what does not."""


@dataclass(frozen=True)
class In(Where):
    """The field, or an element of it, equals one of `values`; a bool equals no number."""

    field: str
    values: tuple[Scalar, ...]

    @cached_property
    def _wanted(self) -> frozenset[tuple[str, Scalar]]:
        return frozenset(typed(compared(value)) for value in self.values)

    def matches(self, image: Image) -> bool:
        return any(typed(value) in self._wanted for value in values_of(image, self.field))

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        texts = [form for value in self.values if isinstance(value, str) for form in forms(value)]
        flags = [value for value in self.values if isinstance(value, bool)]
        if negated:
            # Not numbers: Chroma may take 1.0000000000000002 for 1.0, and takes 1.5 for a whole 1.
            return _all_of(
                [
                    *({name: {"$nin": group}} for group in (texts, flags) if group for name in self._names),
                    *({name: {"$not_contains": text}} for text in texts for name in self._lists),
                ]
            )
        numbers = [value for value in self.values if not isinstance(value, str | bool)]
        if not all(map(survives_chroma, numbers)):
            return None
        # Chroma wants one type a list; 1 finds 1.0 too, and the other way round.
        whole = [int(value) for value in numbers if value == int(value)]
        broken = [value for value in numbers if value != int(value)]
        groups = (texts, flags, whole, broken)
        return _any_of(
            [
                *({name: {"$in": group}} for group in groups if group for name in self._names),
                *({name: {"$contains": text}} for text in texts for name in self._lists),
            ]
        )

    @property
    def _names(self) -> tuple[str, ...]:
        """Return the Chroma names under which the field may be stored as one value."""
        return ("_job", JOB) if self.field == JOB else (self.field,)

    @property
    def _lists(self) -> tuple[str, ...]:
        """Return the Chroma names under which the field may be stored as a list."""
        if self.field == "source":
            return ("_sources",)
        if self.field == "key":
            return ("key",)
        if self.field == JOB:
            return ("_jobs", JOB)
        return (self.field,) if kind_of(self.field) in (Kind.ANY, Kind.TEXTS) else ()


@dataclass(frozen=True)
class Range(Where):
    """The field, or an element of it, is `op` (gt, gte, lt, lte) `bound`; texts compare by code point."""

    field: str
    op: str
    bound: str | int | float

    def matches(self, image: Image) -> bool:
        compare, (kind, bound) = RANGES[self.op], typed(compared(self.bound))
        stored = values_of(image, self.field)
        return any(typed(value)[0] == kind and compare(value, bound) for value in stored)

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        if negated or isinstance(self.bound, str):
            return None  # Chroma orders numbers only, and cannot ask for pictures that lack a field
        above = self.op in ("gt", "gte")
        bound = min(self.bound, _EXACT) if above else max(self.bound, -_EXACT)
        if abs(bound) > _EXACT:
            return None
        if not survives_chroma(bound):  # nor does what is stored
            slack = max(abs(bound) * 1e-14, 1e-300)
            bound += -slack if above else slack
        # Against whole numbers Chroma cuts the bound's fraction off: so never the strict operators.
        return {self.field: {"$gte" if above else "$lte": bound}}


@dataclass(frozen=True)
class WithinRadius(Where):
    """The image was taken within `radius_km` of a point (degrees) along the great circle."""

    lat: float
    lon: float
    radius_km: float

    def matches(self, image: Image) -> bool:
        if image.lat is None or image.lon is None:
            return False
        here, there = math.radians(self.lat), math.radians(image.lat)
        east = math.radians(image.lon - self.lon)
        # Haversine formula: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).
        half = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
        return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half))) <= self.radius_km

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        if negated:
            return None
        angle = min(self.radius_km / _EARTH_RADIUS_KM, math.pi)
        margin = 1e-6
        north, south = (self.lat + sign * (math.degrees(angle) + margin) for sign in (1, -1))
        band: list[JsonObject | None] = [{"lat": {"$gte": south}}, {"lat": {"$lte": north}}]
        if north >= 90 or south <= -90:
            return _all_of(band)
        sine = min(1.0, math.sin(angle) / math.cos(math.radians(self.lat)))
        spread = math.degrees(math.asin(sine)) + margin
        west, east = self.lon - spread, self.lon + spread
        inside: list[JsonObject | None] = [{"lon": {"$gte": west}}, {"lon": {"$lte": east}}]
        if west < -180:
            inside = [_any_of([{"lon": {"$gte": west + 360}}, {"lon": {"$lte": east}}])]
        elif east > 180:
            inside = [_any_of([{"lon": {"$gte": west}}, {"lon": {"$lte": east - 360}}])]
        return _all_of([*band, *inside])


@dataclass(frozen=True)
class And(Where):
    """Every part matches; with no part, everything does."""

    parts: tuple[Where, ...]

    def matches(self, image: Image) -> bool:
        return all(part.matches(image) for part in self.parts)

    def to_document(self) -> JsonObject | None:
        return _all_of([part.to_document() for part in self.parts])

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        return (_any_of if negated else _all_of)([part._narrow(negated=negated) for part in self.parts])


@dataclass(frozen=True)
class Or(Where):
    """At least one part matches."""

    parts: tuple[Where, ...]

    def matches(self, image: Image) -> bool:
        return any(part.matches(image) for part in self.parts)

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        return (_all_of if negated else _any_of)([part._narrow(negated=negated) for part in self.parts])


@dataclass(frozen=True)
class Not(Where):
    """The part does not match, also where the image lacks its field."""

    part: Where

    def matches(self, image: Image) -> bool:
        return not self.part.matches(image)

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        return self.part._narrow(negated=not negated)


def typed(value: Scalar) -> tuple[str, Scalar]:
    """Return what is equal for equal values: 1 and 1.0 are one, 1 and true are two."""
    kind = "text" if isinstance(value, str) else "flag" if isinstance(value, bool) else "number"
    return kind, value


def compared(value: Scalar) -> Scalar:
    return nfc(value) if isinstance(value, str) else value


def kind_of(field: str) -> Kind:
    return FIELDS.get(field, Kind.ANY)


def values_of(image: Image, field: str) -> Sequence[Scalar]:
    """Return a built-in field's or metadata name's values as filters compare them: none, one, or a list's.

    Times are seconds since the epoch, texts in NFC.
    """
    if field == "source":
        return [nfc(image.source), *map(nfc, image.sources)]
    if field == "key":
        return image.keys
    if field == JOB:
        own = image.metadata.get(JOB, [])
        return [*image.jobs, *map(compared, own if isinstance(own, list) else [own])]
    value = getattr(image, field, None) if field in FIELDS else image.metadata.get(field)
    if value is None:
        return ()
    return [nfc(one) for one in value] if isinstance(value, list) else (compared(value),)


def _all_of(parts: Iterable[JsonObject | None]) -> JsonObject | None:
    narrowing = [part for part in parts if part is not None]
    if not narrowing:
        return None
    return narrowing[0] if len(narrowing) == 1 else {"$and": narrowing}


def _any_of(parts: Iterable[JsonObject | None]) -> JsonObject | None:
    narrowing: list[JsonObject] = []
    for part in parts:
        if part is None:
            return None
        narrowing.append(part)
    if not narrowing:
        return _NOTHING
    return narrowing[0] if len(narrowing) == 1 else {"$or": narrowing}


def _leaves(where: JsonObject) -> int:
    parts = where.get("$and") or where.get("$or")
    return sum(map(_leaves, parts)) if isinstance(parts, list) else 1
