"""The join of a list with what its URLs brought in an earlier job."""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.download.validators import Validators
from shared.errors import BlobsUnavailable
from shared.models import Chunk, Item
from shared.storage.blobs import Blobs
from shared.storage.manifest import SEGMENT_ITEMS, ManifestWriter
from shared.storage.validators import Earlier, read_earlier, read_validators, url_hash, write_validators
from worker.database import clear_left
from worker.stages.url_join import join


@pytest.fixture
def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return Blobs(f"file://{tmp_path}/blobs")


def earlier(number: int, etag: str = '"e"') -> Earlier:
    return Earlier(f"{number:064x}", Validators(url_hash(str(number)), etag))


def known(blobs: Blobs, chunk: int, *numbers: int, generation: int = 0, etag: str = '"e"') -> None:
    found = {f"http://x/{number}": earlier(number, etag) for number in numbers}
    write_validators(blobs, Chunk("old", generation, chunk), "t", found)


def asked(blobs: Blobs, items: Sequence[Item]) -> dict[int, Earlier]:
    writer = ManifestWriter(blobs, "new")
    for item in items:
        writer.add(item)
    writer.flush()
    join(blobs, "new", len(items), "old")
    return read_earlier(blobs, "new", 0, len(items))


def urls(*numbers: int, key: str | None = None) -> list[Item]:
    return [Item(f"http://x/{number}", f"http://x/{number}", key=key) for number in numbers]


def test_each_item_has_what_its_url_had(blobs: Blobs, tmp_path: Path) -> None:
    known(blobs, 0, *range(5))
    known(blobs, 1, *range(10, 15))
    found = asked(blobs, [*urls(99, 3, 12), Item("a file", upload="u"), *urls(4)])
    assert found == {1: earlier(3), 2: earlier(12), 4: earlier(4)}
    assert list((tmp_path / "temporary").iterdir()) == []


def test_lists_of_several_segments_are_cut_where_they_end(blobs: Blobs) -> None:
    numbers = range(3 * SEGMENT_ITEMS + 7)
    there = [number for number in numbers if not SEGMENT_ITEMS <= number < 2 * SEGMENT_ITEMS]
    known(blobs, 0, *there)
    assert asked(blobs, urls(*numbers)) == {number: earlier(number) for number in there}
    assert read_earlier(blobs, "new", SEGMENT_ITEMS - 1, SEGMENT_ITEMS + 1).keys() == {SEGMENT_ITEMS - 1}


def test_of_several_tries_the_last_one_counts(blobs: Blobs) -> None:
    known(blobs, 1, 7, etag='"first"')
    known(blobs, 0, 7, generation=1, etag='"retried"')
    known(blobs, 2, 7, etag='"between"')
    assert asked(blobs, urls(7)) == {0: earlier(7, '"retried"')}


def test_what_several_items_have_in_common_is_marked(blobs: Blobs) -> None:
    known(blobs, 0, 1, 2, 3, 4, 5)
    both = {"http://x/6": earlier(5)}  # other URL, same picture
    write_validators(blobs, Chunk("old", 0, 1), "t", both)
    keyed = [*urls(1, key="caf\u00e9"), *urls(2, key="cafe\u0301"), *urls(3, key="k"), *urls(4, 4, 5, 6, 99)]
    found = asked(blobs, keyed)
    assert {i for i, one in found.items() if one.shared} == {0, 1, 3, 4, 5, 6}
    assert not found[2].shared


def test_a_key_that_a_new_url_has_too_is_common(blobs: Blobs) -> None:
    known(blobs, 0, 1)
    assert asked(blobs, [*urls(1, key="k"), *urls(99, key="k")])[0].shared


def test_without_an_earlier_job_nothing_is_found(blobs: Blobs) -> None:
    assert asked(blobs, urls(1, 2)) == {}


def test_a_blob_store_that_does_not_answer_is_waited_for(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(blobs, 0, 1)
    get = blobs.get

    def failing(key: str) -> bytes:
        if "validators" in key:
            raise BlobsUnavailable("The blob store failed.")
        return get(key)

    monkeypatch.setattr(blobs, "get", failing)
    with pytest.raises(BlobsUnavailable):
        asked(blobs, urls(1))
    with pytest.raises(KeyError):
        read_earlier(blobs, "new", 0, 1)


def test_what_a_killed_worker_left_is_cleared_with_the_next_join_of_any_job(
    blobs: Blobs, tmp_path: Path
) -> None:
    left = tmp_path / "temporary" / "image-search-join-killed"
    left.mkdir()
    (left / "join.duckdb").write_bytes(b"half a database")
    known(blobs, 0, 1)
    assert asked(blobs, urls(1)) == {0: earlier(1)}
    assert not left.exists()


def test_two_joins_of_one_job_leave_each_other_alone(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the lease of one has run out, because its process was stopped for a while."""
    known(blobs, 0, 1)
    get = blobs.get

    def with_another(key: str) -> bytes:
        if "validators" in key:
            monkeypatch.setattr(blobs, "get", get)
            before = set((tmp_path / "temporary").iterdir())
            join(blobs, "new", 1, "old")
            clear_left()
            assert set((tmp_path / "temporary").iterdir()) == before != set()
        return get(key)

    monkeypatch.setattr(blobs, "get", with_another)
    assert asked(blobs, urls(1)) == {0: earlier(1)}
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_a_place_for_the_lists_nothing_is_found(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(blobs, 0, 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))
    assert asked(blobs, urls(1)) == {}


def test_an_object_store_is_asked_for_several_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000,000 rows lie in 80,000 files: one after another they would take longer than a task may."""
    store = Blobs(f"memory://{tmp_path}")
    for number in range(200):
        known(store, number, number)
    under_way = threading.Barrier(4, timeout=10)
    get = store.get

    def slow(key: str) -> bytes:
        under_way.wait()
        return get(key)

    monkeypatch.setattr(store, "get", slow)
    rows = [table.column("url")[0].as_py() for table in read_validators(store, "old")]
    assert rows == [url_hash(f"http://x/{number}") for number in range(200)]
