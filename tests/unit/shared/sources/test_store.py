import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import Conflict, NewerFormat, SourceExists, SourceNotFound, Unavailable
from shared.sources import store
from shared.sources.definition import Run, Source
from shared.storage.blobs import Blobs, brought_key, source_key

SOURCE = Source("shop", "s3://bucket/a", "images", every_s=300, every="5m", table={}, created_at=1.5)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}")


def run(number: int) -> Run:
    return Run(f"{number:024x}", "succeeded", 1e9 + number, 1e9 + number + 0.5, {"indexed": number})


def test_a_source_is_read_as_it_was_stored(blobs: Blobs) -> None:
    store.new_source(blobs, SOURCE)
    assert store.get_source(blobs, "shop") == SOURCE
    store.put_source(blobs, other := replace(SOURCE, every_s=None, every=None, delete_missing=True))
    assert store.get_source(blobs, "shop") == other
    assert store.source_exists(blobs, "shop")


@pytest.mark.parametrize("name", ["other", "", "../shop", "a/b", "shop\n", "sh op", ".", "x" * 64])
def test_a_name_that_no_source_has_is_not_found(blobs: Blobs, name: str) -> None:
    store.new_source(blobs, SOURCE)
    assert not store.source_exists(blobs, name)
    with pytest.raises(SourceNotFound):
        store.get_source(blobs, name)


def test_of_two_that_define_a_name_at_once_one_is_told(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Blobs.put_new

    def slower(self: Blobs, key: str, data: bytes) -> None:
        monkeypatch.undo()
        store.new_source(self, replace(SOURCE, location="s3://other"))
        real(self, key, data)

    monkeypatch.setattr(Blobs, "put_new", slower)
    with pytest.raises(SourceExists):
        store.new_source(blobs, SOURCE)
    assert store.get_source(blobs, "shop").location == "s3://other"


def test_there_are_only_so_many_sources(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_SOURCES", 2)
    for name in ("a", "b"):
        store.new_source(blobs, replace(SOURCE, name=name))
    with pytest.raises(Conflict, match="2 sources, the most"):
        store.new_source(blobs, SOURCE)
    assert store.source_names(blobs) == ["a", "b"]


def test_sources_are_listed_by_name_each_with_its_latest_run(blobs: Blobs) -> None:
    for name in ("c", "a", "b-1"):
        store.new_source(blobs, replace(SOURCE, name=name))
    for number in (2, 1, 3):
        store.add_run(blobs, "a", run(number))
    store.add_run(blobs, "c", run(0))
    found = [(source.name, latest and latest.counts) for source, latest in store.source_page(blobs)[0]]
    assert found == [("a", {"indexed": 3}), ("b-1", None), ("c", {"indexed": 0})]
    ((source, _),), cursor = store.source_page(blobs, "a", 1)
    assert (source.name, cursor) == ("b-1", "b-1")
    assert store.source_page(blobs, "c", 1) == ([], None)
    blobs.put(source_key("a"), b"{")
    assert store.source_page(blobs, "", 1) == ([], "a")


def test_the_latest_runs_are_kept_newest_first_and_one_written_again_counts_once(blobs: Blobs) -> None:
    store.new_source(blobs, SOURCE)
    for number in (*range(store.MAX_RUNS + 3), 5, store.MAX_RUNS + 2):
        store.add_run(blobs, "shop", run(number))
    kept = store.runs(blobs, "shop")
    assert [one.counts["indexed"] for one in kept] == list(range(store.MAX_RUNS + 2, 2, -1))
    assert kept[0] == run(store.MAX_RUNS + 2)
    assert store.runs(blobs, "shop", 1) == kept[:1]
    assert store.runs(blobs, "other") == []


def test_a_deleted_source_leaves_nothing_and_a_new_one_of_its_name_inherits_nothing(blobs: Blobs) -> None:
    store.new_source(blobs, SOURCE)
    store.add_run(blobs, "shop", run(1))
    store.delete_source(blobs, "shop")
    assert blobs.list("sources/") == []
    store.delete_source(blobs, "shop")
    blobs.put(brought_key("shop"), b"of a run that ended later")
    store.add_run(blobs, "shop", run(2))
    assert store.list_sources(blobs) == []
    store.new_source(blobs, SOURCE)
    assert blobs.list("sources/") == [source_key("shop")]


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b'{"name": 1, "unknown": 2}', b"\xff"])
def test_a_damaged_definition_is_a_sentence_and_hides_no_other(blobs: Blobs, damaged: bytes) -> None:
    store.new_source(blobs, replace(SOURCE, name="whole"))
    blobs.put(source_key("shop"), damaged)
    with pytest.raises(Unavailable, match="damaged: delete the source"):
        store.get_source(blobs, "shop")
    assert [source.name for source in store.list_sources(blobs)] == ["whole"]
    assert store.source_names(blobs) == ["shop", "whole"]


def test_what_a_newer_version_defined_is_refused(blobs: Blobs) -> None:
    blobs.put(source_key("shop"), json.dumps(SOURCE.to_json() | {"format": 2, "new": 1}).encode())
    with pytest.raises(NewerFormat):
        store.get_source(blobs, "shop")
    assert store.list_sources(blobs) == []
