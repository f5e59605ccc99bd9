"""What sources say of pictures by their entries: replaced, withdrawn, and never taken for another's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import IndexUnavailable
from shared.index.collection import Collection
from shared.index.provenance import (
    MAX_CONTRIBUTIONS,
    MAX_PROVENANCE_BYTES,
    Contribution,
    StoredImage,
    entry_of,
    run_of,
)
from shared.index.write_batch import Outcome, WriteBatch
from shared.models import ItemState
from shared.storage.vector_log import Addition
from tests.unit.stages import DIMENSION, StubCollection, image

INDEXED, DUPLICATE = ItemState.INDEXED, ItemState.DUPLICATE
VECTOR = np.zeros(DIMENSION, np.float32)
SHOP, FEED = "shop", "feed"
WEB = "http://x/"


@dataclass(frozen=True)
class Add:
    """An item that brings a picture, of a source's entry with `of`; a run of that begins at version `run`."""

    version: int
    image_id: str
    source: str = WEB
    key: str | None = None
    of: str | None = None
    replaces: tuple[str, ...] = ()
    colour: str = ""
    run: int = 0


@dataclass(frozen=True)
class Withdraw:
    version: int
    image_id: str
    entry: str
    of: str = SHOP
    run: int = 0


@dataclass(frozen=True)
class Delete:
    """The deletion of a picture, or of a key."""

    version: int
    image_id: str = ""
    key: str = ""


Op = Add | Withdraw | Delete


@dataclass
class Stored:
    """A collection, and what the ledger remembers of it."""

    collection: StubCollection = field(default_factory=StubCollection)
    removals: dict[str, int] = field(default_factory=dict)

    def deliver(self, *ops: Op, check: Callable[[], None] = lambda: None) -> list[Outcome | bool]:
        """As one batch of the writer."""
        for op in ops:
            if isinstance(op, Delete) and op.image_id:
                self._remember(op.image_id, op.version)
        keys = [one.key for one in ops if not isinstance(one, Withdraw) and one.key]
        ids = [one.image_id for one in ops] + [i for one in ops if isinstance(one, Add) for i in one.replaces]
        batch = WriteBatch(
            cast(Collection, self.collection), ids=filter(None, ids), keys=keys, removals=dict(self.removals)
        )
        said = [_made(batch, op) for op in ops]
        batch.save(check)
        for op in ops:
            if isinstance(op, Add | Withdraw) and op.of:
                self._remember(run_of(op.of), op.run)
        return said

    def _remember(self, name: str, version: int) -> None:
        self.removals[name] = max(version, self.removals.get(name, 0))

    @property
    def images(self) -> dict[str, StoredImage]:
        return self.collection.images

    @property
    def state(self) -> dict[str, tuple[list[str], list[str], dict[str, Any]]]:
        images = (one.image for one in self.images.values())
        return {one.id: (one.sources, sorted(one.keys), one.metadata) for one in images}

    def at(self, key: str) -> str | None:
        batch = WriteBatch(cast(Collection, self.collection), keys=[key])
        return batch.holder(key)


def _made(batch: WriteBatch, op: Op) -> Outcome | bool:
    if isinstance(op, Withdraw):
        return batch.withdraw(op.image_id, op.of, op.entry, op.version)
    if isinstance(op, Delete):
        return batch.remove_key(op.key, op.version) if op.key else batch.remove(op.image_id, op.version)
    new = image(op.image_id, op.source, op.key, **({"colour": op.colour} if op.colour else {}))
    return batch.add(new, f"job:{op.version}", op.version, VECTOR, of=op.of, replaces=op.replaces)


def of_shop(version: int, image_id: str, source: str = WEB, **fields: Any) -> Add:
    return Add(version, image_id, source, **{"of": SHOP, **fields})


# What it says


def test_what_a_source_says_of_an_entry_now_replaces_what_it_said() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", colour="red"), Add(2, "a", "u"))
    assert stored.deliver(of_shop(5, "a")) == [DUPLICATE]
    assert stored.state == {"a": (["u", WEB], [], {})}, "metadata that left the feed leaves the picture"
    assert stored.deliver(of_shop(3, "a", colour="late")) == [DUPLICATE]
    assert stored.state["a"][2] == {}, "what it said before changes nothing any more"


def test_an_entry_with_a_key_whose_picture_moved_says_where_it_is_now() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", "old", key="k"))
    stored.deliver(of_shop(5, "a", "new", key="k"))
    assert stored.state == {"a": (["new"], ["k"], {})}


