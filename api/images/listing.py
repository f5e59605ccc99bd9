"""A page of the list of pictures, by their ids or newest first, and the cursor of the next.

By ids it is the last id. Newest first it has the last picture's time and id, and a guess of the time that the
next page ends at, which saves the index work.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import NamedTuple

from api.images.requests import PICTURE_ID, ImagesQuery
from api.search.nsfw_filter import visible
from shared.errors import FieldError, InvalidRequest
from shared.filters.conditions import Where
from shared.index.collection import Collection
from shared.index.pages import Place
from shared.models import RANGES, Image, in_range

_OTHER: FieldError = {
    "pointer": "/cursor",
    "message": "not `next_cursor` of a page of this list: a cursor holds for its own `order_by`",
}


class _Start(NamedTuple):
    after: Place
    since: float | None


def check_cursor(query: ImagesQuery) -> None:
    """Raise InvalidRequest for what is no cursor of the list in this order."""
    if query.cursor is not None and query.order_by is None and not PICTURE_ID.fullmatch(query.cursor):
        raise InvalidRequest("This is no cursor of the list by ids.", [_OTHER])
    if query.cursor is not None and query.order_by is not None:
        _start(query.cursor)


def list_page(
    collection: Collection, query: ImagesQuery, where: Where | None
) -> tuple[list[Image], str | None]:
    """Return the pictures of a page, and the cursor of the next, None if it is the last."""
    start = _start(query.cursor) if query.order_by and query.cursor else None
    after = query.cursor or ""
    if query.key is not None:
        held = collection.by_key(query.key)
        found = [held.image] if held and (where is None or where.matches(held.image)) else []
        found = [one for one in found if (start.after.precedes(one) if start else one.id > after)]
    elif query.order_by:
        found = collection.newest(
            start and start.after, query.limit + 1, visible(where), start and start.since
        )
    else:
        found = collection.page(after, query.limit + 1, visible(where))
    page = found[: query.limit]
    if len(found) == len(page):
        return page, None
    return page, _cursor(page) if query.order_by else page[-1].id


def _cursor(page: Sequence[Image]) -> str:
    first, last = page[0].created_at, page[-1].created_at
    since = None if first is None or last is None else max(RANGES["created_at"][0], 3 * last - 2 * first)
    return urlsafe_b64encode(json.dumps([last, page[-1].id, since]).encode()).decode().rstrip("=")


def _start(cursor: str) -> _Start:
    try:
        created_at, image_id, since = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if PICTURE_ID.fullmatch(image_id) and _is_time(created_at) and _is_time(since):
            return _Start(Place(created_at, image_id), since)
    except (ValueError, TypeError):  # also of what is no base64, UTF-8 or JSON, or holds other things
        pass
    raise InvalidRequest("This is no cursor of the list newest first.", [_OTHER])


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, float | int) and in_range("created_at", value))
