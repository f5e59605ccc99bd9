"""The list of a search's results: by score, ordered by a value, one of each group, or unlike each other.

The ranking of a query does not depend on how much of it is asked for, and what is made of it does not depend
on the page. So pages neither repeat nor miss a picture.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.context import context
from api.search.facets import shown
from api.search.query import Query
from api.search.requests import SearchRequest
from image_search import models
from image_search.models.search import LIST_BOUND, MAX_GROUP_IDS
from shared.errors import InvalidRequest
from shared.filters.conditions import Where, typed, values_of
from shared.index.collection import Collection
from shared.index.near_duplicates import leaders
from shared.index.search import Scored
from shared.models import Hit, Image

NEAR_DUPLICATES = "near_duplicates"
POOL = 100  # results that are diversified together

Group = list[Scored]
Matrix = NDArray[np.float32]


class Floor(NamedTuple):
    """The least score that a request allows, and which of its bounds says so."""

    score: float
    by: Literal["min_score", "min_confidence"]


@dataclass(frozen=True, slots=True)
class Listed:
    """One page: hits, the groups that they are the best of if these were asked for, what was looked at."""

    hits: list[Hit]
    groups: list[models.Group] | None
    scope: models.ListScope | None


class Relevant:
    """What passes a query's filters and floor, nearest first, at most `most`; read as far as need be.

    The picture of a query by one `image_id` comes first. `complete` is whether all was read that there is.
    """

    def __init__(
        self, query: Query, collection: Collection, where: Where | None, floor: Floor | None, most: int
    ) -> None:
        self.collection, self.most = collection, most
        self.complete = False
        self._where, self._least = where, None if floor is None else floor.score
        of_text = any(term.text is not None for term in query.terms)
        self._rank = partial(
            collection.ranked, query.vector, where=where, min_score=self._least, of_text=of_text
        )
        first = query.terms[0]
        is_itself = len(query.terms) == 1 and first.weight > 0 and first.box is None
        self._itself = first.image_id if is_itself else None
        self._order: list[Scored] = []
        self._images: dict[str, Image] = {}

    @property
    def exhausted(self) -> bool:
        return self.complete or len(self._order) > self.most

    @property
    def looked_at(self) -> int:
        return min(len(self._order), self.most)

    def first(self, count: int) -> list[Scored]:
        """Return the first `count`, or all that there are of `most`; more than `most` tells `complete`."""
        count = min(count, self.most + 1)
        if count > len(self._order) and not self.complete:
            found = self._rank(limit=count + (self._itself is not None))
            self._images |= found.images
            self._order = self._led(found.order)
            self.complete = len(self._order) < count
            del self._order[count:]
        return self._order[: min(count, self.most)]

    def images(self, ids: Sequence[str]) -> dict[str, Image]:
        """Return those of the images that still exist, and perhaps more, by id."""
        if lacking := [one for one in ids if one not in self._images]:
            self._images |= self.collection.images(lacking)
        return self._images

    def best_first(self, found: Sequence[Scored]) -> list[Scored]:
        return sorted(found, key=lambda one: (one.id != self._itself, -one.score, one.id))

    def _led(self, order: list[Scored]) -> list[Scored]:
        """Put the picture that was asked for first: rounding could put one of the same vector before it."""
        if self._itself is None:
            return order
        image = self.images([self._itself]).get(self._itself)
        fits = image is not None and (self._where is None or self._where.matches(image))
        own = [Scored(self._itself, 1.0)] if fits and (self._least is None or self._least <= 1) else []
        return own + [one for one in order if one.id != self._itself]


def check(asked: SearchRequest) -> None:
    """Raise InvalidRequest for an order of too much, or for two orders."""
    if asked.order_by and asked.min_score is None and asked.min_confidence is None and asked.among is None:
        raise InvalidRequest(
            "`order_by` orders what is relevant, so it needs a bound of that: `min_score`, `min_confidence` "
            "or `among`.",
            [{"pointer": "/order_by", "message": "needs min_score, min_confidence or among"}],
        )
    if asked.order_by and asked.diversity:
        raise InvalidRequest(
            "`order_by` and `diversity` are two orders: give one of them.",
            [{"pointer": "/diversity", "message": "cannot go with order_by"}],
        )


def most_of(asked: SearchRequest) -> int:
    """Return how many of the nearest may be in the list."""
    return asked.among or (LIST_BOUND if _is_arranged(asked) else asked.offset + asked.limit)


def names_of(asked: SearchRequest) -> list[tuple[str, str]]:
    """Return the names that the list is made by, each with the pointer to it."""
    names = {"/order_by": (asked.order_by or "").removeprefix("-"), "/group_by": asked.group_by}
    return [(at, name) for at, name in names.items() if name and name != NEAR_DUPLICATES]


def arrange(asked: SearchRequest, relevant: Relevant, floor: Floor | None) -> Listed:
    """Return the page of the list that was asked for. Raises as Collection does."""
    end = asked.offset + asked.limit
    groups = _groups(asked, relevant, -(-end // POOL) * POOL if asked.diversity else end)
    if asked.diversity:
        page = _diversified(groups, relevant, asked.diversity, asked.offset, end)
    elif asked.order_by:
        page = groups[asked.offset : end]
    else:
        by_best = {group[0]: group for group in groups[asked.offset : end]}
        page = [by_best[one] for one in relevant.best_first(list(by_best))]
    images = relevant.images([group[0].id for group in page])
    page = [group for group in page if group[0].id in images]
    return Listed(
        [Hit(images[best.id], best.score) for best, *_ in page],
        [_group(asked.group_by, group, images) for group in page] if asked.group_by else None,
        scope_of(asked, floor, relevant.looked_at, complete=relevant.complete),
    )


def scope_of(
    asked: SearchRequest, floor: Floor | None, pictures: int, *, complete: bool
) -> models.ListScope | None:
    """Describe what a list was made over; None of the plain one."""
    if not _is_arranged(asked):
        return None
    by: Literal["min_score", "min_confidence", "among", "bound"]
    if asked.among is not None and (floor is None or not complete):
        by = "among"
    else:
        by = "bound" if floor is None or pictures >= LIST_BOUND else floor.by
    return models.ListScope(by=by, pictures=pictures, complete=complete)


def _is_arranged(asked: SearchRequest) -> bool:
    return bool(asked.order_by or asked.group_by) or asked.diversity is not None


def _groups(asked: SearchRequest, relevant: Relevant, needed: int) -> list[Group]:
    """Return the list's groups, at least `needed` if there are so many; without `group_by`, of one each."""
    if asked.order_by:
        found = relevant.best_first(relevant.first(relevant.most + 1))
        return _grouped(asked.group_by, _ordered(found, relevant, asked.order_by), relevant)
    if not asked.group_by:
        more = asked.diversity is not None  # which tells whether that is all
        return [[one] for one in relevant.first(needed + more)[:needed]]
    depth = max(POOL, 4 * needed)
    while True:
        groups = _grouped(asked.group_by, relevant.first(depth), relevant)
        if len(groups) >= needed or relevant.exhausted:
            return groups
        depth *= 4


