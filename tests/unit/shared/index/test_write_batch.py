"""Pictures and keys end as their versions say, however often and in whatever order changes are delivered."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import IndexUnavailable
from shared.index.collection import Collection
from shared.index.provenance import MAX_CONTRIBUTIONS, MAX_PROVENANCE_BYTES, KeyRecord, StoredImage
from shared.index.write_batch import Outcome, WriteBatch
from shared.models import Image, ItemState
from shared.storage.vector_log import Addition
from shared.validation import MAX_METADATA, MAX_METADATA_BYTES, MAX_METADATA_LISTED
from tests.unit.stages import DIMENSION, StubCollection, image

INDEXED, DUPLICATE = ItemState.INDEXED, ItemState.DUPLICATE
VECTOR = np.zeros(DIMENSION, np.float32)


@dataclass(frozen=True)
class Change:
    """An item that brings a picture (`op` "add"), or the deletion of a picture or a key."""

    op: str
    version: int
    image_id: str = ""
    key: str | None = None
    colour: str = ""


class Stored:
    """A collection, and the removals that the ledger remembers of it."""

    def __init__(self) -> None:
        self.collection = StubCollection()
        self.removals: dict[str, int] = {}

    def deliver(self, changes: Sequence[Change], check: Callable[[], None] = lambda: None) -> list[Outcome]:
        """As one batch of the writer."""
        for change in changes:
            if change.op == "delete":
                before = self.removals.get(change.image_id, 0)
                self.removals[change.image_id] = max(before, change.version)
        batch = WriteBatch(
            cast(Collection, self.collection),
            ids=[change.image_id for change in changes if change.image_id],
            keys=[change.key for change in changes if change.key],
            removals=self.removals,
        )
        outcomes = [one for change in changes if (one := _make(batch, change)) is not None]
        batch.save(check)
        return outcomes

    @property
    def images(self) -> dict[str, StoredImage]:
        return self.collection.images

    @property
    def state(self) -> dict[str, tuple[list[str], list[str], dict[str, Any]]]:
        images = (one.image for one in self.images.values())
        return {one.id: (one.sources, sorted(one.keys), one.metadata) for one in images}


def _make(batch: WriteBatch, change: Change) -> Outcome | None:
    if change.op == "delete":
        batch.remove(change.image_id, change.version)
    elif change.op == "delete_key":
        batch.remove_key(change.key or "", change.version)
    else:
        metadata = {"colour": change.colour} if change.colour else {}
        new = image(change.image_id, f"s{change.version}", change.key, **metadata)
        return batch.add(new, f"job:{change.version}", change.version, VECTOR)
    return None


def add(version: int, image_id: str, key: str | None = None, colour: str = "") -> Change:
    return Change("add", version, image_id, key, colour)


def as_versions_say(changes: Sequence[Change]) -> dict[str, tuple[list[str], list[str], dict[str, Any]]]:
    """The same, thought through the other way: what each item's picture is in the end, all being known."""
    removed = {c.image_id: c.version for c in sorted(changes, key=lambda c: c.version) if c.op == "delete"}
    living = [c for c in changes if c.op == "add" and c.key is None]
    for key in {c.key for c in changes if c.key}:
        history = sorted((c for c in changes if c.key == key), key=lambda c: c.version)
        last = history[-1]
        while history and last.op == "add" and history[-1].image_id == last.image_id:
            living.append(history.pop())
    state: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {}
    for change in sorted(living, key=lambda c: c.version):
        if change.version > removed.get(change.image_id, 0):
            sources, keys, metadata = state.setdefault(change.image_id, ([], [], {}))
            sources.append(f"s{change.version}")
            if change.key and change.key not in keys:
                keys.append(change.key)
            metadata.update({"colour": change.colour} if change.colour else {})
    return {image_id: (sources, sorted(keys), data) for image_id, (sources, keys, data) in state.items()}


