"""é is one character or two: what compares in NFC, what is kept as given, what earlier versions stored."""

import hashlib
import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from api.search.facets import count_values
from shared.filters.parsing import parse_where
from shared.index.collection import Collection
from shared.index.connection import calls
from shared.index.index import Index
from shared.index.provenance import KeyRecord
from shared.index.records import to_record
from shared.index.write_batch import WriteBatch
from shared.models import Image
from tests.contract.test_keys import DIMENSION, MODEL, add, image, image_id, vector

COMPOSED, DECOMPOSED = "Z\u00fcrich \u00c5", "Zu\u0308rich A\u030a"
MIXED = "Zu\u0308rich \u212b"  # with the Ångström sign, whose NFC is Å: neither NFC nor NFD
FORMS = [COMPOSED, DECOMPOSED, MIXED]


@pytest.fixture
def collection(index: Index) -> Collection:
    return index.create("images", **MODEL, dimension=DIMENSION)


def found(collection: Collection, condition: Any) -> list[int]:
    """Return the numbers of the images that a search finds; the list of images finds the same."""
    where = parse_where(condition)
    hits = collection.search(vector(1), limit=9, where=where)
    narrowed = where.to_chroma()
    with calls(5.0):
        chroma = collection._index.open("images").chroma
        selected = set(chroma.get(where=narrowed, include=[])["ids"])
    numbers = sorted(int(hit.image.id[16:]) for hit in hits)
    assert {hit.image.id for hit in hits} <= selected
    assert sorted(int(one.id[16:]) for one in collection.page("", 9, where)) == numbers
    return numbers


def as_before(collection: Collection, *images: Image) -> None:
    """Store images as earlier versions did: texts and keys as they came."""
    rows = []
    for one in images:
        texts = {name: value for name, value in one.metadata.items() if isinstance(value, str | list)}
        lists = {"_sources": one.sources, "key": one.keys} if one.keys else {"_sources": one.sources}
        row = to_record(one, "job:1@1") | texts | lists | {"source": one.source}
        rows.append({name: value for name, value in row.items() if name != "_extra"})
    with calls(5.0):
        opened = collection._index.open("images")
        opened.chroma.upsert([one.id for one in images], [vector(1)] * len(images), rows)


def key_as_before(collection: Collection, key: str, holder: str) -> None:
    record = json.dumps({"key": key, "floor": 0, "image_id": holder, "before": []})
    with calls(5.0):
        keys = collection._index.make(collection.pointer.keys)
        key_id = hashlib.sha256(key.encode()).hexdigest()
        keys.upsert([key_id], np.ones((1, 2), np.float32), [{"record": record, "image_id": holder}])


def test_texts_are_kept_as_given_and_found_in_any_form(collection: Collection) -> None:
    images = [
        image(number, source=f"{form}.jpg", city=form, places=["x", form], n=number)
        for number, form in enumerate(FORMS, 1)
    ]
    add(collection, *enumerate(images, 1))
    add(collection, (9, image(9, source="Basel.jpg", city="Basel", places=["Basel"])))
    for one in images:
        assert collection.get(one.id) == one or collection.get(one.id).metadata == one.metadata
        assert collection.get(one.id).source == one.source
        assert collection.get(one.id).sources == one.sources
    for form in FORMS:
        for condition in ({"city": form}, {"places": {"in": ["y", form]}}, {"source": f"{form}.jpg"}):
            assert found(collection, condition) == [1, 2, 3], condition
            assert found(collection, {"not": condition}) == [9]
        assert found(collection, {"city": {"nin": [form]}}) == [9]
        assert found(collection, {"city": {"gte": form, "lte": form}}) == [1, 2, 3]
    counted, _ = count_values(images, ["city", "places", "source"])
    assert {name: [(one.value, one.count) for one in counts] for name, counts in counted.items()} == {
        "city": [(COMPOSED, 3)],
        "places": [(COMPOSED, 3), ("x", 3)],
        "source": [(f"{COMPOSED}.jpg", 3)],
    }
    names = collection.survey(None).names
    assert names["city"].values == [(COMPOSED, 3), ("Basel", 1)]
    assert names["places"].values == [(COMPOSED, 3), ("x", 3), ("Basel", 1)]