def _ordered(found: Sequence[Scored], relevant: Relevant, order_by: str) -> list[Scored]:
    """Return `found` by the values of a name, ties as they were: numbers, then texts, then what lacks it."""
    name, descending = order_by.removeprefix("-"), order_by.startswith("-")
    images = relevant.images([one.id for one in found])
    pick: Any = max if descending else min
    numbers: list[tuple[Any, Scored]] = []
    texts: list[tuple[Any, Scored]] = []
    missing: list[Scored] = []
    for one in found:
        values = values_of(images[one.id], name) if one.id in images else ()
        if of_number := [value for value in values if not isinstance(value, str)]:
            numbers.append((pick(of_number), one))
        elif values:
            texts.append((pick(values), one))
        else:
            missing.append(one)
    by_value = partial(sorted, key=itemgetter(0), reverse=descending)
    return [one for _, one in (*by_value(numbers), *by_value(texts))] + missing


def _grouped(name: str | None, found: Sequence[Scored], relevant: Relevant) -> list[Group]:
    """Return the groups in the order of their first members; without a name, of one each."""
    if name is None:
        return [[one] for one in found]
    ids = [one.id for one in found]
    if name == NEAR_DUPLICATES:
        labels: Sequence[Hashable] = leaders(context().vectors.get(relevant.collection, ids)).tolist()
    else:
        images = relevant.images(ids)
        labels = [_label(images.get(one), name) or one for one in ids]
    groups: dict[Hashable, Group] = {}
    for one, label in zip(found, labels, strict=True):
        groups.setdefault(label, []).append(one)
    return list(groups.values())


def _label(image: Image | None, name: str) -> Hashable | None:
    values = () if image is None else values_of(image, name)
    return typed(values[0]) if values else None


def _group(name: str, group: Group, images: Mapping[str, Image]) -> models.Group:
    values = () if name == NEAR_DUPLICATES else values_of(images[group[0].id], name)
    return models.Group(
        value=shown(name, values[0]) if values else None,
        size=len(group),
        ids=[one.id for one in group[:MAX_GROUP_IDS]],
    )


def _diversified(
    groups: list[Group], relevant: Relevant, diversity: float, start: int, end: int
) -> list[Group]:
    """Return groups `start` to `end` of the list, whose blocks of POOL are each diversified for itself."""
    first = start // POOL * POOL
    made: list[Group] = []
    for at in range(first, min(end, len(groups)), POOL):
        by_best = {group[0]: group for group in groups[at : at + POOL]}
        block = relevant.best_first(list(by_best))
        vectors = context().vectors.get(relevant.collection, [one.id for one in block])
        scores = np.array([one.score for one in block])
        made += [by_best[block[place]] for place in diversified(scores, vectors, diversity)]
    return made[start - first : end - first]


def diversified(scores: NDArray[np.float64], vectors: Matrix, diversity: float) -> list[int]:
    """Return the places of rows by maximal marginal relevance; ties in the order of rows.

    The next is always the one of the largest (1 - diversity) * score - diversity * (cosine to the most alike
    that was taken): J. Carbonell, J. Goldstein, "The use of MMR", SIGIR 1998, with lambda = 1 - diversity.
    `scores` (n,) and the cosines of the unit `vectors` (n, dimension) are each scaled to [0, 1] first: those
    of a text lie on another scale than those of pictures.
    """
    cosines = vectors.astype(np.float64) @ vectors.T
    others = ~np.eye(len(scores), dtype=np.bool_)
    if len(scores) > 1:
        cosines = _scaled(cosines, cosines[others])
    gains = (1 - diversity) * _scaled(scores, scores)
    nearest = np.full(len(scores), -np.inf)  # the cosine to the most alike of what was taken
    taken: list[int] = []
    while len(taken) < len(scores):
        left = gains - diversity * nearest if taken else gains.copy()
        left[taken] = -np.inf
        taken.append(int(left.argmax()))
        nearest = np.maximum(nearest, cosines[taken[-1]])
    return taken


def _scaled(values: NDArray[np.float64], over: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(over.min()), float(over.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
