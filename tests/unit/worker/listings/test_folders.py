"""Folders: which files are entries, what ends a listing, and reading one file safely."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ItemError, Unavailable
from shared.models import Note
from shared.services import Services
from tests.image_server import small_picture
from tests.unit.worker.listings.listed import failure, listing, services
from worker.listings import folders, objects
from worker.listings.entries import Entry
from worker.listings.objects import read_object
from worker.listings.paths import file_url, open_without_links, path_of


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def made(pictures: Path) -> Services:
    return services(source_folders=str(pictures), max_image_bytes=1_000)


def urls(found: list[Entry]) -> list[str]:
    return sorted(entry.url for entry in found)


def test_pictures_at_any_depth_are_entries_and_all_else_is_told_of(pictures: Path, made: Services) -> None:
    (pictures / "a" / "b").mkdir(parents=True)
    (pictures / ".cache").mkdir()
    for name in ("1.JPG", "a/2.png", "a/b/3.webp", "notes.txt", ".hidden.jpg", ".cache/4.jpg", "LICENSE"):
        (pictures / name).write_bytes(b"x")
    (pictures / "a" / "nameless").write_bytes(small_picture(1))
    os.mkfifo(pictures / "pipe")
    found, notes = listing(f"file://{pictures}", made)
    assert urls(found) == [
        f"file://{pictures}/{name}" for name in ("1.JPG", "a/2.png", "a/b/3.webp", "a/nameless")
    ]
    assert [(note.code, note.count) for note in notes] == [("files_skipped", 5)]
    assert "1 notes.txt" in notes[0].detail


def test_a_stamp_stays_while_the_file_does(pictures: Path, made: Services) -> None:
    file = pictures / "1.jpg"
    file.write_bytes(b"one")
    ((first,), _), ((again,), _) = listing(f"file://{pictures}", made), listing(f"file://{pictures}", made)
    assert first == again
    file.write_bytes(b"other")
    assert listing(f"file://{pictures}", made)[0][0].stamp != first.stamp
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    assert listing(f"file://{pictures}", made)[0][0].stamp == "3 1"


def test_links_are_not_followed(pictures: Path, made: Services, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.jpg").write_bytes(b"x")
    (pictures / "out").symlink_to(tmp_path / "secret")
    (pictures / "out.jpg").symlink_to(tmp_path / "secret" / "1.jpg")
    (pictures / "up").symlink_to(pictures)
    assert listing(f"file://{pictures}", made) == ([], [Note("links_skipped", "Links are not followed.", 3)])


def test_a_folder_may_itself_be_reached_by_a_link(pictures: Path, made: Services, tmp_path: Path) -> None:
    (pictures / "1.jpg").write_bytes(b"content")
    (tmp_path / "shortcut").symlink_to(pictures)
    ((entry,), _) = listing(f"file://{tmp_path}/shortcut", made)
    assert entry.url == f"file://{tmp_path}/shortcut/1.jpg"
    assert read_object(made, entry.url) == b"content"


def test_any_file_name_is_an_entry_that_can_be_read(pictures: Path, made: Services) -> None:
    names = [
        b"100%.jpg",
        b"a?b#c.jpg",
        b"blank and \xc3\xa9.jpg",
        b"no-utf-8-\xff\xe9.jpg",
        b"line\nbreak.jpg",
        b"%41.jpg",
    ]
    for name in names:
        (pictures / os.fsdecode(name)).write_bytes(name)
    found, _ = listing(f"file://{pictures}", made)
    assert sorted(read_object(made, entry.url) for entry in found) == sorted(names)
    assert f"file://{pictures}/blank and é.jpg" in urls(found)
    assert all(entry.url.isprintable() for entry in found)


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name))
def test_the_url_of_a_path_leads_back_to_it(name: bytes) -> None:
    path = "/" + os.fsdecode(name)
    url = file_url(path)
    assert os.fsencode(path_of(url)) == os.fsencode(path)
    url.encode()


def test_an_empty_folder_is_an_empty_listing(pictures: Path, made: Services) -> None:
    assert listing(f"file://{pictures}", made) == ([], [])


def test_what_is_no_folder_that_can_be_read_is_named(pictures: Path, made: Services) -> None:
    (pictures / "1.jpg").write_bytes(b"x")
    assert (
        failure(f"file://{pictures}/gone", made) == f"The folder {pictures}/gone is not there: is it mounted?"
    )
    assert failure(f"file://{pictures}/1.jpg", made) == f"{pictures}/1.jpg is no folder."


def test_a_folder_in_it_that_cannot_be_read_ends_the_listing(
    pictures: Path, made: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may read everything."""
    (pictures / "1.jpg").write_bytes(b"x")
    (pictures / "closed").mkdir()

    def opened(path: Path, flags: int) -> int:
        if path.name == "closed":
            raise PermissionError(13, "")
        return open_without_links(path, flags)

    monkeypatch.setattr(folders, "open_without_links", opened)
    said = failure(f"file://{pictures}", made)
    assert said == f"The folder {pictures}/closed cannot be read: Permission denied."


