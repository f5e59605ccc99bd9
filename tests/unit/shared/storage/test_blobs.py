import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import BlobsUnavailable, ConfigError
from shared.storage.blobs import Blobs


@pytest.fixture(params=["file", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """A folder, and an object store that is not one."""
    return Blobs(f"file://{tmp_path}/blobs" if request.param == "file" else f"memory://{tmp_path}")


def test_what_is_put_can_be_read_listed_and_deleted(blobs: Blobs) -> None:
    blobs.put("a/b/1", b"one")
    blobs.put("a/2", b"two")
    blobs.put("c/3", b"three")
    assert blobs.get("a/b/1") == b"one"
    assert (blobs.exists("a/2"), blobs.exists("a/9")) == (True, False)
    assert blobs.list("a/") == ["a/2", "a/b/1"]
    blobs.delete("a/2", "a/9")
    blobs.delete_prefix("c/")
    blobs.delete_prefix("nothing/")
    assert (blobs.list("a/"), blobs.list("c/"), blobs.list("nothing/")) == (["a/b/1"], [], [])


def test_a_folder_is_deleted_while_others_write_into_it(blobs: Blobs) -> None:
    blobs.put("a/1", b"one")
    real, late = blobs._fs.rm, iter(range(3))

    def rm(path: str, recursive: bool) -> None:
        real(path, recursive=recursive)
        if next(late, None) is not None:  # as rmtree ends where a file came after it had listed the folder
            blobs.put("a/2", b"two")
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)

    blobs._fs.rm = rm
    try:
        blobs.delete_prefix("a/")
    finally:
        blobs._fs.rm = real
    assert blobs.list("a/") == []


def test_what_is_moved_is_only_there_any_more(blobs: Blobs) -> None:
    blobs.put("a/1", b"one")
    blobs.put("b/2", b"two")
    blobs.move([("a/1", "b/2")])
    blobs.move([("b/2", "c/3"), ("a/1", "c/4")])
    assert (blobs.get("c/3"), [blobs.exists(key) for key in ("a/1", "b/2", "c/4")]) == (b"one", [False] * 3)
    blobs.move([("a/1", "c/3")])
    assert blobs.get("c/3") == b"one"


def test_an_absent_key_is_a_key_error(blobs: Blobs) -> None:
    with pytest.raises(KeyError):
        blobs.get("absent")


def test_an_overwritten_blob_is_read_anew(blobs: Blobs) -> None:
    blobs.put("k", b"old")
    blobs.put("k", b"newer")
    assert blobs.get("k") == b"newer"


def test_the_first_of_several_new_blobs_stays(blobs: Blobs) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: blobs.put_new("folder/k", str(number).encode()), range(8)))
    first = blobs.get("folder/k")
    blobs.put_new("folder/k", b"later")
    assert blobs.get("folder/k") == first
    assert first in [str(number).encode() for number in range(8)]
    assert blobs.list("folder/") == ["folder/k"]


def test_a_folder_without_hard_links_takes_a_new_blob_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blobs = Blobs(f"file://{tmp_path}")
    blobs.put_new("k", b"first")
    blobs.put_new("k", b"second")
    assert blobs.get("k") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_an_unfinished_write_leaves_what_was_there(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}")
    blobs.put("folder/k", b"old")
    with pytest.raises(RuntimeError), blobs.open_write("folder/k") as file:
        file.write(b"half")
        raise RuntimeError
    assert blobs.get("folder/k") == b"old"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["k"]


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../../secret"])
def test_a_key_cannot_leave_the_store(blobs: Blobs, key: str) -> None:
    with pytest.raises(KeyError):
        blobs.get(key)


def test_trouble_is_one_clear_error_without_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BlobsUnavailable) as raised:
        Blobs(f"file://{tmp_path}/file").put("k", b"x")
    assert str(tmp_path) not in raised.value.detail


def test_an_unknown_kind_of_store_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_BLOB_URL"):
        Blobs("gopher://x")
