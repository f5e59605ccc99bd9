"""Facets: how often each value of a field occurs among what a search finds."""

from collections import Counter
from collections.abc import Iterable, Sequence

from api.search.requests import FacetName
from image_search import models
from image_search.models.search import MAX_FACET_VALUES
from shared.filters.conditions import Scalar, typed, values_of
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
        counts = Counter(
            value for image in images for value in {typed(one) for one in values_of(image, name)}
        )
        # By type and text too, so that the order never depends on that of the pictures.
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0][0], _sortable(item[0][1])))
        facets[name] = [
            models.FacetCount(value=shown(name, value), count=count)
            for (_, value), count in ordered[:MAX_FACET_VALUES]
        ]
        if len(ordered) > MAX_FACET_VALUES:
            cut_off.append(name)
    return facets, cut_off


def _sortable(value: Scalar) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value), "")


def shown(name: FacetName, value: Scalar) -> Scalar:
    """Return a field's value as answers have it: times in RFC 3339."""
    is_time = FIELDS.get(name) is Kind.TIME and not isinstance(value, str)
    return rfc3339(float(value)) if is_time else value
