"""Pages of a collection's images in the order of their ids."""

from collections.abc import Sequence
from typing import Any

from shared.filters.conditions import Where
from shared.index.records import PLACES, from_record, place_of, read_records
from shared.models import Image, JsonObject


def page(chroma: Any, after: str, limit: int, where: Where | None) -> list[Image]:
    """Return up to `limit` images whose ids follow `after`, reading one stretch of ids after another.

    Ids are hashes and so evenly spread: a stretch is as wide as the missing number needs, and wider where a
    filter leaves few. A record that is not where its id belongs is in no page: it would end one too early.
    """
    start = place_of(after) if after else 0
    width = max(1, PLACES * (limit + 32) // max(1, chroma.count()))
    narrowed = where.to_chroma() if where else None
    found: list[Image] = []
    while start < PLACES and len(found) < limit:
        stretch: JsonObject = {"$and": [{"_place": {"$gte": start}}, {"_place": {"$lt": start + width}}]}
        if narrowed:
            stretch["$and"].append(narrowed)
        ids = chroma.get(where=stretch, include=[])["ids"]
        rest = sorted(one for one in ids if one > after and start <= place_of(one) < start + width)
        found += _matching(chroma, rest, limit - len(found), where)
        start += width
        if len(found) < limit:
            width *= 2
    return found


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
