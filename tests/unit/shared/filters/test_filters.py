"""What filters mean, what is refused, and that Chroma's narrowing never loses a picture that matches."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.filters import parsing
from shared.filters.conditions import Where
from shared.filters.parsing import parse_where
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.models import Image
from tests.unit.fakes import index_in

PICTURE = Image(
    id="a" * 64,
    source="https://example.com/a.jpg",
    sources=["https://example.com/a.jpg", "https://example.org/b.jpg"],
    format="jpeg",
    width=1024,
    height=768,
    bytes=1000,
    created_at=1_700_000_000.5,
    taken_at=1_704_067_200.0,  # 2024-01-01T00:00:00Z
    lat=47.37,
    lon=8.54,
    metadata={
        "shop": "north",
        "stock": 3,
        "price": 9.5,
        "sold": True,
        "labels": ["red", "car"],
        "none": [],
        "job": "cleaner",
    },
    jobs=["first", "second"],
)

NEAR = ("lat", "lon", "radius_km")


def matches(condition: object, image: Image = PICTURE) -> bool:
    return parse_where(condition).matches(image)


def faults(condition: object) -> list[str]:
    with pytest.raises(InvalidRequest) as raised:
        parse_where(condition)
    assert all(error["message"] for error in raised.value.errors)
    return [error["pointer"] for error in raised.value.errors]


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"shop": "north"},
        {"shop": {"eq": "north"}, "stock": 3},
        {"stock": 3.0},
        {"stock": {"gt": 2.5, "lte": 3}},
        {"price": {"gte": 9}},
        {"shop": {"gte": "n", "lt": "o"}},
        {"sold": True},
        {"labels": "car"},
        {"job": "second"},
        {"job": {"in": ["other", "first"]}},
        {"job": "cleaner"},
        {"not": {"job": "other"}},
        {"labels": {"in": ["blue", "red"]}},
        {"shop": {"in": ["south", "north", 3, True]}},
        {"source": "https://example.org/b.jpg"},
        {"id": "a" * 64, "format": "jpeg", "width": {"gte": 1024}, "bytes": {"lt": 1001}},
        {"taken_at": "2024-01-01"},
        {"taken_at": {"gte": "2024-01-01T01:00:00+01:00", "lt": "2024-01-01T00:00:00.000001Z"}},
        {"taken_at": "2024-01-01t00:00:00"},
        {"created_at": {"gt": "2023-11-14T22:13:20Z", "lt": "2023-11-14T22:13:20.75Z"}},
        {"or": [{"shop": "south"}, {"stock": 3}]},
        {"and": [{"shop": "north"}, {"not": {"stock": 4}}]},
        {"not": {"shop": "north", "stock": 4}},
        {"near": {"lat": 47.4, "lon": 8.5, "radius_km": 5}},
    ],
)
def test_a_picture_that_fulfils_the_condition_matches(condition: object) -> None:
    assert matches(condition)


@pytest.mark.parametrize(
    "condition",
    [
        {"shop": "NORTH"},
        {"shop": "north", "stock": 4},
        {"stock": {"gt": 3}},
        {"labels": "ca"},
        {"labels": {"ne": "car"}},
        {"labels": {"nin": ["blue", "car"]}},
        {"shop": {"ne": "north"}},
        {"shop": {"nin": ["north"]}},
        {"shop": {"in": []}},
        {"nonesuch": "x"},
        {"nonesuch": {"gte": 0}},
        {"none": "red"},
        {"nsfw": {"lte": 1}},
        {"tags": "cat"},
        {"taken_at": {"lt": "2024-01-01"}},
        {"near": {"lat": 47.4, "lon": 8.5, "radius_km": 4}},
        {"not": {}},
    ],
)
def test_a_picture_that_does_not_fulfil_the_condition_does_not_match(condition: object) -> None:
    assert not matches(condition)


@pytest.mark.parametrize("field", ["nonesuch", "none", "tags", "nsfw"])
def test_ne_nin_and_not_match_pictures_that_lack_the_field(field: str) -> None:
    value: Any = 1 if field == "nsfw" else "x"
    assert matches({field: {"ne": value}})
    assert matches({field: {"nin": [value]}})
    assert matches({"not": {field: {"gt": value} if field != "tags" else value}})


@pytest.mark.parametrize(
    "condition", [{"stock": "3"}, {"stock": True}, {"shop": {"gt": 0}}, {"price": {"lt": "z"}}, {"sold": 1}]
)
def test_a_value_of_another_type_does_not_match_but_is_different(condition: dict[str, Any]) -> None:
    assert not matches(condition)
    assert matches({"not": condition})


SIGNED = "https://u:p@h/a.jpg?w=1&X-Amz-Signature=1"


@pytest.mark.parametrize("stored", ["https://REDACTED@h/a.jpg?w=1&X-Amz-Signature=REDACTED", SIGNED])
def test_a_source_is_found_by_the_url_that_was_given(stored: str) -> None:
    """The latter is what earlier versions stored."""
    found = replace(PICTURE, source=stored, sources=[stored])
    for condition in ({"source": SIGNED}, {"source": {"in": ["x", SIGNED]}}):
        assert matches(condition, found)
        assert not matches({"not": condition}, found)
        assert stored in json.dumps(parse_where(condition).to_chroma())
    assert not matches({"source": SIGNED.replace("/a", "/b")}, found)
    assert matches({"shop": SIGNED}, replace(found, metadata={"shop": SIGNED}))


def test_a_text_is_the_same_in_every_form() -> None:
    named = replace(PICTURE, metadata={"city": "Zu\u0308rich"}, source="e\u0301.jpg", keys=["\u212b"])
    for city in ("Z\u00fcrich", "Zu\u0308rich"):
        assert matches({"city": city, "source": "\u00e9.jpg", "key": "A\u030a"}, named)
        assert matches({"city": {"gte": city, "lte": city}}, named)
        assert not matches({"city": {"ne": city}}, named)
    assert not matches({"city": "Zurich"}, named)
    assert (
        json.dumps(parse_where({"shop": "north"}).to_chroma()).count("north") == 2
    )  # as value and in a list


def test_truth_values_are_no_numbers_in_ranges() -> None:
    assert not matches({"sold": {"gte": 0}})


@pytest.mark.parametrize(
    ("at", "point", "distance_km"),
    [
        ((0.0, 179.9), (0.0, -179.9), 22.24),
        ((89.9, 0.0), (89.9, 180.0), 22.24),
        ((-90.0, 12.0), (-89.9, -100.0), 11.12),
        ((48.8566, 2.3522), (51.5074, -0.1278), 343.6),
        ((0.0, 0.0), (0.0, 180.0), 20015.1),
    ],
)
def test_near_measures_along_the_great_circle(
    at: tuple[float, float], point: tuple[float, float], distance_km: float
) -> None:
    image = replace(PICTURE, lat=at[0], lon=at[1])
    for factor, expected in ((1.001, True), (0.999, False)):
        near = {"lat": point[0], "lon": point[1], "radius_km": distance_km * factor}
        assert matches({"near": near}, image) is expected


def test_near_does_not_match_a_picture_without_a_place() -> None:
    assert not matches({"near": {"lat": 0, "lon": 0, "radius_km": 30_000}}, replace(PICTURE, lat=None))


@pytest.mark.parametrize(
    ("condition", "pointers"),
    [
        ("x", ["/filters"]),
        (None, ["/filters"]),
        ({"width": {"above": 3}}, ["/filters/width/above"]),
        ({"width": {}}, ["/filters/width"]),
        ({"width": "wide"}, ["/filters/width"]),
        ({"width": {"gte": True}}, ["/filters/width/gte"]),
        ({"format": {"in": ["png", 3, None]}}, ["/filters/format/in/1", "/filters/format/in/2"]),
        ({"format": {"in": "png"}}, ["/filters/format/in"]),
        ({"shop": ["north"]}, ["/filters/shop"]),
        ({"shop": None}, ["/filters/shop"]),
        ({"shop": {"gt": False}}, ["/filters/shop/gt"]),
        ({"shop": "\ud800"}, ["/filters/shop"]),
        ({"shop": math.inf}, ["/filters/shop"]),
        ({"tags": {"gt": "a"}}, ["/filters/tags/gt"]),
        ({"1st": 1}, ["/filters/1st"]),
        ({"_owner": "x"}, ["/filters/_owner"]),
        ({"shop\n": "x"}, ["/filters/shop\n"]),
        ({"x" * 64: 1}, ["/filters/" + "x" * 64]),
        ({"a/b~c": 1}, ["/filters/a~1b~0c"]),
        ({"or": []}, ["/filters/or"]),
        ({"and": {"shop": "x"}}, ["/filters/and"]),
        ({"not": 3}, ["/filters/not"]),
        ({"or": [{"shop": "x"}, {"width": "y"}]}, ["/filters/or/1/width"]),
        ({"taken_at": {"gte": "2024-02-30"}}, ["/filters/taken_at/gte"]),
        ({"taken_at": {"gte": "2024-01-01T25:00:00Z"}}, ["/filters/taken_at/gte"]),
        ({"taken_at": "yesterday", "created_at": 3}, ["/filters/taken_at", "/filters/created_at"]),
        ({"near": 3}, ["/filters/near"]),
        ({"near": {"lat": 91, "lon": 181, "radius_km": -1}}, [f"/filters/near/{n}" for n in NEAR]),
        ({"near": {"lat": "1", "lon": True, "radius_km": math.nan}}, [f"/filters/near/{n}" for n in NEAR]),
        ({"near": {"lat": 1, "lon": 1}}, ["/filters/near"]),
        ({"near": {"lat": 1, "lon": 1, "radius_km": 1, "unit": "m"}}, ["/filters/near/unit"]),
        ({"shop": {"in": ["x"] * (parsing.MAX_VALUES + 1)}}, ["/filters/shop/in"]),
    ],
)
def test_a_malformed_filter_is_refused_with_a_pointer_to_each_fault(
    condition: object, pointers: list[str]
) -> None:
    assert faults(condition) == pointers


def test_the_pointer_starts_where_the_filter_stands() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_where({"width": "x"}, "/query/filters")
    assert raised.value.errors[0]["pointer"] == "/query/filters/width"


def test_depth_and_size_are_bounded() -> None:
    deep: dict[str, Any] = {"shop": "x"}
    for _ in range(parsing.MAX_DEPTH - 1):
        deep = {"not": deep}
    parse_where(deep)
    assert faults({"not": deep}) == ["/filters" + "/not" * parsing.MAX_DEPTH]
    wide = {f"f{number}": number for number in range(parsing.MAX_CONDITIONS)}
    parse_where(wide)
    assert faults(wide | {"more": 1}) == ["/filters"]


def test_whatever_a_request_may_hold_is_a_filter_or_an_invalid_request() -> None:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    names = (
        st.sampled_from(["or", "and", "not", "near", "lat", "width", "x", "gt", "in", "taken_at"]) | st.text()
    )
    documents = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
    )

    @given(documents)
    def parses(document: object) -> None:
        try:
            where = parse_where(document)
        except InvalidRequest as refused:
            assert refused.errors
        else:
            assert isinstance(where.matches(PICTURE), bool)
            json.dumps(where.to_chroma())

    parses()


def test_what_chroma_cannot_take_is_not_narrowed() -> None:
    assert parse_where({"shop": {"gt": "a"}}).to_chroma() is None
    assert parse_where({"shop": {"in": [str(n) for n in range(parsing.MAX_VALUES)]}}).to_chroma() is None
    assert parse_where({"or": [{"shop": "a"}, {"shop": {"gt": "a"}}]}).to_chroma() is None
    assert parse_where({"width": {"gte": 5}, "shop": {"gt": "a"}}).to_chroma() == {"width": {"$gte": 5}}


FINITE = st.one_of(
    st.sampled_from([-3, -1, -0.5, 0, 0.0, 0.5, 1, 1.0, 1.5, 2]),
    st.sampled_from([2**53, 2**53 + 1, 2.0**53, -(2**62), 2**63, 2**70, -(10**400), 1e300, 5e-324]),
    st.sampled_from([1_700_162_100.3100255, 0.1 + 0.2, 0.3, 1.0000000000000002, 0.9999999999999999]),
)
NUMBERS = FINITE | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.sampled_from(["", "a", "b", "1", "é😀", "e\u0301😀", "\u212b", "\u00c5", "\u212a", "K"])
SCALARS = st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.floats() | st.lists(TEXTS, max_size=2)
LATITUDES, LONGITUDES = (
    st.sampled_from([-90.0, -1.0, 0.0, 1.0, 89.9]),
    st.sampled_from([-180.0, -179.9, 0.0, 179.9]),
)
METADATA_NAMES = st.sampled_from(["u", "v"])
INSTANTS = ["1970-01-01", "1970-01-01T00:00:01.5Z", "1969-12-31T23:59:59Z"]


@st.composite
def images(draw: st.DrawFn) -> Image:
    located = draw(st.booleans())
    return Image(
        id="",
        source=draw(TEXTS),
        sources=draw(st.lists(TEXTS, max_size=2)),
        format=draw(st.sampled_from(["png", "jpeg"])),
        width=draw(st.integers(0, 3)),
        height=1,
        bytes=1,
        created_at=draw(st.sampled_from([-1.0, 0.0, 1.0, 1.5, 1.75])),
        taken_at=draw(st.none() | st.sampled_from([-1.0, 0.0, 1.5])),
        lat=draw(LATITUDES) if located else None,
        lon=draw(LONGITUDES) if located else None,
        metadata=draw(st.dictionaries(METADATA_NAMES, VALUES, max_size=2)),
    )


def comparisons(values: st.SearchStrategy[Any], *, ordered: bool = True) -> st.SearchStrategy[Any]:
    ranges = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), values, min_size=1, max_size=2)
    equal = st.dictionaries(st.sampled_from(["eq", "ne"]), values, min_size=1)
    among = st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(values, max_size=3), min_size=1)
    return values | equal | among | (ranges if ordered else st.nothing())


CONDITIONS = st.one_of(
    st.builds(lambda name, c: {name: c}, METADATA_NAMES, comparisons(SCALARS, ordered=False)),
    st.builds(lambda name, c: {name: c}, METADATA_NAMES, comparisons(NUMBERS | TEXTS)),
    st.builds(lambda c: {"width": c}, comparisons(NUMBERS)),
    st.builds(lambda c: {"lat": c}, comparisons(NUMBERS)),
    st.builds(lambda c: {"source": c}, comparisons(TEXTS, ordered=False)),
    st.builds(lambda c: {"tags": c}, comparisons(TEXTS, ordered=False)),
    st.builds(
        lambda name, c: {name: c},
        st.sampled_from(["taken_at", "created_at"]),
        comparisons(st.sampled_from(INSTANTS)),
    ),
    st.builds(
        lambda lat, lon, radius: {"near": {"lat": lat, "lon": lon, "radius_km": radius}},
        LATITUDES,
        LONGITUDES,
        st.sampled_from([0, 12, 112, 9_000, 30_000]),
    ),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.builds(lambda part: {"not": part}, inner)
        | st.builds(
            lambda name, parts: {name: parts},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        )
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    index = index_in(tmp_path_factory.mktemp("chroma"))
    return index.create("filters", model="m", fingerprint="f" * 16, dimension=1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    pictures=st.lists(images(), min_size=1, max_size=12),
    conditions=st.lists(FILTERS, min_size=1, max_size=12),
)
def test_every_picture_that_matches_is_among_what_chroma_selects(
    collection: Collection, pictures: list[Image], conditions: list[Any]
) -> None:
    stored = [replace(image, id=f"{number:064x}") for number, image in enumerate(pictures)]
    collection.delete([f"{number:064x}" for number in range(12)])
    collection.upsert(stored, np.ones((len(stored), 1), np.float32), ["job:0"] * len(stored))
    with index_module.calls(5.0):
        chroma = collection._index.open("filters").chroma
    for condition in conditions:
        where: Where = parse_where(condition)
        selected = set(chroma.get(where=where.to_chroma(), include=[])["ids"])
        assert {image.id for image in stored if where.matches(image)} <= selected, condition
