import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import IndexUnavailable
from shared.filters.conditions import Where
from shared.filters.parsing import parse_where
from shared.index import survey as survey_module
from shared.index.records import PLACES, to_record
from shared.index.survey import MAX_LISTED, MAX_VALUES, Survey, Surveys, survey
from shared.models import Image, Metadata


class Store:
    """Records as Chroma gives them, and how many were read in each call."""

    def __init__(self, *metadata: Metadata, **fields: Any) -> None:
        ids = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(len(metadata))]
        self.records = {
            image_id: to_record(Image(image_id, "s", [], "jpeg", 1, 1, 1, metadata=one, **fields), "job:0")
            for image_id, one in zip(ids, metadata, strict=True)
        }
        self.read: list[int] = []

    def get(self, ids: Any = None, *, where: Any = None, include: list[str]) -> dict[str, Any]:
        if ids is not None:
            assert include == ["metadatas"]
            self.read.append(len(ids))
            return {"ids": ids, "metadatas": [self.records[one] for one in ids]}
        assert include == []
        most = where["_place"]["$lt"] if where else PLACES
        return {"ids": [one for one, record in self.records.items() if record["_place"] < most]}

    def query(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    def count(self) -> int:
        return len(self.records)


def test_names_have_their_types_and_values_with_counts() -> None:
    found = survey(
        Store(
            {"price": 5, "shop": "north", "sizes": ["s", "m", "m"], "new": True},
            {"price": 5.0, "shop": "south", "sizes": ["m"], "new": 1},
            {"price": "5", "shop": "north", "sizes": []},
            tags=["cat"],
        ),
        None,
    )
    assert (found.pictures, found.count, found.complete) == (3, 3, True)
    assert list(found.names) == ["price", "shop", "sizes", "new"]
    assert found.names["price"].types == {"number": 2, "text": 1}
    assert found.names["price"].values == [(5, 2), ("5", 1)]
    assert found.names["sizes"].types == {"texts": 3}
    assert found.names["sizes"].values == [("m", 2), ("s", 1)]
    assert [(type(value), count) for value, count in found.names["new"].values] == [(bool, 1), (int, 1)]
    assert {one.name: one.values for one in found.fields} == {"tags": [("cat", 3)], "format": [("jpeg", 3)]}


def test_a_collection_without_pictures_is_known_completely() -> None:
    found = survey(Store(), None)
    assert (found.pictures, found.complete, found.names) == (0, True, {})


def test_what_does_not_match_is_not_there() -> None:
    found = survey(Store({"a": 1}, {"b": 1}), parse_where({"a": 1}))
    assert (found.pictures, found.complete, list(found.names)) == (1, True, ["a"])


def test_of_many_pictures_some_are_looked_at_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "MOST", 400)
    monkeypatch.setattr(survey_module, "_PAGE", 90)
    store = Store(*({"n": n // 400, "rare": "x"} if n % 50 == 0 else {"n": n // 400} for n in range(4_000)))
    found = survey(store, None)
    assert max(store.read) == 90
    assert 300 < found.pictures == sum(store.read) <= 400
    assert (found.count, found.complete) == (4_000, False)
    assert {value for value, _ in found.names["n"].values} == set(range(10))
    assert all(20 < count < 65 for _, count in found.names["n"].values)
    assert "rare" in found.names
    assert survey(Store(*({"n": n} for n in range(400))), None).complete


def test_when_time_is_up_pictures_from_all_over_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "_PAGE", 100)
    store = Store(*({"n": n // 100} for n in range(1_000)))
    moments = iter(range(100))
    monkeypatch.setattr(survey_module, "LONGEST_SECONDS", 3)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    found = survey(store, None)
    assert (store.read, found.pictures, found.complete) == ([100, 100, 100], 300, False)
    assert len(found.names["n"].values) == 10


def test_hostile_metadata_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "_MAX_COUNTED", 100)
    monkeypatch.setattr(survey_module, "_MAX_NAMES", 300)
    many = survey(Store(*({f"n{n}": n, "long": "x" * 200, "same": "é\ud800"} for n in range(400))), None)
    assert len(many.names) == 300
    assert not many.complete
    assert (many.names["long"].values, many.names["long"].all_values) == ([], False)
    assert many.names["same"].values == [("é\ud800", 400)]
    assert sum(len(one.values) for one in many.names.values()) <= MAX_LISTED
    frequent = survey(Store(*({"n": n} for n in range(90))), None).names["n"]
    assert (frequent.values, frequent.all_values) == (
        [(n, 1) for n in range(25)],
        False,
    )
    assert len(frequent.values) == MAX_VALUES


class Collection:
    def __init__(self, look: Callable[[], Survey], physical: str = "images-1") -> None:
        self.physical = physical
        self._look = look
        self.looks = 0

    def survey(self, where: Where | None) -> Survey:
        self.looks += 1
        return self._look()


def made(took_s: float = 0.0) -> Survey:
    return Survey(1, 1, True, {}, [], took_s)


def test_a_look_is_kept_the_longer_the_more_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    for took_s, kept_s in ((0.01, 2.0), (0.5, 10.0)):
        collection, surveys = Collection(lambda took_s=took_s: made(took_s)), Surveys()
        assert surveys.get(collection, None, 5) == surveys.get(collection, None, 5) == made(took_s)
        ended_at = time.monotonic()
        for later_s, looks in ((kept_s - 0.5, 1), (kept_s + 0.5, 2)):
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic", lambda later_s=later_s, at=ended_at: at + later_s)
                surveys.get(collection, None, 5)
            assert collection.looks == looks


def test_who_does_not_wait_gets_nothing_and_all_share_one_look() -> None:
    gate = threading.Event()
    collection, surveys = Collection(lambda: made(float(gate.wait(10)))), Surveys()
    assert surveys.get(collection, None, 0.01) is None
    assert surveys.get(collection, None, 0.01) is None
    gate.set()
    assert surveys.get(collection, None, 5) == made(1.0)
    assert collection.looks == 1


def test_each_collection_and_condition_is_looked_at_apart() -> None:
    surveys, one = Surveys(), Collection(made)
    surveys.get(one, None, 5)
    surveys.get(one, parse_where({"nsfw": {"lte": 0.5}}), 5)
    surveys.get(one, parse_where({"nsfw": {"lte": 0.5}}), 5)
    assert one.looks == 2
    others = [Collection(made, f"images-{n}") for n in range(2, 40)]
    for other in others:
        surveys.get(other, None, 5)
    assert len(surveys._kept) < 20
    surveys.get(one, None, 5)
    assert one.looks == 3


def test_a_failed_look_is_raised_and_not_kept() -> None:
    def fail() -> Survey:
        raise IndexUnavailable("down")

    collection, surveys = Collection(fail), Surveys()
    for looks in (1, 2):
        with pytest.raises(IndexUnavailable):
            surveys.get(collection, None, 5)
        assert collection.looks == looks