def test_a_change_keeps_the_other_texts_as_given(collection: Collection) -> None:
    add(collection, (1, image(1, source=DECOMPOSED, city=MIXED)))
    batch = WriteBatch(collection, ids=[image_id(1)])
    batch.change(image_id(1), 2, {"n": 1, "place": DECOMPOSED})
    batch.save(lambda: None)
    assert collection.get(image_id(1)).metadata == {"city": MIXED, "n": 1, "place": DECOMPOSED}
    assert collection.get(image_id(1)).sources == [DECOMPOSED]
    assert found(collection, {"city": COMPOSED, "place": COMPOSED, "source": COMPOSED}) == [1]


@pytest.mark.parametrize("stored", FORMS)
def test_what_earlier_versions_stored_is_found_by_nfc_nfd_and_as_it_was_given(
    collection: Collection, stored: str
) -> None:
    as_before(collection, image(1, source=stored, city=stored, places=[stored]))
    assert collection.get(image_id(1)).metadata["city"] == stored
    for field, asked in product(["city", "places", "source"], FORMS):
        if stored != MIXED or asked == MIXED:
            assert found(collection, {field: asked}) == [1], (field, asked)
        assert found(collection, {field: {"ne": asked}}) == [], (field, asked)


@pytest.mark.parametrize("given", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_a_key_is_one_in_every_form(collection: Collection, given: str, asked: str) -> None:
    add(collection, (1, image(1, given)), (2, image(2, "other")))
    held = collection.by_key(asked)
    assert held is not None
    assert (held.image.id, held.image.keys, held.key_versions(COMPOSED)) == (image_id(1), [COMPOSED], [1])
    assert found(collection, {"key": asked}) == [1]
    add(collection, (3, image(3, asked)))
    assert sorted(collection.ids()) == sorted([image_id(2), image_id(3)])
    batch = WriteBatch(collection, keys=[given])
    assert batch.remove_key(given, 4)
    batch.save(lambda: None)
    assert collection.by_key(asked) is None
    assert list(collection.ids()) == [image_id(2)]


@pytest.mark.parametrize(
    ("stored", "asked"), [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED), (MIXED, MIXED)]
)
def test_a_key_of_an_earlier_version_is_found_replaced_and_deleted(
    collection: Collection, stored: str, asked: str
) -> None:
    def before() -> None:
        as_before(collection, image(1, stored))
        key_as_before(collection, stored, image_id(1))

    before()
    held = collection.by_key(asked)
    assert held is not None
    assert held.image.id == image_id(1)
    assert found(collection, {"key": asked}) == [1]
    batch = WriteBatch(collection, keys=[asked])
    assert batch.remove_key(asked, 5)
    batch.save(lambda: None)
    assert collection.by_key(asked) is None
    assert list(collection.ids()) == []
    if asked != MIXED:  # of that only the key in NFC is left when an item brings it
        before()
        add(collection, (7, image(2, asked)))
        assert list(collection.ids()) == [image_id(2)]


def test_two_keys_of_an_earlier_version_that_are_one_now_point_at_the_later_picture(
    collection: Collection,
) -> None:
    as_before(collection, image(1, COMPOSED), image(2, DECOMPOSED))
    key_as_before(collection, COMPOSED, image_id(1))
    key_as_before(collection, DECOMPOSED, image_id(2))
    (record,) = collection.key_records([COMPOSED]).values()
    assert (record.key, sorted(record.candidates)) == (COMPOSED, sorted([image_id(1), image_id(2)]))
    assert collection.by_key(DECOMPOSED) is not None
    add(collection, (7, image(3, DECOMPOSED)))
    held = collection.by_key(COMPOSED)
    assert held is not None
    assert held.image.id == image_id(3)
    assert list(collection.ids()) == [image_id(3)]
    assert collection.key_records([COMPOSED])[COMPOSED].image_id == image_id(3)


def test_joined_records_keep_the_later_floor_and_every_candidate() -> None:
    one, other = KeyRecord(COMPOSED, 3, "a", ("b",)), KeyRecord(DECOMPOSED, 5, "", ("b", "c"))
    assert one.joined(other) == KeyRecord(COMPOSED, 5, "a", ("b", "c"))
    assert KeyRecord("k").joined(KeyRecord("k", 2)) == KeyRecord("k", 2)
