"""Records and jobs as anybody may have written them: strategies for hypothesis."""

import json
import math
from typing import Any

from hypothesis import strategies as st

from shared.index.records import to_record
from shared.models import Image
from tests.unit.fakes import image_id

ODD_IDS = [image_id(number) for number in range(1, 7)]
KEY = "k1"
OWN = ["id", "source", "format", "width", "height", "bytes", "created_at", "taken_at", "lat", "lon", "nsfw"]
OWN += ["tags", "colors", "key", "_owner", "_sources", "_job", "_jobs", "_phash", "_place"]
FOREIGN = ["shop", "sizes", "job", "and", "near", "a name", "é", "_ours", "x" * 200, "metadata", "sources"]
TEXTS = st.sampled_from(
    ["", " ", "x", "2024-01-01", "e\u0301", "\x00\x1b[31m", "\u202e\u2066", "😀", "{}", "0" * 16,
     "x" * 20_000, "job:0@7", "@", "job@x", "job@" + "9" * 5000, "job@²"]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, 7.5, -0.0, 2**63 - 1, -(2**63), 1e308, -1e308, 5e-324, 1e39, 91.0, 180.1, 640.0,
     # the last second of the year 9999, the first of 10,000, and those of the years 1 and 0
     253_402_300_799.0, 253_402_300_799.9999, 253_402_300_800.0, -62_135_596_800.0, -62_135_596_800.001]
)  # fmt: skip
LISTS = st.one_of(
    st.lists(TEXTS, min_size=1, max_size=3),
    st.lists(st.integers(-5, 2**40), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=1, max_size=3),
)
VALUES = st.booleans() | NUMBERS | TEXTS | LISTS
# What JSON in a text may hold, and Chroma itself may not.
SCALARS = (
    st.none() | VALUES | st.sampled_from([math.nan, math.inf, -math.inf, 2**70, 10**400, "\ud800", "\udc00é"])
)
INSIDE = (
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(FOREIGN), SCALARS, max_size=2)
)
BROKEN = st.sampled_from(
    ["", "{", "null", "1", "[" * 100_000, "9" * 5000, '{"shop": 1e999}', '"x"', '{"a":1}x']
)
EXTRAS = st.dictionaries(st.sampled_from(OWN + FOREIGN), INSIDE, max_size=4).map(json.dumps) | BROKEN
ROWS = st.lists(
    st.tuples(st.integers(0, 3) | INSIDE, TEXTS | INSIDE, TEXTS | INSIDE, INSIDE).map(list) | INSIDE,
    max_size=3,
)
CONTRIBUTIONS = ROWS.map(json.dumps) | BROKEN
KEY_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "key": INSIDE,
        "floor": INSIDE,
        "image_id": st.sampled_from(ODD_IDS) | INSIDE,
        "before": INSIDE,
    },
)
KEY_RECORDS = st.fixed_dictionaries(
    {"image_id": st.sampled_from(ODD_IDS) | VALUES},
    optional={"record": KEY_FIELDS.map(json.dumps) | BROKEN | VALUES},
)


def sound(number: str, **fields: Any) -> Image:
    source = f"https://example.com/{int(number, 16)}.jpg"
    values: dict[str, Any] = {"created_at": 1.7e9, "taken_at": 1.6e9, "lat": 47.4, "lon": 8.5, "nsfw": 0.01}
    values |= {"tags": ["boat"], "colors": ["blue"], "phash": "0" * 16, "metadata": {"shop": "north"}}
    return Image(number, source, [source], "jpeg", 640, 480, 1234, **values | fields)


@st.composite
def records(draw: st.DrawFn, number: str) -> dict[str, Any]:
    """A sound record with some of its values gone, others replaced, and others that are not ours."""
    changes: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(OWN + FOREIGN), st.none() | VALUES, max_size=6)
    )
    for name, odd in (("_extra", EXTRAS), ("_contributions", CONTRIBUTIONS)):
        changes |= draw(st.fixed_dictionaries({}, optional={name: odd | VALUES}))
    record = to_record(sound(number, keys=[KEY]), "job:0") | changes
    return {name: value for name, value in record.items() if value is not None}
