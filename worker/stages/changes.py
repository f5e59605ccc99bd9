"""Changes in bulk: what jobs that delete or update do to pictures by their ids or keys, and syncs' removals.

    fetch    hands a chunk on; of a dry run, notes what would become of it, and at the end adds that up
    index    the one writer: a chunk is one segment of the vector log and one write batch

The segment is written before the index, under one name for every delivery, and says what becomes of each
item: a later delivery of the chunk does the same again, and counts the same.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from shared.errors import CollectionNotFound, ItemError, Unavailable
from shared.index.collection import Collection
from shared.index.provenance import entry_of, run_of, sound_change
from shared.index.write_batch import WriteBatch
from shared.metrics.definitions import WRITE_BATCH, WRITE_SECONDS
from shared.models import Claim, Item, ItemState, JobKind, JsonObject, MetadataValue, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.blobs import change_key, dry_run_key, dry_run_prefix, listing_key
from shared.storage.catalogues import count_rows
from shared.storage.manifest import read_items
from shared.storage.trash import discard
from worker.recovery.lease import MAX_DELIVERIES, exhausted
from worker.stages.transition import Outcome, end_chunk, fail_chunk

MAX_SHOWN = 100
WAIT_SECONDS = 1.0
REMOVALS = "removals"  # the payload of a sync's chunk at index, of which these are written

log = structlog.get_logger(__name__)

Change = Mapping[str, MetadataValue | None]


@dataclass(frozen=True, slots=True)
class Said:
    """What becomes of an item: its state, the image that it concerns, and the fault of one that failed."""

    index: int
    state: ItemState
    image_id: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The records of the log for a chunk, and what becomes of each of its items."""

    said: list[Said] = field(default_factory=list)
    records: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a chunk's items, the key of its log segment, and the images that are gone."""

    said: list[Said]
    key: str = ""
    gone: Sequence[str] = ()


def begin(services: Services, claim: Claim) -> None:
    """Run the fetch stage. Chunks of a dry run end here, with what would become of their items."""
    if claim.options.get("dry_run"):
        _look(services, claim)
        return
    outcomes = [Outcome(i, "", ItemState.FETCHED) for i in services.ledger.pending(claim)]
    end_chunk(services, claim, outcomes, next_stage=Stage.INDEX)


def hand_on_removals(services: Services, claim: Claim) -> bool:
    """Run the fetch stage of a sync's claim that has nothing pending but removals; return False of another.

    They wait for the entries: a picture that is only listed under another URL shall not go and come again. An
    entry that has brought no picture has nothing to lose.
    """
    pending = services.ledger.pending(claim)
    span = (claim.chunk.job_id, claim.first_item, claim.last_item)
    listed = read_items(services.blobs, *span) if pending else []
    items = {i: listed[i - claim.first_item] for i in pending}
    if not items or not all(one.withdraws for one in items.values()):
        return False
    if _entries_are_open(services, claim.chunk.job_id):
        services.ledger.release(
            [claim], WAIT_SECONDS, count_delivery=False, waits=True, reason="Removals wait for the entries."
        )
        return True
    outcomes = [
        Outcome(i, one.source, ItemState.FETCHED, image_id=one.before[0])
        if one.before
        else Outcome(i, one.source, ItemState.UNCHANGED)
        for i, one in items.items()
    ]
    stage = Stage.INDEX if any(one.before for one in items.values()) else None
    end_chunk(services, claim, outcomes, next_stage=stage, payload=REMOVALS if stage else "")
    return True


def _entries_are_open(services: Services, job_id: str) -> bool:
    """Return whether items of a sync that come before its removals have still to end."""
    entries = count_rows(services.blobs, listing_key(job_id))
    first = (
        services.ledger.items(job_id, state, 0, 1)[0] for state in (ItemState.PENDING, ItemState.FETCHED)
    )
    return any(index < entries for found in first for index, _ in found)


