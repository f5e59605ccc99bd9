"""Reading records: whatever is stored, an Image has only what the API can say."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from api.images.answers import image_answer
from api.search.facets import count_values
from shared.index.provenance import (
    Contribution,
    KeyRecord,
    assembled,
    key_from_record,
    key_to_record,
    of_image,
)
from shared.index.records import from_record, pointer_of, records_of, stored_image, to_record
from shared.models import Image
from shared.validation import FIELDS
from tests.odd_records import KEY, KEY_RECORDS, ODD_IDS, records, sound
from tests.unit.fakes import image_id


@settings(max_examples=300, derandomize=True)
@given(stored=records(ODD_IDS[0]))
def test_any_record_is_an_image_that_can_be_answered_and_written_again(stored: dict[str, Any]) -> None:
    (record,) = records_of([ODD_IDS[0]], [stored])
    read = stored_image(record)
    answer = image_answer(read.image, "images").model_dump()
    assert "NaN" not in (text := json.dumps(answer))
    assert "Infinity" not in text
    count_values([read.image], [*FIELDS, "shop", "job"])  # type: ignore[list-item]
    written = to_record(read.image, read.owner, read.contributions)
    (again,) = records_of([ODD_IDS[0]], [json.loads(json.dumps(written))])
    assert stored_image(again) == read


@given(stored=KEY_RECORDS)
def test_any_key_record_is_one_of_the_key(stored: dict[str, Any]) -> None:
    read = key_from_record(KEY, stored)
    assert (read.key, isinstance(read.floor, int)) == (KEY, True)
    assert all(isinstance(one, str) for one in read.candidates)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"width": -1, "height": "x", "bytes": 7.5}, {"width": None, "height": None, "bytes": None}),
        ({"width": 640.0, "height": True, "bytes": math.nan}, {"width": 640, "height": None, "bytes": None}),
        ({"taken_at": 253_402_300_800.0, "created_at": "now"}, {"taken_at": None, "created_at": None}),
        ({"source": ["a"], "_sources": "b"}, {"source": "b", "sources": ["b"]}),
        ({"source": None, "_sources": None}, {"source": "", "sources": []}),
        ({"tags": "cat", "colors": [1, 2], "key": "k"}, {"tags": ["cat"], "colors": [], "keys": ["k"]}),
        ({"_extra": '{"shop": "\\ud800", "source": "a\\ud800", "n": NaN}'}, {"source": "a\ufffd"}),
        ({"_extra": "{", "_phash": 5, "_job": ["x"], "_jobs": []}, {"phash": None, "jobs": ["x"]}),
        ({"sizes": [1], "big": 2**70, "a b": "x", "chroma:document": "x"}, {"metadata": {"shop": "north"}}),
    ],
)
def test_an_odd_field_costs_itself_alone(stored: dict[str, Any], shown: dict[str, Any]) -> None:
    record = to_record(sound(image_id(1)), "job:0") | stored
    image = from_record({name: value for name, value in record.items() if value is not None})
    assert {name: getattr(image, name) for name in shown} == shown
    assert image.lat == 47.4


def test_odd_contributions_are_left_out_and_without_any_the_image_speaks() -> None:
    record = to_record(sound(image_id(1)), "job:0@7")
    rows: list[Any] = [
        [3, "a", "e\u0301", {"n": 1, "a b": 2}],
        [1, None, None, {"n": None}],
        "x",
        [1, 2, 3, 4],
    ]
    read = stored_image(record | {"_contributions": json.dumps(rows)}).contributions
    assert read == (Contribution(3, "a", "\u00e9", {"n": 1}), Contribution(1, metadata={"n": None}))
    for broken in ("{", "5", json.dumps(rows[1:]), 7, ["x"]):
        (own,) = stored_image(record | {"_contributions": broken}).contributions
        assert (own.version, own.source) == (7, "https://example.com/1.jpg")
    for owner, version in (("job:0", 0), ("job:0@x", 0), ("@12", 12), (5, 0), ("job:0@" + "9" * 5000, 0)):
        assert stored_image(record | {"_owner": owner}).contributions[0].version == version


def test_the_record_of_a_picture_of_one_entry_names_its_source_and_nothing_more() -> None:
    one = sound(image_id(1))
    made_of = of_image(one, 7, "shop")
    record = to_record(one, "job:0", made_of)
    assert record == to_record(one, "job:0", of_image(one, 7)) | {"_of": "shop"}
    assert stored_image(record).contributions == made_of
    assert all(said.of is None for said in stored_image(record | {"_of": 5}).contributions)


def test_a_picture_of_several_sources_keeps_which_said_what() -> None:
    made_of = (
        Contribution(1, "u", None, {}, "shop"),
        Contribution(3, "u", "k", {"n": 1}),
        Contribution(4, None, None, {"n": 2}),
    )
    whole = assembled(sound(image_id(1)), made_of)
    assert whole is not None
    record = to_record(whole, "job:0", made_of)
    assert [len(row) for row in json.loads(record["_contributions"])] == [5, 4, 4]
    assert stored_image(record).contributions == made_of


def test_a_damaged_key_record_still_names_its_picture() -> None:
    assert key_from_record("k", {"record": "{", "image_id": "a"}) == KeyRecord("k", 0, "a")
    assert key_from_record("k", {"record": '{"floor": "x", "before": ["b", 5]}'}) == KeyRecord(
        "k", 0, "", ("b",)
    )


def test_the_record_of_a_key_says_what_a_source_has_withdrawn_only_where_one_has() -> None:
    assert "held" not in key_to_record(KeyRecord("k", 3, "a"))["record"]
    held = KeyRecord("k", 3, "a", ("b",), held=5)
    assert key_from_record("k", key_to_record(held)) == held
    assert key_from_record("k", {"record": '{"held": "x", "image_id": "a"}'}) == KeyRecord("k", 0, "a")
    joined = KeyRecord("k", 3, "a", ("c", "b"), held=5)
    assert held.joined(KeyRecord("k", 1, "c")) == KeyRecord("k", 1, "c").joined(held)
    assert held.joined(KeyRecord("k", 1, "c")) == replace(joined, before=("b", "c"))


def test_a_record_has_the_id_under_which_it_lies() -> None:
    (bare, moved) = records_of(["a", "b"], [None, {"id": "c", "shop": "north"}])
    assert from_record(bare) == Image("a", "", [], "", None, None, None)
    assert (from_record(moved).id, from_record(moved).metadata) == ("b", {"shop": "north"})


def test_what_is_no_pointer_is_no_collection() -> None:
    assert pointer_of("images", None) is None
    assert pointer_of("images", {"physical": "x", "other": 1}) is None
