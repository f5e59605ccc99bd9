"""Pages of a collection's images: in the order of their ids, or newest first."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shared.filters.conditions import Where, survives_chroma
from shared.index.records import PLACES, from_record, place_of, read_records
from shared.models import RANGES, Image, JsonObject

_READ = 500  # records in one call
_SAMPLE = 64  # images by whose times those of many are judged
_FEW = 1_000  # so many records are read at once rather than looked for by their times
_LEAST, _MOST = RANGES["created_at"][0] - 1, RANGES["created_at"][1]
_SLACK = 0.005  # seconds: Chroma keeps 15 digits of a time, which may have more
_LAST_ID = "~"  # behind all ids, which are hexadecimal


class Place(NamedTuple):
    """A place in the list of the newest: behind the image of this time, None if it has none, and id."""

    created_at: float | None
    id: str

    def precedes(self, image: Image) -> bool:
        return _rank(self) < _rank(image)


def page(chroma: Any, after: str, limit: int, where: Where | None) -> list[Image]:
    """Return up to `limit` images whose ids follow `after`, reading one stretch of ids after another.

    Chroma gathers all records of its file that one bound selects, and then all of the other's, some 5 us a
    record: a page at an end of the list has one bound, and costs next to nothing.
    Ids are hashes and so evenly spread: a stretch is as wide as the missing number needs, and wider where a
    filter leaves few. A record that is not where its id belongs is in no page: it would end one too early.
    """
    start = place_of(after) if after else 0
    width = max(1, PLACES * (limit + 32) // max(1, chroma.count()))
    narrowed = where.to_chroma() if where else None
    found: list[Image] = []
    while start < PLACES and len(found) < limit:
        stretch: list[JsonObject] = [{"_place": {"$gte": start}}] if start else []
        stretch += [{"_place": {"$lt": start + width}}] if not start or start + width < PLACES else []
        ids = chroma.get(where=_every([*stretch, narrowed]), include=[])["ids"]
        rest = sorted(one for one in ids if one > after and start <= place_of(one) < start + width)
        found += _matching(chroma, rest, limit - len(found), where)
        start += width
        if len(found) < limit:
            width *= 2
    return found


def _every(conditions: Iterable[JsonObject | None]) -> JsonObject | None:
    """Return the `where` that selects what all of the conditions select; None is no condition."""
    given = [one for one in conditions if one is not None]
    return {"$and": given} if len(given) > 1 else given[0] if given else None


def _matching(chroma: Any, ids: Sequence[str], limit: int, where: Where | None) -> list[Image]:
    """Return the first `limit` of `ids`, in their order, that match."""
    found: list[Image] = []
    size = limit if where is None else max(limit, 500)
    for start in range(0, len(ids), size):
        images = [from_record(record) for record in read_records(chroma, list(ids[start : start + size]))]
        found += sorted(
            (image for image in images if where is None or where.matches(image)), key=lambda image: image.id
        )
        if len(found) >= limit:
            break
    return found[:limit]


def newest(
    chroma: Any, after: Place | None, limit: int, where: Where | None, since: float | None
) -> list[Image]:
    """Return up to `limit` images behind `after`: newest first, those of one time by id, without one last.

    Chroma has an index for "at least so new", some 3 us an image; "older than" would go through all that are.
    So the ids of a stretch of time are those since its beginning without those since its end: the cost grows
    with how many are newer than the page, not with the collection, where Chroma's file has the statistics
    that deploy/chroma_tenant.py gives it. `since` is a guess at the time of the page's last image: a good one
    saves most calls, a bad one costs one. With `where` the cost grows with how many Chroma's part of it
    selects; where it has none, with how many newer ones do not match.
    """
    look, start = _Newest(chroma, where, limit), after or Place(math.inf, "")
    if (few := look.few()) is not None:
        return _behind(start, few)[:limit]
    found: list[Image] = []
    for stretch in look.stretches(start, since):
        found += stretch
        if len(found) >= limit:
            return found[:limit]
    return found + look.undated(start.id if start.created_at is None else "", limit - len(found))


def _behind(start: Place, images: Iterable[Image]) -> list[Image]:
    return sorted(filter(start.precedes, images), key=_rank)


def _rank(one: Image | Place) -> tuple[bool, float, str]:
    return one.created_at is None, -(one.created_at or 0), one.id


class _Newest:
    """What of one Chroma collection a page of `wanted` images is cut from."""

    def __init__(self, chroma: Any, where: Where | None, wanted: int) -> None:
        self._chroma, self._where, self._wanted = chroma, where, wanted
        self._narrowed = where.to_chroma() if where else None

    def few(self) -> list[Image] | None:
        """Return all that match, if Chroma's part of the condition selects few; else None."""
        if self._narrowed is None:
            return None
        ids = self._chroma.get(where=self._narrowed, limit=_FEW + 1, include=[])["ids"]
        return self._matching(self._read(ids)) if len(ids) <= _FEW else None

    def stretches(self, start: Place, since: float | None) -> Iterator[list[Image]]:
        """Yield what matches behind `start` and has a time, in order, one stretch of time after another.

        Each begins at the time of some image. Where it holds many, a sample of them says where to cut it.
        """
        until = _LEAST if start.created_at is None else start.created_at
        passed = self._ids({"$gt": until + _SLACK}) if _LEAST < until < math.inf else set()
        floors, skipped = [] if since is None else [max(since, _LEAST)], 0
        while until > _LEAST:
            if not floors:
                floors = [_LEAST, *_times(self._some_of_all())]
            if (floor := floors.pop()) >= until:
                continue
            ids = self._ids({"$gte": floor - _SLACK}) - passed
            sample = self._some_of(ids) if len(ids) > 4 * self._wanted + _SAMPLE else []
            if cuts := self._cuts(sample, len(ids), floor, until):
                floors += [floor, *cuts]
                continue
            images = [*self._tied(ids, passed, sample, floor, start), *self._read(ids)]
            inside = [one for one in images if one.created_at is None or one.created_at >= floor]
            passed.update(one.id for one in inside)
            yield _behind(start, self._matching(one for one in inside if one.created_at is not None))
            start, until = Place(floor, _LAST_ID), floor
            skipped = 2 * skipped + 1  # a condition may leave few of each
            del floors[max(1, len(floors) - skipped) :]

    def undated(self, after: str, limit: int) -> list[Image]:
        """Return the first `limit` that match of those without a time, in the order of their ids."""
        dated = self._ids({"$gte": _LEAST}) - self._ids({"$gt": _MOST + _SLACK})
        if self._narrowed is None and len(dated) >= self._chroma.count():
            return []
        rest = sorted(one for one in self._ids() - dated if one > after)
        return [one for one in _matching(self._chroma, rest, limit, self._where) if one.created_at is None]

    def _ids(self, created_at: JsonObject | None = None) -> set[str]:
        where = _every([created_at and {"created_at": created_at}, self._narrowed])
        return set(self._chroma.get(where=where, include=[])["ids"])

    def _read(self, ids: Iterable[str]) -> Iterator[Image]:
        rest = list(ids)
        for start in range(0, len(rest), _READ):
            yield from map(from_record, read_records(self._chroma, rest[start : start + _READ]))

    def _matching(self, images: Iterable[Image]) -> list[Image]:
        return [one for one in images if self._where is None or self._where.matches(one)]

    def _some_of_all(self) -> list[Image]:
        """Return some of the whole collection: those whose ids, which are hashes, come first."""
        width, ids = PLACES >> 14, set[str]()
        while len(ids) < _SAMPLE // 2 and width <= PLACES:
            ids = set(self._chroma.get(where={"_place": {"$lt": width}}, include=[])["ids"])
            width *= 8
        return self._some_of(ids)

    def _some_of(self, ids: set[str]) -> list[Image]:
        return [*self._read(random.sample(sorted(ids), min(len(ids), _SAMPLE)))]

    def _cuts(self, sample: Sequence[Image], count: int, floor: float, until: float) -> list[float]:
        """Return times between `floor` and `until`, rising, with about twice what is wanted between two."""
        times = [one for one in _times(sample) if floor + 4 * _SLACK < one < until]
        step = max(1, min(len(times), 2 * self._wanted * _SAMPLE // max(1, count)))
        return times[-step::-step][::-1]

    def _tied(
        self, ids: set[str], passed: set[str], sample: Sequence[Image], floor: float, start: Place
    ) -> Iterator[Image]:
        """Move those of one time, where a sample says that they are many, from `ids` to `passed`.

        Yield the first that match behind `start`, as many as can be wanted: of one time, the ids are the
        order, and so the others need not be read.
        """
        for time, count in Counter(one.created_at for one in sample).items():
            if time is None or count == 1 or time < floor or not survives_chroma(time):
                continue
            same = self._ids({"$eq": time}) & ids
            ids -= same
            passed |= same
            rest = sorted(one for one in same if _rank(Place(time, one)) > _rank(start))
            yield from _matching(self._chroma, rest, self._wanted, self._where)


def _times(images: Iterable[Image]) -> list[float]:
    return sorted({one.created_at for one in images if one.created_at is not None})