IDS, KEYS = st.sampled_from("abc"), st.sampled_from(["k", "l"])
OPS = st.one_of(
    st.builds(lambda i, k, c: ("add", i, k, c), IDS, st.none() | KEYS, st.sampled_from(["", "red", "blue"])),
    st.builds(lambda k: ("delete_key", "", k, ""), KEYS),
    st.builds(lambda i: ("delete", i, None, ""), IDS),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Change], list[list[Change]]]:
    """Changes in the order of their versions, and batches in which each comes once or more, in any order."""
    ops = draw(st.lists(OPS, min_size=1, max_size=8))
    changes = [Change(op, n, i, k, c) for n, (op, i, k, c) in enumerate(ops, start=1)]
    again = draw(st.lists(st.sampled_from(changes), max_size=4))
    order = draw(st.permutations(changes + again))
    batches: list[list[Change]] = [[]]
    for change, cut in zip(order, draw(st.lists(st.booleans(), min_size=len(order))), strict=False):
        if cut:
            batches.append([])
        batches[-1].append(change)
    return changes, batches


@settings(max_examples=150)
@given(deliveries())
def test_the_end_depends_on_the_versions_alone(given: tuple[list[Change], list[list[Change]]]) -> None:
    changes, batches = given
    stored = Stored()
    for batch in batches:
        stored.deliver(batch)
    assert stored.state == as_versions_say(changes)


@settings(max_examples=150)
@given(deliveries(), st.lists(st.integers(1, 4), min_size=20))
def test_a_writer_that_dies_between_two_writes_leaves_nothing_that_the_next_delivery_does_not_complete(
    given: tuple[list[Change], list[list[Change]]], deaths: list[int]
) -> None:
    changes, batches = given
    stored = Stored()
    for batch, death in zip(batches, deaths, strict=False):
        calls = iter(range(1, 100))

        def die(calls: Any = calls, death: int = death) -> None:
            if next(calls) == death:
                raise IndexUnavailable("The writer died here.")

        try:
            stored.deliver(batch, die)
        except IndexUnavailable:
            stored.deliver(batch)
    assert stored.state == as_versions_say(changes)


@settings(max_examples=150)
@given(st.lists(OPS, min_size=1, max_size=8), st.randoms())
def test_a_log_that_is_replayed_ends_in_the_same_state(ops: list[Any], random: Any) -> None:
    changes = [Change(op, n, i, k, c) for n, (op, i, k, c) in enumerate(ops, start=1)]
    stored, whole = Stored(), WriteBatch(cast(Collection, StubCollection()))
    for change in random.sample(changes, len(changes)):
        stored.deliver([change])
    for change in changes:
        whole.apply(_record(change))
    replayed = {i: (one.image.sources, sorted(one.image.keys)) for i, one in whole.images.items()}
    assert replayed == {i: (sources, keys) for i, (sources, keys, _) in stored.state.items()}


def _record(change: Change) -> dict[str, Any]:
    if change.op == "add":
        new = image(change.image_id, f"s{change.version}", change.key)
        return Addition(0, 1, f"job:{change.version}", new, change.version).record()
    return {"op": change.op, "version": change.version, "id": change.image_id, "key": change.key}


def test_a_record_that_a_later_version_wrote_is_an_error() -> None:
    with pytest.raises(ValueError, match="later version"):
        WriteBatch(cast(Collection, StubCollection())).apply({"op": "merge", "version": 1})


@settings(max_examples=150)
@given(deliveries())
def test_a_key_points_at_one_picture_which_says_so(given: tuple[list[Change], list[list[Change]]]) -> None:
    stored = Stored()
    for batch in given[1]:
        stored.deliver(batch)
        for key in "kl":
            holders = [i for i, one in stored.images.items() if key in one.image.keys]
            record = stored.collection.keys.get(key, KeyRecord(key))
            assert len(holders) <= 1
            assert set(holders) <= set(record.candidates)


def test_a_later_picture_under_a_key_replaces_the_earlier_one_in_whatever_order() -> None:
    for order in ([add(1, "a", "k"), add(2, "b", "k")], [add(2, "b", "k"), add(1, "a", "k")]):
        stored = Stored()
        for change in order:
            assert stored.deliver([change]) == [INDEXED]
        assert stored.state == {"b": (["s2"], ["k"], {})}


def test_the_same_bytes_under_a_second_key_are_a_duplicate_with_both_keys() -> None:
    stored = Stored()
    assert stored.deliver([add(1, "a", "k"), add(2, "a", "l")]) == [INDEXED, DUPLICATE]
    assert stored.state == {"a": (["s1", "s2"], ["k", "l"], {})}
    assert stored.deliver([add(1, "a", "k")]) == [INDEXED], "delivered again"


