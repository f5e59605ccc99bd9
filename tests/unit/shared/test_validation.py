"""How much an item may say of a picture."""

import random
import unicodedata
from collections.abc import Callable
from time import process_time
from typing import Literal

import pytest

from shared.tables.columns import metadata_names
from shared.urls.redaction import redacted
from shared.validation import (
    MAX_METADATA_BYTES,
    MAX_METADATA_LISTED,
    forms,
    json_bytes,
    metadata_faults,
    nfc,
    normalized,
)


@pytest.mark.parametrize("character", ["x", "é", "🐘", "\udc80"])
def test_metadata_is_limited_in_bytes_together(character: str) -> None:
    width = len(character.encode("utf-8", "surrogatepass"))
    room = (MAX_METADATA_BYTES - len('{"a":"","b":["",""]}')) // width
    most = {"a": character * (room - 100), "b": [character * 50, character * 50]}
    assert list(metadata_faults(most, "metadata")) == []
    (fault,) = metadata_faults(most | {"a": most["a"] + 4 * "x"}, "items", 3, "metadata")
    assert fault["pointer"] == "/items/3/metadata"
    assert fault["message"].endswith("bytes as JSON; at most 65,536 are allowed")


def test_a_value_that_cannot_be_one_is_told_before_the_size() -> None:
    faults = list(metadata_faults({"a": "x" * MAX_METADATA_BYTES, "b": 10**5000}))
    assert [fault["pointer"] for fault in faults] == ["/b"]


def test_bytes_are_counted_as_they_would_be_sent() -> None:
    assert json_bytes({"a": "é"}) == len('{"a":"é"}'.encode())


def test_texts_in_lists_are_limited_in_number_together() -> None:
    half = MAX_METADATA_LISTED // 2
    assert list(metadata_faults({"a": [""] * half, "b": [""] * half, "c": ""})) == []
    (fault,) = metadata_faults({"a": [""] * half, "b": [""] * (half + 1)}, "items", 3, "metadata")
    assert fault["pointer"] == "/items/3/metadata"
    assert fault["message"] == "has 1,001 texts in lists; at most 1,000 are allowed"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_a_text_s_form_is_unicode_s_whatever_its_length(form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    random.seed(7)
    changing = [char for code in range(0x20, 0x30000) if _changes(char := chr(code))]
    for _ in range(200):
        text = "".join(random.choices([*changing, *"aé각한\u1100\u1161\u11a8"], k=random.randint(1, 900)))
        assert normalized(form, text) == unicodedata.normalize(form, text)


def _changes(char: str) -> bool:
    return bool(unicodedata.combining(char) or unicodedata.decomposition(char))


# Marks out of order, also such that are only after they were taken apart; what becomes 18 characters.
@pytest.mark.parametrize("flood", ["\u0301\u0323", "\u0301\u0f73", "\u0301\uff9e", "\ufdfa"])
@pytest.mark.parametrize(
    "reads", [nfc, forms, redacted, lambda text: metadata_names([text], [0], set(), set())]
)
def test_a_flood_of_marks_costs_no_more_than_another_text(reads: Callable[[str], object], flood: str) -> None:
    began = process_time()
    reads("a" + flood * (80_000 // len(flood)))
    assert process_time() - began < 5  # by Python's own way alone: half a minute