def test_a_folder_that_goes_while_it_is_listed_ends_the_listing(pictures: Path, made: Services) -> None:
    (pictures / "1.jpg").write_bytes(b"x")
    found = iter(folders.FolderListing(made.settings, f"file://{pictures}", threading.Event()))
    next(found)
    pictures.rename(pictures.with_name("elsewhere"))
    pictures.mkdir()
    with pytest.raises(Exception, match="was mounted or replaced while it was listed"):
        list(found)


@pytest.mark.parametrize("location", ["file:///etc", "file:///", "file://{}/../x", "zip::file://{}"])
def test_what_no_source_may_read_is_not_listed(location: str, pictures: Path, made: Services) -> None:
    location = location.format(pictures)
    assert failure(location, made).startswith(f"{location} may not be read: ")


def test_a_lost_chunk_ends_a_listing(pictures: Path, made: Services) -> None:
    (pictures / "notes.txt").write_bytes(b"x")
    lost = threading.Event()
    lost.set()
    with pytest.raises(Unavailable):
        listing(f"file://{pictures}", made, lost)


def item_error(made: Services, url: str) -> ItemError:
    with pytest.raises(ItemError) as raised:
        read_object(made, url)
    return raised.value


def test_a_file_that_cannot_be_had_fails_alone(pictures: Path, made: Services, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (pictures / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (pictures / "large.jpg").write_bytes(bytes(1_001))
    (pictures / "just.jpg").write_bytes(bytes(1_000))
    (pictures / "empty.jpg").write_bytes(b"")
    os.mkfifo(pictures / "pipe.jpg")
    base = f"file://{pictures}"
    assert len(read_object(made, f"{base}/just.jpg")) == 1_000
    gone = item_error(made, f"{base}/gone.jpg")
    assert (gone.code, gone.detail, gone.http_status, gone.transient) == (
        "http_status",
        "404 Not Found",
        404,
        False,
    )
    for name, code in (
        ("out", "blocked_address"),
        ("large", "too_large"),
        ("empty", "not_an_image"),
        ("pipe", "not_an_image"),
    ):
        assert item_error(made, f"{base}/{name}.jpg").code == code
    for url in (
        "file:///etc/passwd",
        f"{base}/%2e%2e/secret.jpg",
        f"{base}/../secret.jpg",
        f"{base}/a%00.jpg",
    ):
        assert item_error(made, url).code == "blocked_address"


def test_a_folder_on_the_way_that_becomes_a_link_is_not_followed(
    pictures: Path, made: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is checked, and then changed before it is opened."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.jpg").write_bytes(b"secret")
    (pictures / "a").mkdir()
    (pictures / "a" / "1.jpg").write_bytes(b"mine")

    def swapped(path: Path, flags: int) -> int:
        (pictures / "a").rename(pictures / "b")
        (pictures / "a").symlink_to(tmp_path / "secret")
        return open_without_links(path, flags)

    monkeypatch.setattr(objects, "open_without_links", swapped)
    assert item_error(made, f"file://{pictures}/a/1.jpg").code == "blocked_address"
