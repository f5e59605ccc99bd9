import os
import socket
from pathlib import Path

import pytest

from image_search._bodies import list_type
from image_search._sources import collect, typed
from image_search.errors import InvalidSource
from tests.image_server import make_photo


def made(folder: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names_in(folder: Path) -> list[str]:
    return [file.name for file in collect([str(folder)]).files]


def test_a_folder_gives_its_pictures_and_counts_the_rest_by_suffix(tmp_path: Path) -> None:
    trip = made(
        tmp_path / "trip", "b.JPG", "sub/a.png", ".hidden/c.jpg", "a.MOV", "b.mov", "x.json", ".d.jpg"
    )
    found = collect([str(trip)])
    assert [(file.name, file.size) for file in found.files] == [("trip/b.JPG", 1), ("trip/sub/a.png", 1)]
    assert str(found.left_out) == "2 .mov, 1 x.json"


@pytest.mark.parametrize("name", ["a.HIF", "b.insp", "c.MPO", "d.JPe", "e.heic"])
def test_a_suffix_of_pictures_is_enough_in_any_case(tmp_path: Path, name: str) -> None:
    assert names_in(made(tmp_path / "trip", name)) == [f"trip/{name}"]


@pytest.mark.parametrize(
    "name", ["photo.jpg?w=100", "IMG_0001", "a.jpg~", "b.jpg_large", "c.jpg.1", "at 10.02.33", "日本"]
)
def test_where_the_suffix_does_not_say_the_content_does(tmp_path: Path, name: str) -> None:
    trip = made(tmp_path / "trip", name, content=make_photo(1, 8, 8))
    made(trip, f"no {name}", "README", content=b"\x89 words")
    assert names_in(trip) == [f"trip/{name}"]


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.psd", "list.csv"])
def test_a_suffix_of_something_else_is_believed(tmp_path: Path, name: str) -> None:
    trip = made(tmp_path / "trip", name, content=b"II*\0" + bytes(20))
    with pytest.raises(InvalidSource, match=f"no pictures in .*; left out: 1 {name}"):
        collect([str(trip)])


def test_a_file_that_is_named_is_sent_whatever_it_is(tmp_path: Path) -> None:
    made(tmp_path, "notes.pdf", "A.ZIP", "B.Tar.Gz")
    found = collect([str(tmp_path / name) for name in ("notes.pdf", "A.ZIP", "B.Tar.Gz")])
    assert [file.name for file in found.files] == ["notes.pdf", "A.ZIP", "B.Tar.Gz"]
    assert found.kinds == {"files", "archive"}


def test_linked_folders_are_followed_once_and_broken_links_are_named(tmp_path: Path) -> None:
    lib, far = made(tmp_path / "lib", "a.jpg", "z/own.jpg"), made(tmp_path / "far", "b.jpg", "deep/c.jpg")
    made(tmp_path / "beside", "d.jpg")
    for name, target in {
        "linked": far, "again": far, "loop": lib, "own": lib / "z", "up": tmp_path, "one.jpg": far / "b.jpg",
        "broken.jpg": tmp_path / "nowhere.jpg", "gone": tmp_path / "nowhere", "self.jpg": lib / "self.jpg",
    }.items():  # fmt: skip
        (lib / name).symlink_to(target)
    (far / "back").symlink_to(lib)
    found = collect([str(lib)])
    assert [file.name for file in found.files] == [
        "lib/a.jpg", "lib/again/b.jpg", "lib/again/deep/c.jpg", "lib/one.jpg", "lib/z/own.jpg",
    ]  # fmt: skip
    assert str(found.left_out) == "3 broken links (lib/broken.jpg, …), 1 link to a folder above (lib/up)"


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    made(tmp_path / "far", "b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "far")
    assert names_in(tmp_path / "link") == ["far/b.jpg"]


def test_what_is_no_file_is_left_out_by_name(tmp_path: Path) -> None:
    trip = made(tmp_path / "trip", "a.jpg")
    os.mkfifo(trip / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(trip / "s"))
        found = collect([str(trip)])
    assert [file.name for file in found.files] == ["trip/a.jpg"]
    assert str(found.left_out) == "2 special files (trip/pipe.jpg, …)"
    with pytest.raises(InvalidSource, match="is no file or folder; URLs that a program writes come by `-`"):
        collect([str(trip / "pipe.jpg")])


def test_an_unreadable_folder_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = made(tmp_path / "trip", "a.jpg", "secret/b.jpg")
    read = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "secret":  # whoever is root may read any
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = collect([str(trip)])
    assert [file.name for file in found.files] == ["trip/a.jpg"]
    assert str(found.left_out) == "1 unreadable folder (trip/secret)"
    with pytest.raises(InvalidSource, match="left out: 1 unreadable folder"):
        collect([str(trip / "secret")])


def test_a_name_that_is_no_utf_8_can_be_shown(tmp_path: Path) -> None:
    trip = made(tmp_path / "trip", os.fsdecode(b"caf\xe9.jpg"))
    assert names_in(trip) == ["trip/caf\ufffd.jpg"]


def test_lists_and_tables_are_known_by_their_names(tmp_path: Path) -> None:
    names = [
        "a.TXT",
        "b.csv",
        "c.tsv",
        "d.Tab",
        "e.json",
        "f.jsonl",
        "g.NDJSON",
        "h.parquet",
        "i.xlsx",
        "j.csv.gz",
    ]
    made(tmp_path, *names)
    found = collect([str(tmp_path / name) for name in names])
    assert [(file.name, file.size) for file in found.tables] == [(name, 1) for name in names]
    assert (found.files, found.kinds, found.size) == ([], {"list"}, len(names))
    assert [list_type(name) for name in ("a.jpg", "b.zip", "c.tar.gz", "csv", "a.csv.jpg")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("0", 0), ("1.5", 1.5), ("1.0", 1.0), ("true", True), ("True", "True"),
        ("", ""), ("1.10", "1.10"), ("-0", "-0"), ("007", "007"), ("1e5", "1e5"), ('"12"', "12"),
        ("2024-01-01", "2024-01-01"), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_values_are_typed_by_their_spelling(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)
