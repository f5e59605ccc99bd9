"""Facets: how often each value of a field occurs among what a search finds."""

from collections import Counter
from collections.abc import Iterable, Sequence

from api.search.requests import FacetName
from image_search import models
from image_search.models.search import MAX_FACET_VALUES
from shared.filters.conditions import Scalar, values_of
from shared.models import Image
from shared.rfc3339 import rfc3339
from shared.validation import FIELDS, Kind

Facets = dict[FacetName, list[models.FacetCount]]


def count_values(images: Sequence[Image], names: Iterable[FacetName]) -> tuple[Facets, list[FacetName]]:
    """Return a facet per name, most frequent values first, ties by value; and names with more than fit.

    An image counts once for each distinct value it has: a list's members, and each of its sources.
    """
    facets: Facets = {}
    cut_off: list[FacetName] = []
    for name in dict.fromkeys(names):
        counts = Counter(value for image in images for value in {_key(one) for one in values_of(image, name)})
        # By type and text too, so that the order never depends on that of the pictures.
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0][0], _sortable(item[0][1])))
        facets[name] = [
            models.FacetCount(value=_shown(name, value), count=count)
            for (_, value), count in ordered[:MAX_FACET_VALUES]
        ]
        if len(ordered) > MAX_FACET_VALUES:
            cut_off.append(name)
    return facets, cut_off


def _key(value: Scalar) -> tuple[str, Scalar]:
    """Return what is equal for one value: 1 and 1.0 are one, 1 and true are two, as in filters."""
    kind = "text" if isinstance(value, str) else "flag" if isinstance(value, bool) else "number"
    return kind, value


def _sortable(value: Scalar) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value), "")


def _shown(name: FacetName, value: Scalar) -> Scalar:
    is_time = FIELDS.get(name) is Kind.TIME and not isinstance(value, str)
    return rfc3339(float(value)) if is_time else value