def test_a_key_that_moves_to_another_url_takes_the_former_picture_along() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", "old", key="k"))
    assert stored.deliver(of_shop(5, "b", "new", key="k", replaces=("a",))) == [INDEXED]
    assert stored.state == {"b": (["new"], ["k"], {})}
    assert stored.at("k") == "b"


def test_a_url_with_another_picture_now_loses_the_former_one_but_not_what_else_has_it() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a"), of_shop(2, "c", "u"), Add(3, "c", "by hand"))
    stored.deliver(of_shop(5, "b", replaces=("a",)), of_shop(6, "d", "u", replaces=("c",)))
    assert stored.state == {"b": ([WEB], [], {}), "c": (["by hand"], [], {}), "d": (["u"], [], {})}


def test_a_picture_that_takes_no_more_leaves_the_entry_what_it_had() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a"), *(of_shop(n, "b", f"u{n}") for n in range(2, MAX_CONTRIBUTIONS + 2)))
    (outcome,) = stored.deliver(of_shop(9_000, "b", replaces=("a",)))
    assert "takes no more" in str(outcome)
    assert "a" in stored.images


def test_a_picture_that_the_index_refuses_leaves_the_entry_what_it_had() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a"))
    stored.collection.refused = {"b"}
    stored.deliver(of_shop(5, "b", replaces=("a",)))
    assert list(stored.state) == ["a"]


# Withdrawals


def test_two_sources_and_a_user_with_one_picture_each_withdraw_their_own() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a"), Add(2, "a", of=FEED), Add(3, "a"))
    assert stored.deliver(Withdraw(9, "a", WEB), Withdraw(9, "a", WEB)) == [True, False]
    assert {one.of for one in stored.images["a"].contributions} == {FEED, None}
    stored.deliver(Withdraw(10, "a", WEB, FEED))
    assert stored.state == {"a": ([WEB], [], {})}
    assert stored.deliver(Withdraw(11, "a", WEB)) == [False], "a source takes away what it has brought alone"


def test_a_picture_goes_with_its_last_entry_and_comes_back_with_a_later_one() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a"), of_shop(2, "a", "other"))
    stored.deliver(Withdraw(9, "a", WEB, run=10))
    assert stored.state == {"a": (["other"], [], {})}
    stored.deliver(Withdraw(19, "a", "other", run=20))
    assert stored.state == {}
    assert stored.deliver(of_shop(30, "a", run=30)) == [INDEXED]
    assert stored.deliver(Withdraw(9, "a", WEB, run=10)) == [False], "a late one is of what was before it"
    assert list(stored.state) == ["a"]


def test_a_key_that_somebody_else_gave_too_stays() -> None:
    for others in ([Add(1, "a", "u", "k")], [Add(3, "a", "u", "k")], [Add(3, "a", "u", "k", FEED)]):
        stored = Stored()
        stored.deliver(of_shop(2, "a", key="k"), *others)
        stored.deliver(Withdraw(9, "a", "k"))
        assert stored.state == {"a": (["u"], ["k"], {})}
        assert stored.at("k") == "a"
        stored.deliver(Add(20, "b", "v", "k"))
        assert list(stored.state) == ["b"], "and goes where it is brought to then"


def test_a_key_that_a_source_withdrew_points_nowhere_and_its_picture_stays_where_others_have_it() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", key="k"), Add(2, "a", "u", "l"))
    stored.deliver(Withdraw(9, "a", "k"))
    assert stored.state == {"a": (["u"], ["l"], {})}
    assert stored.at("k") is None


def test_the_key_of_a_withdrawn_entry_is_not_taken_by_an_older_item_that_comes_late() -> None:
    stored = Stored()
    stored.deliver(Add(1, "a", "u", "k"), of_shop(5, "a", key="k"))
    stored.deliver(Withdraw(9, "a", "k"))
    stored.deliver(Add(3, "b", "v", "k"))
    assert stored.state == {}, "as if it had come in time: it took the key from u, and lost it to the shop"


def test_a_withdrawn_key_is_not_taken_by_an_item_that_is_older_than_what_had_it() -> None:
    stored = Stored()
    stored.deliver(of_shop(5, "a", key="k"))
    stored.deliver(Withdraw(9, "a", "k"))
    stored.deliver(Add(3, "b", "v", "k"))
    assert stored.state == {}
    stored.deliver(Add(5, "a", "u", "k"), of_shop(7, "a", key="k"), Withdraw(9, "a", "k"), Delete(6, key="k"))
    assert stored.state == {}
    stored.deliver(Add(6, "b", "v", "k"))
    assert stored.state == {}, "the shop took it from v, and v had nothing else"