def test_a_picture_goes_with_its_last_key_unless_an_item_without_one_has_brought_it() -> None:
    stored = Stored()
    stored.deliver([add(1, "a", "k"), add(2, "a", "l"), add(3, "c", "m"), add(4, "c")])
    stored.deliver([Change("delete_key", 5, key="k"), Change("delete_key", 6, key="m")])
    assert stored.state == {"a": (["s2"], ["l"], {}), "c": (["s4"], [], {})}
    stored.deliver([Change("delete_key", 7, key="l")])
    assert list(stored.state) == ["c"]


def test_a_deleted_key_is_not_brought_back_by_what_is_older_but_by_what_is_newer() -> None:
    stored = Stored()
    stored.deliver([Change("delete_key", 5, key="k")])
    stored.deliver([add(4, "a", "k")])
    assert stored.state == {}
    stored.deliver([add(6, "b", "k")])
    assert list(stored.state) == ["b"]


def test_metadata_is_what_the_latest_item_says_of_each_name() -> None:
    stored = Stored()
    stored.deliver([add(3, "a", colour="blue")])
    stored.deliver([add(1, "a", colour="red")])
    assert stored.images["a"].image.metadata == {"colour": "blue"}


def test_what_a_key_said_of_a_picture_goes_with_it() -> None:
    stored = Stored()
    stored.deliver([add(1, "a", colour="red"), add(2, "a", "k", "blue"), add(3, "b", "k")])
    assert stored.images["a"].image.metadata == {"colour": "red"}
    assert stored.images["a"].image.sources == ["s1"]


def changed(stored: Stored, version: int, metadata: dict[str, Any]) -> dict[str, Any]:
    batch = WriteBatch(cast(Collection, stored.collection), ids=["a"])
    batch.change("a", version, metadata)
    batch.save(lambda: None)
    return stored.images["a"].image.metadata


def test_a_change_of_metadata_stands_against_an_older_item_that_comes_later() -> None:
    stored = Stored()
    stored.deliver([add(2, "a", colour="red")])
    assert changed(stored, 5, {"colour": None, "shape": "round"}) == {"shape": "round"}
    stored.deliver([add(2, "a", colour="red"), add(4, "a", colour="blue")])
    assert stored.images["a"].image.metadata == {"shape": "round"}
    stored.deliver([add(6, "a", colour="green")])
    assert stored.images["a"].image.metadata == {"shape": "round", "colour": "green"}


def test_a_change_from_1_to_true_is_one() -> None:
    stored = Stored()
    stored.deliver([add(1, "a")])
    changed(stored, 2, {"n": 1})
    assert changed(stored, 3, {"n": True})["n"] is True
    assert len(stored.images["a"].contributions) == 2, "an overruled change is forgotten"


def test_a_picture_remembers_so_many_items_and_takes_no_more_keys() -> None:
    stored = Stored()
    stored.deliver([add(n, "a") for n in range(1, MAX_CONTRIBUTIONS + 6)])
    assert len(stored.images["a"].image.sources) == MAX_CONTRIBUTIONS
    assert stored.images["a"].image.sources[0] == "s6"
    stored.deliver([add(2_000 + n, "b", f"key{n}") for n in range(MAX_CONTRIBUTIONS)])
    (outcome,) = stored.deliver([add(9_000, "b", "one more")])
    assert "takes no more" in outcome
    assert stored.deliver([add(9_001, "b", "key0")]) == [DUPLICATE]


def bring(stored: Stored, version: int, new: Image) -> Outcome:
    batch = WriteBatch(cast(Collection, stored.collection), ids=[new.id], keys=new.keys)
    outcome = batch.add(new, f"job:{version}", version, VECTOR)
    batch.save(lambda: None)
    return outcome


def test_items_pile_up_no_more_names_on_a_picture_than_one_item_may_have() -> None:
    stored = Stored()
    outcomes = [bring(stored, n, image("a", f"s{n}", **{f"name{n}": n})) for n in range(1, MAX_METADATA + 3)]
    assert outcomes[:MAX_METADATA] == [INDEXED, *[DUPLICATE] * (MAX_METADATA - 1)]
    assert all(f"at most {MAX_METADATA} are allowed" in str(one) for one in outcomes[MAX_METADATA:])
    assert len(stored.images["a"].image.metadata) == MAX_METADATA
    assert bring(stored, 7, image("a", "s7", name7=7)) is DUPLICATE, "a redelivery is none too much"
    assert bring(stored, 99, image("a", "s99", name7=8)) is DUPLICATE


