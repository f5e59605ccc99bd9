import pytest

from image_search.models.image_files import (
    HEAD_BYTES,
    Skipped,
    has_image_suffix,
    is_hidden,
    is_image,
    suffix_of,
)
from tests.sample_files import samples


def test_every_sample_of_every_format_begins_as_a_picture() -> None:
    assert [name for name, data in samples().items() if not is_image(data[:HEAD_BYTES])] == []


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{}",
        b"BMW is a car of a kind",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x14ftypqt  \0\0\0\0",
        b"\0\0\0\x14ftypisom\0\0\0\0",
        b"\xd0\xcf\x11\xe0",
        b"PK\x03\x04",
        b"%PDF-1.7",
        b"<svg xmlns=",
    ],
)
def test_what_begins_as_something_else_is_no_picture(head: bytes) -> None:
    assert not is_image(head)


@pytest.mark.parametrize("name", ["a.jpg", "b/IMG.HIF", "x.insp", "y.MPO", "日本.webp"])
def test_a_picture_may_be_known_by_its_suffix(name: str) -> None:
    assert has_image_suffix(name)


@pytest.mark.parametrize("name", ["a", ".jpg", "a.jpg.json", "jpg", "a.jpg?w=100", "a.jpg/b", ""])
def test_other_names_say_nothing(name: str) -> None:
    assert not has_image_suffix(name)


def test_a_name_may_have_no_suffix_that_says_anything() -> None:
    names = ["a", ".jpg", "a.jpg?w=100", "a.jpg~", "a.1", "at 10.02.33", "a/b"]
    assert {suffix_of(name) for name in names} == {""}
    assert [suffix_of(name) for name in ("a.DNG", "x.y/c.json", "e.7z")] == [".dng", ".json", ".7z"]


def test_hidden_files_and_what_macos_adds_are_known() -> None:
    names = ["a/.b/c.jpg", ".DS_Store", "__MACOSX/._a.jpg", "./a.jpg", "../a.jpg", "a/b.jpg", "a..jpg"]
    assert [is_hidden(name) for name in names] == [True] * 3 + [False] * 4


def test_what_is_skipped_is_counted_by_suffix_most_first() -> None:
    skipped = Skipped()
    for name in ["a.mov", "b/c.JSON", "d.json", "Thumbs.db", "b/Thumbs.db", "README", ".a", "__MACOSX/b.jpg"]:
        skipped.add(name)
    assert len(skipped) == 8
    assert str(skipped) == "2 .json, 2 Thumbs.db, 2 hidden, 1 a.mov, 1 README"


def test_any_number_of_strange_names_is_told_of_briefly() -> None:
    skipped = Skipped()
    for number in range(5_000):
        skipped.add(f"{'n' * 300}.x{number}")
    assert len(skipped) == 5_000
    assert str(skipped).startswith("4,000 of strange suffixes, 1 .x0, ")
    assert str(skipped).endswith(", 989 of other kinds")
    assert len(str(skipped)) < 300
