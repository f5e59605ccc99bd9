"""`Collection.newest`: the newest first, each image once from the first page to the last."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from shared.filters.conditions import Where
from shared.filters.parsing import parse_where
from shared.index import pages
from shared.index.collection import Collection
from shared.index.index import Index
from shared.index.pages import Place
from shared.models import Image

NOW = 1_790_000_000.0
Change = Callable[[int], object]


def image_id(number: int) -> str:
    return f"{random.Random(number).getrandbits(256):064x}"


def image(number: int, created_at: float | None, **metadata: Any) -> Image:
    return Image(image_id(number), "s", ["s"], "jpeg", 1, 1, 1, created_at, metadata=metadata)


def fill(collection: Collection, images: Sequence[Image]) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(images), 4)).astype(np.float32)
    collection.upsert(images, vectors, ["job:0"] * len(images))


def made(index: Index, images: Sequence[Image]) -> Collection:
    collection = index.create("newest", model="m", fingerprint="1" * 16, dimension=4)
    shuffled = random.Random(1).sample(images, len(images))  # written out of order, as retries are
    fill(collection, shuffled)
    return collection


def in_order(images: Sequence[Image]) -> list[str]:
    dated = sorted((-one.created_at, one.id) for one in images if one.created_at is not None)
    return [one for _, one in dated] + sorted(one.id for one in images if one.created_at is None)


def listed(
    collection: Collection, limit: int, where: Where | None = None, between: Change = lambda _: None
) -> list[str]:
    """The ids of all pages, with a change of the collection after each."""
    found: list[str] = []
    after, since = None, None
    while page := collection.newest(after, limit, where, since):
        assert len(page) <= limit
        found += [one.id for one in page]
        after, since = Place(page[-1].created_at, page[-1].id), page[-1].created_at
        between(len(found))
    return found


def spread(count: int) -> list[Image]:
    """Images of several rates: in bursts of a second, with gaps of months, times of more than 15 digits."""
    draw = random.Random(0)
    starts = [NOW - 10_000_000 * burst for burst in range(4)]
    return [image(n, starts[n % 4] - draw.random(), draw=n / count) for n in range(count)]


@pytest.mark.parametrize(("count", "limit"), [(150, 3), (400, 100), (400, 1_000)])
def test_pages_newest_first_have_each_image_once(index: Index, count: int, limit: int) -> None:
    images = spread(count)
    assert listed(made(index, images), limit) == in_order(images)


def test_images_of_one_time_follow_by_their_ids(index: Index) -> None:
    images = [image(n, NOW - n // 100) for n in range(200)]
    assert listed(made(index, images), 3) == in_order(images)


def test_many_of_one_time_are_not_all_read(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = made(index, [image(n, NOW) for n in range(400)])
    read: list[str] = []
    real = pages.read_records
    monkeypatch.setattr(pages, "read_records", lambda chroma, ids: read.extend(ids) or real(chroma, ids))
    assert len(collection.newest(Place(NOW, "8"), 3, None)) == 3
    assert len(read) < 200


def test_images_without_a_time_come_last(index: Index) -> None:
    odd = [image(n, None) for n in range(200, 207)]
    images = [image(n, -1e6 * n - 0.5) for n in range(20)] + odd
    assert listed(made(index, images), 4) == in_order(images)


def test_times_that_no_answer_can_say_count_as_none(index: Index) -> None:
    collection = made(index, [image(1, NOW), image(2, NOW - 1)])
    far = {"created_at": 1e300}
    collection._run(lambda chroma: chroma.update([image_id(1)], metadatas=[far | {"_extra": ""}]))
    assert listed(collection, 1) == [image_id(2), image_id(1)]


@pytest.mark.parametrize(
    "filters",
    [
        {"draw": {"lt": 0.02}},
        {"draw": {"gte": 0.1}},
        {"not": {"draw": {"lt": 0.5}}},
        {"width": {"gte": 2}},
        {"created_at": {"lt": "2026-08-01"}},
    ],
)
def test_filters_leave_what_matches_in_order(
    index: Index, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    monkeypatch.setattr(pages, "_FEW", 20)
    images = [*spread(300), image(300, None, draw=0.9), image(301, None)]
    where = parse_where(filters)
    assert where is not None
    expected = in_order([one for one in images if where.matches(one)])
    assert listed(made(index, images), 14, where) == expected


def test_what_is_there_all_along_is_listed_once_whatever_comes_and_goes(index: Index) -> None:
    images = spread(300)
    collection = made(index, images)
    gone = [one.id for one in images[::10]]

    def change(done: int) -> None:
        fill(collection, [image(10_000 + done * 10 + n, NOW + done + n) for n in range(5)])
        fill(collection, [image(20_000 + done, NOW - 5e6 - done)])
        collection.delete(gone[done // 20 : done // 20 + 1])

    found = listed(collection, 20, between=change)
    assert len(found) == len(set(found))
    kept = [one for one in in_order(images) if one not in gone]
    assert [one for one in found if one in set(kept)] == kept


def test_a_picture_newer_than_all_is_first_although_the_page_before_is_remembered(index: Index) -> None:
    collection = made(index, spread(300))
    assert len(collection.newest(None, 10, None)) == 10
    fill(collection, [image(1_000 + n, NOW + n) for n in range(200)])
    assert [one.id for one in collection.newest(None, 10, None)] == [
        image_id(n) for n in range(1_199, 1_189, -1)
    ]
    collection.delete([image_id(1_000 + n) for n in range(200)])
    assert [one.id for one in collection.newest(None, 10, None)] == in_order(spread(300))[:10]


def test_an_empty_collection_has_no_newest(index: Index) -> None:
    assert made(index, []).newest(None, 10, None) == []