def test_items_pile_up_no_more_bytes_on_a_picture_than_one_item_may_have() -> None:
    stored = Stored()
    text = "x" * (MAX_METADATA_BYTES // 2)
    assert bring(stored, 1, image("a", "s1", one=text)) is INDEXED
    assert f"at most {MAX_METADATA_BYTES:,} are allowed" in str(bring(stored, 2, image("a", "s2", two=text)))
    assert bring(stored, 3, image("a", "s3", one="short")) is DUPLICATE
    assert stored.state == {"a": (["s1", "s3"], [], {"one": "short"})}


def test_items_pile_up_no_more_texts_in_lists_on_a_picture_than_one_item_may_have() -> None:
    stored = Stored()
    most = [""] * MAX_METADATA_LISTED
    assert bring(stored, 1, image("a", "s1", one=most)) is INDEXED
    assert f"at most {MAX_METADATA_LISTED:,} are allowed" in str(bring(stored, 2, image("a", "s2", two=[""])))
    assert bring(stored, 3, image("a", "s3", one=["short"])) is DUPLICATE
    assert stored.state == {"a": (["s1", "s3"], [], {"one": ["short"]})}


def test_of_items_without_a_key_the_latest_are_remembered_and_keys_are_refused_past_the_bytes() -> None:
    stored = Stored()
    text = "x" * (MAX_PROVENANCE_BYTES // 5)
    assert [bring(stored, n, image("a", f"s{n}", text=text)) for n in range(1, 9)][-1] is DUPLICATE
    assert stored.images["a"].image.sources == ["s5", "s6", "s7", "s8"]
    keyed = [bring(stored, n, image("b", f"s{n}", f"k{n}", text=text)) for n in range(11, 17)]
    assert keyed[:4] == [INDEXED, *[DUPLICATE] * 3]
    assert "takes no more" in str(keyed[-1])
    assert stored.images["b"].image.keys == ["k11", "k12", "k13", "k14"]


def test_what_earlier_versions_let_pile_up_stays_and_is_replayed_but_does_not_grow() -> None:
    stored = Stored()
    batch = WriteBatch(cast(Collection, stored.collection))
    for n in range(1, 2 * MAX_METADATA):
        batch.apply(Addition(0, 1, f"job:{n}", image("a", f"s{n}", **{f"name{n}": n}), n).record())
    stored.collection.images |= batch.images
    assert len(stored.images["a"].image.metadata) == 2 * MAX_METADATA - 1
    assert bring(stored, 99, image("a", "s99", name1=2)) is DUPLICATE
    assert "metadata values" in str(bring(stored, 100, image("a", "s100", another=1)))


def test_a_picture_with_all_that_it_may_have_is_brought_in_no_time() -> None:
    stored = Stored()
    whole = replace(
        image("a", "s0", texts=[""] * MAX_METADATA_LISTED),
        sources=[f"s{n}" for n in range(MAX_CONTRIBUTIONS)],
        keys=[f"k{n}" for n in range(MAX_CONTRIBUTIONS)],
    )
    before = time.process_time()
    assert bring(stored, 1, whole) is INDEXED
    assert time.process_time() - before < 5, "it took minutes"
    assert stored.images["a"].image.keys == whole.keys


def test_a_whole_picture_can_be_brought_with_all_its_keys_and_sources() -> None:
    stored = Stored()
    stored.deliver([add(1, "b", "l")])
    whole = replace(image("a", "s1", shop="x"), sources=["s1", "s2", "s3"], keys=["k", "l"])
    batch = WriteBatch(cast(Collection, stored.collection), ids=["a"], keys=["k", "l"])
    assert batch.add(whole, "job:5", 5, VECTOR) is INDEXED
    batch.save(lambda: None)
    assert stored.state == {"a": (["s1", "s2", "s3"], ["k", "l"], {"shop": "x"})}
    stored.deliver([Change("delete_key", 6, key="k"), Change("delete_key", 7, key="l")])
    assert stored.state == {"a": (["s3"], [], {"shop": "x"})}


@pytest.mark.parametrize("older_first", [True, False])
def test_one_batch_writes_what_is_left_in_the_end(older_first: bool) -> None:
    stored = Stored()
    batch = [add(1, "a", "k"), add(2, "b", "k")]
    stored.deliver(batch if older_first else batch[::-1])
    assert stored.collection.calls == [1]
    assert list(stored.state) == ["b"]
