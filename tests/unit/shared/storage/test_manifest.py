from pathlib import Path

import numpy as np
import pytest

from shared.models import Chunk, Image, Item, ItemResult, Stage
from shared.storage import vector_log
from shared.storage.arrays import pack, unpack
from shared.storage.blobs import Blobs
from shared.storage.manifest import SEGMENT_ITEMS, ManifestWriter, read_items, read_results, write_results


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}")


def test_items_are_read_back_from_any_range_across_files(blobs: Blobs) -> None:
    writer = ManifestWriter(blobs, "job")
    count = 2 * SEGMENT_ITEMS + 10
    for number in range(count):
        writer.add(
            Item(
                source=f"s{number}",
                url=f"u{number}",
                metadata={"n": number, "tags_": ["a\n"]},
                key=f"k{number}",
            )
        )
    writer.flush()
    assert writer.count == count
    for start, stop in [(0, 3), (SEGMENT_ITEMS - 2, SEGMENT_ITEMS + 2), (count - 1, count)]:
        items = read_items(blobs, "job", start, stop)
        assert [item.source for item in items] == [f"s{n}" for n in range(start, stop)]
    assert items[0].metadata == {"n": count - 1, "tags_": ["a\n"]}
    assert items[0].key == f"k{count - 1}"


def test_a_file_that_was_flushed_before_it_was_full_grows(blobs: Blobs) -> None:
    writer = ManifestWriter(blobs, "job")
    for number in range(5):
        writer.add(Item(source=f"s{number}", error="invalid_url: no"))
        writer.flush()
        assert len(read_items(blobs, "job", 0, number + 1)) == number + 1
    assert read_items(blobs, "job", 0, 1)[0].error == "invalid_url: no"


def test_results_of_later_deliveries_add_to_earlier_ones(blobs: Blobs) -> None:
    first, again = Chunk("job", 0, 1), Chunk("job", 1, 1)
    write_results(blobs, first, Stage.FETCH, "t1", [ItemResult(64, "s", 1, image_id="a")])
    write_results(blobs, first, Stage.INDEX, "t2", [ItemResult(64, "s", 1, code="index_error", detail="no")])
    write_results(blobs, again, Stage.FETCH, "t0", [ItemResult(65, "s", 2, code="timeout", detail="slow")])
    write_results(blobs, first, Stage.FETCH, "t3", [])
    found = read_results(blobs, "job", 64, 64, 128)
    assert (found[64].image_id, found[64].code) == ("a", "index_error")
    assert (found[65].attempts, found[65].code) == (2, "timeout")
    assert read_results(blobs, "job", 64, 64, 65).keys() == {64}


def test_arrays_round_trip_with_their_records() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    header, records, back = unpack(pack({"version": 2**62}, [{"é": 1}, {}], array))
    assert (header, records) == ({"version": 2**62}, [{"é": 1}, {}])
    assert back.dtype == np.float32
    assert (back == array).all()


def test_a_pickle_in_place_of_an_array_is_refused() -> None:
    with pytest.raises(ValueError):
        unpack(pack({}, [{}], np.array([object()])))


def test_a_log_segment_round_trips_and_changes_stand_beside_it(blobs: Blobs) -> None:
    image = Image("a" * 64, "s", ["s"], "png", 1, 2, 3, 4.5, metadata={"tags_": ["x"]}, keys=["k"])
    addition = vector_log.Addition(7, 1, "job:7", image, 5)
    segment = vector_log.Segment(5, "m", "f", [addition], np.ones((1, 4), np.float32))
    key = vector_log.write_segment(blobs, "images", "chunk", segment)
    back = vector_log.read_segment(blobs, key)
    assert back.additions == [addition]
    assert (back.version, back.model, back.fingerprint) == (5, "m", "f")
    change = {"op": "delete", "version": 6, "id": image.id}
    vector_log.write_change(blobs, "images", "f", change)
    assert [k.split("/")[-1][:20] for k in blobs.list("log/images/f/")] == [f"{5:020d}", f"{6:020d}"]
    assert unpack(blobs.get(blobs.list("log/images/f/")[1]))[1] == [change]