def _look(services: Services, claim: Claim) -> None:
    """End a chunk of a dry run: nothing is changed, so whatever does not fail is `unchanged`."""
    items = read_items(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    said = _decision(services, claim, dict(enumerate(items, claim.first_item))).said
    would = _would(claim)
    states = [one.state for one in said]
    found = {
        "counts": {state: states.count(state) for state in (would, ItemState.UNCHANGED, ItemState.FAILED)},
        "ids": [one.image_id for one in said if one.state is would][:MAX_SHOWN],
    }
    services.blobs.put(dry_run_key(claim.chunk.job_id, claim.chunk.number), json.dumps(found).encode())
    left = [one if one.fault else replace(one, state=ItemState.UNCHANGED) for one in said]
    end_chunk(services, claim, [_outcome(one, items[one.index - claim.first_item]) for one in left])


def tell(services: Services, claim: Claim) -> None:
    """Handle the chunk beyond a dry run's items: add up what its chunks have found, as the job's result."""
    counts: Counter[str] = Counter(dict.fromkeys((_would(claim), ItemState.UNCHANGED, ItemState.FAILED), 0))
    ids: list[str] = []
    for key in services.blobs.list(dry_run_prefix(claim.chunk.job_id)):
        found = json.loads(services.blobs.get(key))
        counts.update(found["counts"])
        ids += found["ids"]
    listed = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    result = {
        "dry_run": True,
        "detail": f"Dry run, nothing was changed. It would be: {listed}.",
        "counts": counts,
        "ids": list(dict.fromkeys(ids))[:MAX_SHOWN],
    }
    end_chunk(services, claim, [], result=result, complete=True)


def _would(claim: Claim) -> ItemState:
    return ItemState.REMOVED if claim.kind is JobKind.DELETE else ItemState.UPDATED


def _decision(services: Services, claim: Claim, items: Mapping[int, Item]) -> Decision:
    """Return what would become of the items now."""
    try:
        collection = services.index.collection(claim.collection)
        batch = _batch(collection, claim, items.values())
        return _decide(batch, claim, items, _change_of(services, claim))
    except CollectionNotFound:
        return Decision([Said(i, ItemState.UNCHANGED) for i in items])


def write(services: Services, claim: Claim, check: Callable[[], None]) -> Callable[[], None] | None:
    """Run the index stage, by the holder of the writer's lease; return what tells the ledger.

    `check` is called before each write, and raises once the lease is lost.
    """
    if claim.deliveries > MAX_DELIVERIES:
        fail_chunk(services, claim, exhausted(claim))
        return None
    listed = read_items(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    held, _ = services.ledger.items(
        claim.chunk.job_id, ItemState.FETCHED, claim.first_item, claim.last_item - claim.first_item
    )
    items = {i: listed[i - claim.first_item] for i, _ in held if i < claim.last_item}
    if claim.payload == REMOVALS:  # beside entries of the chunk that are on their way to the index too
        items = {i: one for i, one in items.items() if one.withdraws}
    try:
        collection = services.index.collection(claim.collection)
        WRITE_BATCH.observe(len(items))
        with WRITE_SECONDS.time():
            written = _write(services, claim, collection, items, check)
    except CollectionNotFound:
        written = Written([Said(i, ItemState.UNCHANGED) for i in items])
    outcomes = [_outcome(one, items[one.index]) for one in written.said if one.index in items]
    return partial(_end, services, claim, outcomes, written)


def _write(
    services: Services,
    claim: Claim,
    collection: Collection,
    items: Mapping[int, Item],
    check: Callable[[], None],
) -> Written:
    """Log and make the changes."""
    name = vector_log.changes_name(claim.chunk, claim.version + claim.first_item)
    key = vector_log.changes_key(claim.collection, collection.pointer.fingerprint, name)
    if services.blobs.exists(key):
        return _make_again(services, collection, key, check)
    batch = _batch(collection, claim, items.values())
    made = _decide(batch, claim, items, _change_of(services, claim))
    if not made.records:
        return Written(made.said)
    check()
    services.ledger.writer.begin_changes(name, claim.collection)
    said = [_to_json(one) for one in made.said]
    vector_log.write_changes(services.blobs, key, collection.pointer.fingerprint, made.records, said)
    services.ledger.writer.record_removals(claim.collection, _removals(made.records))
    return _save(batch, made, key, check)


def finish_changes(services: Services, check: Callable[[], None]) -> None:
    """Make the changes that a writer has logged and died over; their job may have been cancelled since."""
    for name, collection_name in services.ledger.writer.unfinished().items():
        try:
            collection = services.index.collection(collection_name)
            key = vector_log.changes_key(collection_name, collection.pointer.fingerprint, name)
            _put_away(services, collection_name, _make_again(services, collection, key, check))
        except (CollectionNotFound, KeyError):  # nothing was logged yet, or it has gone with its collection
            services.ledger.writer.end_changes(name)
        except Unavailable as error:
            log.warning("changes_left_unfinished", segment=name, reason=error.detail)
        except Exception:  # it must not hold up all others; `verify` says what differs
            log.exception("changes_not_finished", segment=name)
            services.ledger.writer.end_changes(name)


def _make_again(services: Services, collection: Collection, key: str, check: Callable[[], None]) -> Written:
    """Make the changes of a log segment, as its writer did or was about to. Raises KeyError without it."""
    records, rows = vector_log.read_changes(services.blobs, key)
    made = Decision([_from_json(one) for one in rows], records)
    ids = [one.image_id for one in made.said if one.image_id]
    ids += [one["id"] for one in records if "id" in one]
    keys = [one["key"] for one in records if "key" in one]
    batch = WriteBatch(collection, ids=dict.fromkeys(ids), keys=keys)
    batch.load_keys()
    for record in records:
        _make(batch, record)
    name, writer = collection.pointer.name, services.ledger.writer
    removals = _removals(records)
    later = writer.removals(name, list(removals))  # an image that is there to be removed has none
    writer.record_removals(name, {i: one for i, one in removals.items() if later.get(i, 0) < one})
    return _save(batch, made, key, check)


def _removals(records: Iterable[JsonObject]) -> dict[str, int]:
    """Return the versions up to which additions come too late: of a withdrawal only those of its source."""
    deleted = {one["id"]: one["version"] for one in records if one["op"] == "delete"}
    return deleted | {run_of(one["of"]): one["version"] + 1 for one in records if one["op"] == "withdraw"}


def _save(batch: WriteBatch, made: Decision, key: str, check: Callable[[], None]) -> Written:
    """Write what has changed in `batch`."""
    refused, _ = batch.save(check)
    removed = [one.image_id for one in made.said if one.state is ItemState.REMOVED and one.image_id]
    removed += [one["id"] for one in made.records if one["op"] == "withdraw"]
    gone = [one for one in dict.fromkeys(removed) if batch.stored(one) is None]
    return Written([_refused(one, refused) for one in made.said], key, gone)


def _put_away(services: Services, collection: str, written: Written) -> None:
    """Put the files of what is gone aside: with that the changes are made."""
    discard(services.ledger, services.blobs, collection, written.gone)
    services.ledger.writer.end_changes(written.key.rpartition("/")[2])


def _batch(collection: Collection, claim: Claim, items: Iterable[Item]) -> WriteBatch:
    named = list(items)
    if claim.payload == REMOVALS:
        batch = WriteBatch(
            collection, ids=dict.fromkeys(image_id for item in named for image_id in item.before)
        )
    else:
        batch = WriteBatch(
            collection,
            ids=[item.source for item in named if item.key is None],
            keys=[item.key for item in named if item.key is not None],
        )
    if claim.kind is not JobKind.UPDATE:
        batch.load_keys()
    return batch


def _decide(batch: WriteBatch, claim: Claim, items: Mapping[int, Item], change: Change) -> Decision:
    """Make the changes in `batch`; return the records of those that change anything, or may later."""
    decision = Decision()
    for index, item in items.items():
        if item.withdraws:
            _withdraw(batch, claim, index, item, decision)
            continue
        image_id = item.source if item.key is None else batch.holder(item.key)
        record: JsonObject = {"index": index, "version": claim.version + index}
        if claim.kind is JobKind.UPDATE:
            record |= {"op": "patch", "id": image_id, "metadata": change}
        elif item.key is None:
            record |= {"op": "delete", "id": image_id}
        else:
            record |= {"op": "delete_key", "key": item.key}
        said, is_change = _decided(batch, record, index, image_id)
        decision.said.append(said)
        if is_change:
            decision.records.append(record)
    return decision


def _withdraw(batch: WriteBatch, claim: Claim, index: int, item: Item, decision: Decision) -> None:
    """Withdraw an entry from the images that it brought before this sync, whose own additions stay."""
    entry = {"of": item.of, "entry": entry_of(item.source, item.key)}
    common: JsonObject = {"op": "withdraw", "index": index, "version": claim.version - 1, **entry}
    records = [common | {"id": image_id} for image_id in item.before]
    made = [record for record in records if _withdrawn(batch, record)]
    state = ItemState.REMOVED if made else ItemState.UNCHANGED
    decision.said.append(Said(index, state, made[0]["id"] if made else None))
    decision.records.extend(made)


def _withdrawn(batch: WriteBatch, record: JsonObject) -> bool:
    return batch.withdraw(record["id"], record["of"], record["entry"], record["version"])


def _decided(batch: WriteBatch, record: JsonObject, index: int, image_id: str | None) -> tuple[Said, bool]:
    """Make one change; return what becomes of its item, and whether it belongs in the log."""
    before = batch.stored(image_id) if image_id else None
    if before is None and record["op"] != "delete_key":
        return Said(index, ItemState.UNCHANGED), False
    fault = _make(batch, record)
    after = batch.stored(image_id) if image_id else None
    if fault is not None:
        return Said(index, ItemState.FAILED, image_id, fault), False
    if record["op"] == "patch":
        assert before is not None and after is not None  # noqa: S101 - a change takes no picture away
        same = _text(before.image.metadata) == _text(after.image.metadata)
        return Said(index, ItemState.UNCHANGED if same else ItemState.UPDATED, image_id), True
    # Items of jobs that were made before do not bring back a key that points at nothing either.
    removed = before != after if record["op"] == "delete_key" else after is None
    said = Said(index, ItemState.REMOVED if removed else ItemState.UNCHANGED, image_id)
    return said, before != after or record["op"] == "delete_key"


def _make(batch: WriteBatch, record: JsonObject) -> str | None:
    """Make the change of a record in `batch`; return why that cannot be."""
    version: int = record["version"]
    match record["op"]:
        case "delete":
            batch.remove(record["id"], version)
        case "delete_key":
            batch.remove_key(record["key"], version)
        case "withdraw":
            _withdrawn(batch, record)
        case "patch" if batch.stored(record["id"]) is not None:
            return batch.change_within_limits(record["id"], version, sound_change(record["metadata"]))
    return None


def _refused(said: Said, refused: Mapping[str, str]) -> Said:
    why = refused.get(said.image_id or "")
    return said if why is None else Said(said.index, ItemState.FAILED, said.image_id, why)


def _end(services: Services, claim: Claim, outcomes: Sequence[Outcome], written: Written) -> None:
    """End the claim once its files are away, while the writer goes on with the next."""
    if written.key:
        _put_away(services, claim.collection, written)
    moved = end_chunk(services, claim, outcomes)
    failed = {one.index for one in outcomes if one.error is not None}
    if moved and failed and written.key:  # only now: a delivery before this point must find the same
        vector_log.drop(services.blobs, written.key, failed)


def _change_of(services: Services, claim: Claim) -> Change:
    if claim.kind is not JobKind.UPDATE:
        return {}
    change: Change = json.loads(services.blobs.get(change_key(claim.chunk.job_id)))
    return change


def _outcome(said: Said, item: Item) -> Outcome:
    error = None if said.fault is None else ItemError("index_error", said.fault)
    return Outcome(said.index, item.source, said.state, said.image_id, error)


def _to_json(said: Said) -> list[Any]:
    return [said.index, said.state, said.image_id, said.fault]


def _from_json(row: list[Any]) -> Said:
    index, state, image_id, fault = row
    return Said(index, ItemState(state), image_id, fault)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)  # 1, 1.0 and true are equal to Python
