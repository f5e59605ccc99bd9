"""Keywords against Chroma: what has the words is found, however it was written, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import KeywordsNotReady, NewerFormat
from shared.filters.conditions import And, Range, Where
from shared.filters.keywords import HasKeywords
from shared.index import index as index_module
from shared.index import records as records_module
from shared.index import search
from shared.index.collection import Collection
from shared.index.index import Index
from shared.index.records import to_record
from shared.models import Image
from tests.contract.conftest import NewIndex
from tests.contract.test_index import MODEL, OTHER_MODEL, exact, image, unit_rows

TEXTS = [
    "The North Face jacket",
    "face north",
    "Red BOOTS for snow",
    "a bootstrap",
    "3M透明胶带",
    "スカイツリー東京",
    "กระเป๋าหนังแท้",
    "Große Straße",
    "Café",
    "",
]


def write(collection: Collection, texts: Sequence[str], **more: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = unit_rows(len(texts))
    images = [image(n, metadata={"title": text, "n": n} | more) for n, text in enumerate(texts)]
    collection.upsert(images, rows, ["job:0"] * len(texts))
    return rows


@pytest.fixture
def collection(index: Index) -> Collection:
    return index.create("images", **MODEL, dimension=8)


def found(collection: Collection, where: Where, limit: int = 50, seed: int = 9) -> list[int]:
    hits = collection.search(unit_rows(1, seed=seed)[0], limit=limit, where=where)
    return [int(hit.image.id, 16) for hit in hits]


def change(collection: Collection, number: int, metadata: dict[str, Any]) -> None:
    one = collection.stored([image(number).id])[image(number).id]
    collection.update([replace(one, image=replace(one.image, metadata=metadata))])


def having(collection: Collection, *keywords: str, **how: Any) -> set[int]:
    return set(found(collection, HasKeywords(keywords, **how)))


def test_whole_words_phrases_and_parts_of_runs_are_found_in_any_case_and_script(
    collection: Collection,
) -> None:
    write(collection, TEXTS)
    for keyword, numbers in {
        "NORTH FACE": {0}, "north": {0, 1}, "boots": {2}, "boot": set(), "胶带": {4}, "3m 透明": {4},
        "東": {5}, "หนัง": {6}, "GROSSE STRASSE": {7}, "cafe\u0301": {8}, "zebra": set(),
    }.items():  # fmt: skip
        assert having(collection, keyword) == numbers, keyword
    assert having(collection, "boots", "café", "胶") == {2, 8, 4}
    assert having(collection, "face", "north", "jacket", "the", every=True) == {0}
    assert having(collection, "north", names=("brand",)) == set()


def test_few_among_many_are_all_found_without_a_look_at_the_many(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FILTERED_FETCHES", (8, 16, 32, 64, 128, 256))
    monkeypatch.setattr(search, "_SPARSE", 1_000)
    read: list[str] = []
    from_record = search.from_record

    def reading(record: Any) -> Image:
        read.append(record["id"])
        return from_record(record)

    rows = write(collection, ["rare" if n % 60 == 7 else "common" for n in range(300)])
    monkeypatch.setattr(search, "from_record", reading)
    query = unit_rows(1, seed=9)[0]
    rare = [one for one in exact(rows, query) if int(one, 16) % 60 == 7]
    assert found(collection, HasKeywords(("rare",))) == [int(one, 16) for one in rare]
    assert len(set(read)) <= 16 + len(rare)


@pytest.mark.parametrize("exact_candidates", [2, 1_000])
def test_pages_with_keywords_and_filters_neither_repeat_nor_miss(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, exact_candidates: int
) -> None:
    monkeypatch.setattr(search, "_FILTERED_FETCHES", (8, 16))
    monkeypatch.setattr(search, "_EXACT_CANDIDATES", exact_candidates)
    rows = write(collection, [f"shoe {'left' if n % 5 else 'right'}" for n in range(120)])
    where = And((HasKeywords(("right shoe", "shoe right")), Range("n", "lt", 100)))
    query = unit_rows(1, seed=9)[0]
    pages = [collection.search(query, limit=3, offset=at, where=where) for at in range(0, 24, 3)]
    wanted = [one for one in exact(rows, query) if int(one, 16) % 5 == 0 and int(one, 16) < 100]
    assert [hit.image.id for page in pages for hit in page] == wanted
    images, complete = collection.matching(query, where=where, min_score=None, most=50)
    assert ({one.id for one in images}, complete) == (set(wanted), True)


def test_what_a_change_takes_away_is_found_no_more_and_vectors_stay(collection: Collection) -> None:
    rows = write(collection, ["red boot", "blue boot"])
    change(collection, 0, {"brand": "Green"})
    assert having(collection, "boot") == {1}
    assert having(collection, "green") == {0}
    assert np.allclose(collection.vector(image(0).id), rows[0], atol=1e-6)
    write(collection, ["hat"])  # written over
    assert (having(collection, "green"), having(collection, "hat")) == (set(), {0})
    collection.mark_strays([image(0).id, image(1).id])
    assert (having(collection, "hat"), having(collection, "boot")) == ({0}, {1})


def test_a_copy_has_the_words_and_their_changes(index: Index, collection: Collection) -> None:
    rows = write(collection, ["red boot", "blue hat"])
    shadow = index.stage("images", **OTHER_MODEL, dimension=8)
    collection.copy_records(shadow, {image(n).id: rows[n] for n in range(2)})
    shadow.check_keywords()
    assert having(shadow, "boot") == {0}
    change(collection, 0, {"title": "scarf"})
    collection.copy_changes(shadow, [image(0).id, image(1).id])
    assert (having(shadow, "boot"), having(shadow, "scarf"), having(shadow, "hat")) == (set(), {0}, {1})


def test_a_long_text_of_characters_that_become_many_is_written(collection: Collection) -> None:
    write(collection, ["ﷺ" * 20_000, "boot"])
    assert having(collection, "صلى") == {0}


def test_what_is_written_has_its_words_taken_from_its_texts_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    of = records_module.document_of
    monkeypatch.setattr(records_module, "document_of", lambda metadata: read.append(metadata) or of(metadata))
    write(collection, TEXTS)
    change(collection, 0, {"title": "scarf"})
    assert len(read) == len(TEXTS) + 1


def of_an_earlier_version(index: Index, monkeypatch: pytest.MonkeyPatch, texts: Sequence[str]) -> Collection:
    with monkeypatch.context() as before:
        before.setattr(index_module, "FORMAT", index_module.PLAIN)
        collection = index.create("images", **MODEL, dimension=8)
        chroma = index.open("images").chroma
    images = [image(n, metadata={"title": text}) for n, text in enumerate(texts)]
    records: list[Any] = [to_record(one, "job:0") for one in images]
    with index_module.calls(20):
        chroma.upsert([one.id for one in images], unit_rows(len(texts)), records)
    return collection


def test_a_collection_of_an_earlier_version_has_keywords_once_all_its_texts_are_there(
    index: Index, new_index: NewIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "BATCH", 4)
    collection = of_an_earlier_version(index, monkeypatch, [*["old boot"] * 9, ""])
    other = new_index().collection("images")
    assert not new_index().has_documents("images")

    def killed() -> None:
        raise KeyboardInterrupt

    assert index.add_documents("images", lambda: None) == 4
    with pytest.raises(KeyboardInterrupt):
        index.add_documents("images", killed)
    collection.upsert([image(20, metadata={"title": "new boot"})], unit_rows(1, seed=3), ["job:0"])
    for one in (collection, other):
        with pytest.raises(KeywordsNotReady, match="'images' are still being prepared"):
            one.check_keywords()
    assert [index.add_documents("images", lambda: None) for _ in range(4)] == [4, 2, 0, 0]
    for one in (collection, other):
        one.check_keywords()
        assert having(one, "boot") == {*range(9), 20}
    assert new_index().has_documents("images")
    assert collection.count() == 11


def test_an_earlier_version_refuses_a_collection_with_documents(
    index: Index, new_index: NewIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_an_earlier_version(index, monkeypatch, ["boot"])
    before = new_index()
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "FORMAT", index_module.PLAIN)
        assert before.collection("images").count() == 1
    while index.add_documents("images", lambda: None):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "FORMAT", index_module.PLAIN)
        with pytest.raises(NewerFormat):
            new_index().collection("images")