def test_a_withdrawn_key_is_not_lost_to_who_gave_it_the_same_picture_before_and_comes_late() -> None:
    for others in (Add(3, "a", "u", "k"), Add(3, "a", "u", "k", FEED, run=3)):
        stored = Stored()
        stored.deliver(of_shop(5, "a", key="k"))
        stored.deliver(Withdraw(9, "a", "k"))
        stored.deliver(others)
        assert stored.state == {"a": (["u"], ["k"], {})}


def test_what_a_run_withdraws_leaves_an_item_of_the_same_bytes_on_its_way_alone() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", run=1))
    stored.deliver(Withdraw(9, "a", WEB, run=10))
    assert stored.state == {}
    assert stored.deliver(Add(5, "a", "u"), Add(6, "a", "v", of=FEED, run=6)) == [INDEXED, DUPLICATE]
    assert stored.state == {"a": (["u", "v"], [], {})}


@pytest.mark.parametrize("later", [Withdraw(9, "a", WEB, run=10), of_shop(10, "b", replaces=("a",), run=10)])
def test_an_addition_of_an_earlier_run_that_comes_late_brings_nothing_back(later: Op) -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", run=1))
    stored.deliver(later)
    stored.deliver(of_shop(1, "a", run=1))
    assert "a" not in stored.state


def test_an_addition_of_an_earlier_run_that_comes_late_takes_nothing_away_that_the_later_run_left() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", "u", key="k", run=1), of_shop(2, "b", run=1))
    stored.deliver(Withdraw(9, "b", WEB, run=10))
    stored.deliver(of_shop(1, "a", "u", key="k", run=1))
    assert stored.state == {"a": (["u"], ["k"], {})}


def test_what_was_deleted_by_hand_stays_so_and_the_entry_has_left_its_former_picture_all_the_same() -> None:
    stored = Stored()
    stored.deliver(of_shop(1, "a", run=1))
    stored.deliver(Delete(20, "b"))
    stored.deliver(of_shop(10, "b", replaces=("a",), run=10))
    assert stored.state == {}


# Limits


def test_what_entries_say_is_never_dropped_to_make_room() -> None:
    stored = Stored()
    stored.deliver(*(of_shop(n, "a", f"u{n}") for n in range(1, MAX_CONTRIBUTIONS + 1)))
    (outcome,) = stored.deliver(of_shop(2_000, "a", "one more"))
    assert "1,000 entries of sources, and takes no more" in str(outcome)
    assert stored.deliver(of_shop(2_001, "a", "u1", colour="red")) == [DUPLICATE], "an entry may say more"
    assert stored.deliver(Add(3_000, "a", "by hand")) == [DUPLICATE]
    assert sum(one.of == SHOP for one in stored.images["a"].contributions) == MAX_CONTRIBUTIONS
    text = "x" * (MAX_PROVENANCE_BYTES // 2 - 2_000)
    assert stored.deliver(of_shop(1, "b", "v1" + text), of_shop(2, "b", "v2" + text)) == [INDEXED, DUPLICATE]
    (outcome,) = stored.deliver(of_shop(3, "b", "v3" + text))
    assert "bytes, and it takes no more" in str(outcome)


# In whatever order


@dataclass(frozen=True)
class Given:
    """Operations in the order of their versions, and deliveries of them in another, each once or more."""

    ops: list[Op]
    deliveries: list[Op]


ENTRIES = [("u", None), ("v", None), ("w", "k"), ("x", "l")]
IDS, KEYS = st.sampled_from("abc"), st.sampled_from(["k", "l"])
LISTINGS = st.dictionaries(st.sampled_from(ENTRIES), st.tuples(IDS, st.sampled_from(["", "red"])), max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from([SHOP, FEED]), LISTINGS),
    st.tuples(st.just("add"), IDS, st.none() | KEYS),
    st.tuples(st.just("delete"), IDS, st.just("")),
    st.tuples(st.just("delete"), st.just(""), KEYS),
)


