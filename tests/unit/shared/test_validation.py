"""How much an item may say of a picture."""

import pytest

from shared.validation import MAX_METADATA_BYTES, MAX_METADATA_LISTED, json_bytes, metadata_faults


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