def _operations(steps: Sequence[Any]) -> Iterator[Op]:
    """What users do and what syncs make of listings; each run compares with what the one before brought."""
    brought: dict[str, dict[tuple[str, str | None], tuple[str, str]]] = {SHOP: {}, FEED: {}}
    for run, (what, one, other) in zip(range(100, 10_000, 100), steps, strict=False):
        if what == "add":
            yield Add(run, one, f"by hand {run}", other)
        elif what == "delete":
            yield Delete(run, one, other)
        else:
            before, brought[one] = brought[one], other
            gone = [(entry, said) for entry, said in before.items() if entry not in other]
            for (source, key), (image_id, _) in gone:
                yield Withdraw(run - 1, image_id, entry_of(source, key), one, run)
            changed = [pair for pair in other.items() if before.get(pair[0]) != pair[1]]
            for n, ((source, key), (image_id, colour)) in enumerate(changed):
                had = before.get((source, key))
                replaces = (had[0],) if had and had[0] != image_id else ()
                yield Add(run + n, image_id, source, key, one, replaces, colour, run)


def _run(op: Op) -> tuple[str | None, int]:
    return (None, 0) if isinstance(op, Delete) else (op.of, op.run)


@st.composite
def out_of_order(draw: st.DrawFn) -> Given:
    """Of a source's runs none begins before all of the one before was delivered; repeats come whenever."""
    ops = list(_operations(draw(st.lists(STEPS, min_size=1, max_size=8))))
    deliveries: list[Op] = []
    for op in draw(st.permutations(ops)):
        of, run = _run(op)
        waits = [
            one for one in ops if of and _run(one)[0] == of and _run(one)[1] < run and one not in deliveries
        ]
        deliveries += [*waits, op] if op not in deliveries else []
    for op in draw(st.lists(st.sampled_from(ops), max_size=4)) if ops else ():
        deliveries.insert(draw(st.integers(deliveries.index(op) + 1, len(deliveries))), op)
    return Given(ops, deliveries)


@settings(max_examples=150)
@given(out_of_order())
def test_the_end_depends_on_the_versions_alone(given: Given) -> None:
    in_order, stored = Stored(), Stored()
    for op in given.ops:
        in_order.deliver(op)
    for op in given.deliveries:
        stored.deliver(op)
    assert stored.state == in_order.state
    for key in "kl":
        assert stored.at(key) == in_order.at(key)


LATE = [
    Add(100, "a", "by hand 100", "k"),
    Add(300, "a", "w", "k", FEED, run=300),
    Add(200, "b", "by hand 200", "k"),
]


@settings(max_examples=150)
@example(Given([LATE[0], LATE[2], LATE[1]], LATE), 2)
@given(out_of_order(), st.integers(1, 3))
def test_a_writer_that_dies_between_two_writes_leaves_nothing_that_the_next_delivery_does_not_complete(
    given: Given, death: int
) -> None:
    in_order, stored = Stored(), Stored()
    for op in given.ops:
        in_order.deliver(op)
    for op in given.deliveries:
        calls = iter(range(1, 100))

        def die(calls: Iterator[int] = calls) -> None:
            if next(calls) == death:
                raise IndexUnavailable("The writer died here.")

        with suppress(IndexUnavailable):
            stored.deliver(op, check=die)
        stored.deliver(op)
    assert stored.state == in_order.state


@settings(max_examples=150)
@given(out_of_order())
def test_one_batch_and_a_log_that_is_replayed_end_in_the_same_state(given: Given) -> None:
    one_by_one, together = Stored(), Stored()
    for op in given.ops:
        one_by_one.deliver(op)
    together.deliver(*given.ops)
    assert together.state == one_by_one.state
    replayed = WriteBatch(cast(Collection, StubCollection()))
    for op in given.ops:
        replayed.apply(_record(op))
    images = {i: (one.image.sources, sorted(one.image.keys)) for i, one in replayed.images.items()}
    assert images == {i: (sources, keys) for i, (sources, keys, _) in one_by_one.state.items()}


def _record(op: Op) -> dict[str, Any]:
    match op:
        case Add():
            new = image(op.image_id, op.source, op.key)
            return Addition(
                0, 1, f"job:{op.version}", new, op.version, of=op.of, replaces=op.replaces
            ).record()
        case Withdraw():
            record = {"op": "withdraw", "id": op.image_id, "of": op.of, "entry": op.entry}
            return record | {"version": op.version}
        case Delete():
            what = {"op": "delete_key", "key": op.key} if op.key else {"op": "delete", "id": op.image_id}
            return what | {"version": op.version}


def test_a_contribution_of_a_source_names_its_entry() -> None:
    assert Contribution(1, "u", of=SHOP).entry == (SHOP, "u")
    assert Contribution(1, "u", "e\u0301", of=SHOP).entry == (SHOP, entry_of("u", "\u00e9"))
    assert replace(Contribution(1, "u"), of=None).entry == (None, "u")
