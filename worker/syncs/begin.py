"""The beginning of a sync: its listing, the comparison with what the source has brought, and the job's items.

These are the entries of the listing, in its order, and after them what is to be removed. They come to be in
one step (Ledger.plan): whatever ends before it, nothing has begun, and the next delivery goes on with the
listing that there is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from threading import Event

import pyarrow as pa

from shared.download.host_headers import HostHeaders
from shared.errors import CollectionNotFound, Unavailable
from shared.index.provenance import StoredImage
from shared.ledger.ledger import MAX_JOB_ITEMS
from shared.models import (
    ITEM_STATES,
    Claim,
    Item,
    ItemState,
    JobStatus,
    JsonObject,
    Note,
    url_item,
)
from shared.services import Services
from shared.sources.definition import Source
from shared.storage.blobs import Blobs, listing_key
from shared.storage.catalogues import read_notes
from shared.storage.manifest import SEGMENT_ITEMS, ManifestWriter
from shared.storage.validators import OF_ITEMS, write_earlier
from shared.urls.redaction import redacted
from worker.listings.entries import ListingFailed
from worker.listings.listing import open_listing
from worker.stages.since import says_the_same
from worker.syncs.comparison import Comparison, Row, compared, write_listing
from worker.syncs.runs import WITHHELD, record_run

MAX_SHOWN = 100
RETRY_SECONDS = (3.0, 10.0, 30.0)  # before a listing that could not be had is tried again
_DIGITS = {state: str(ITEM_STATES.index(state)) for state in (ItemState.PENDING, ItemState.UNCHANGED)}


def begin(services: Services, claim: Claim, headers: HostHeaders, lost: Event) -> None:
    """List what the source has and plan the job's items; a dry run ends here. `lost` ends it early."""
    source = Source.from_json(claim.options["definition"])
    try:
        notes = [] if claim.options["removing"] else _listed(services, claim, source, headers, lost)
    except ListingFailed as error:
        _end_without(services, claim, error)
        return
    with compared(services.blobs, claim.chunk.job_id, source.name, partial(_check, lost)) as comparison:
        withheld = _withheld(claim, source, comparison)
        if withheld:
            notes = [*notes, _withheld_note(claim, source, comparison)]
        found = _Found(
            services,
            source,
            comparison,
            removes=not withheld and (source.delete_missing or claim.options["removing"]),
        )
        if claim.options["dry_run"]:
            result = _preview(found, withheld, notes)
            record_run(services, claim, JobStatus.SUCCEEDED, withheld=withheld, detail=result["detail"])
            services.ledger.advance(claim, transitions=[], result=result, complete=True)
        else:
            _plan(services, claim, found, notes)
    services.dispatcher.pump()


def _check(lost: Event) -> None:
    if lost.is_set():
        raise Unavailable("The sync was cancelled, or another process works on it.")


def _listed(
    services: Services, claim: Claim, source: Source, headers: HostHeaders, lost: Event
) -> list[Note]:
    """Write the catalogue of the listing, unless a delivery before has; return its notes."""
    job_id = claim.chunk.job_id
    if not services.blobs.exists(listing_key(job_id)):
        with open_listing(services, source, headers, lost) as listing:
            write_listing(services.blobs, job_id, listing, partial(_check, lost))
    return read_notes(services.blobs, listing_key(job_id))


def _end_without(services: Services, claim: Claim, error: ListingFailed) -> None:
    """Have the listing tried again, where it may be had then; else end the job, which has no items."""
    if error.transient and claim.deliveries <= len(RETRY_SECONDS):
        delay_s = RETRY_SECONDS[claim.deliveries - 1]
        services.ledger.release([claim], delay_s, count_delivery=True, waits=True, reason=error.detail)
        return
    record_run(services, claim, JobStatus.FAILED, detail=error.detail)
    services.ledger.advance(claim, transitions=[], result={"detail": error.detail})


def _withheld(claim: Claim, source: Source, comparison: Comparison) -> int:
    """Return how many entries should go and do not, as they are too large a share of what is known."""
    if not source.delete_missing or claim.options["removing"]:
        return 0
    share = _share(claim, source)
    return comparison.missing if comparison.missing > share * comparison.known else 0


def _share(claim: Claim, source: Source) -> float:
    given: float | None = claim.options.get("max_delete_share")
    return source.max_delete_share if given is None else given


def _withheld_note(claim: Claim, source: Source, comparison: Comparison) -> Note:
    return Note(
        WITHHELD,
        f"The listing lacks {comparison.missing:,} of {comparison.known:,} known entries, more than the "
        f"share of {_share(claim, source):g} that may go at once (max_delete_share): nothing is removed. If "
        "this is right, sync once more with a larger share.",
        comparison.missing,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What the comparison found, with the statuses that follow from the collection."""

    services: Services
    source: Source
    comparison: Comparison
    removes: bool

    def entries(self) -> Iterator[Row]:
        """Yield the rows of the comparison; `status` is added, changed, unchanged or asked."""
        always = self.source.refetch == "always"
        for rows in self.comparison.entries():
            same = [row["image_id"].hex() for row in rows if row["status"] == "same"]
            stored = {} if always else self._stored(same)
            for row in rows:
                if row["status"] == "same":
                    left = "asked" if always else "changed"
                    row["status"] = "unchanged" if self._is_settled(row, stored) else left
                yield row

    def removals(self) -> Iterator[Row]:
        if self.removes:
            yield from self.missing(MAX_JOB_ITEMS)

    def missing(self, most: int) -> Iterator[Row]:
        """Yield at most so many of what is missing from the listing, whether or not it is to go."""
        yield from islice(chain.from_iterable(self.comparison.gone()), most)

    def _stored(self, ids: Sequence[str]) -> dict[str, StoredImage]:
        """Return those of the images that the collection has: what was deleted there is fetched again."""
        if not ids:
            return {}
        try:
            return self.services.index.collection(self.source.collection).stored(ids)
        except CollectionNotFound:
            return {}

    def _is_settled(self, row: Row, stored: Mapping[str, StoredImage]) -> bool:
        """Return whether the entry has its image, as one that the source has brought, and no other."""
        image = stored.get(row["image_id"].hex())
        return image is not None and len(row["images"]) == 1 and says_the_same(_item(row, self.source), image)


def _preview(found: _Found, withheld: int, notes: Sequence[Note]) -> JsonObject:
    """Return the result of a dry run: what a sync would do, as far as the listing tells.

    What is withheld is shown among what is removed, and not counted there.
    """
    counts = dict.fromkeys(("added", "changed", "unchanged", "removed"), 0)
    shown: dict[str, list[JsonObject]] = {"added": [], "changed": [], "removed": []}
    for row in chain(found.entries(), ({**row, "status": "removed"} for row in found.removals())):
        status = "unchanged" if row["status"] == "asked" else row["status"]
        counts[status] += 1
        if len(shown.get(status, range(MAX_SHOWN))) < MAX_SHOWN:
            shown[status].append(_shown(row))
    if withheld:  # so that somebody can tell whether they should go
        shown["removed"] = [_shown(row) for row in found.missing(MAX_SHOWN)]
    listed = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    detail = f"Dry run, nothing was changed. It would be: {listed}."
    if withheld:
        detail += f" {withheld:,} would not be removed: they are more than max_delete_share of what is known."
    counts["withheld"] = withheld
    return {
        "dry_run": True,
        "detail": detail,
        "counts": counts,
        "notes": [asdict(note) for note in notes],
        **shown,
    }


def _shown(row: Row) -> JsonObject:
    image = row["images"] and row["images"][0].hex()
    return {"source": redacted(row["url"]), "key": row["key"], "image_id": image}


def _plan(services: Services, claim: Claim, found: _Found, notes: Sequence[Note]) -> None:
    """Write the items and what their URLs are asked with, and make them the job's."""
    job_id, source = claim.chunk.job_id, found.source
    writer = ManifestWriter(services.blobs, job_id)
    states: list[str] = []
    asked: list[Row] = []

    for row in found.entries():
        if row["image_id"] is not None:
            asked.append(_earlier(len(states), row, source))
        writer.add(_item(row, source))
        states.append(_DIGITS[ItemState.UNCHANGED if row["status"] == "unchanged" else ItemState.PENDING])
        if len(states) % SEGMENT_ITEMS == 0:
            _write_asked(services.blobs, job_id, len(states), asked)
    if len(states) % SEGMENT_ITEMS:
        _write_asked(services.blobs, job_id, len(states), asked)
    for row in found.removals():
        writer.add(
            Item(row["url"], row["url"], key=row["key"], of=source.name, before=_ids(row), withdraws=True)
        )
        states.append(_DIGITS[ItemState.PENDING])
    writer.flush()
    services.ledger.plan(claim, "".join(states), size=writer.size, notes=notes)


def _item(row: Row, source: Source) -> Item:
    item = url_item(row["url"], json.loads(row["metadata"]), row["key"], row["error"])
    return replace(item, of=source.name, before=_ids(row))


def _write_asked(blobs: Blobs, job_id: str, count: int, asked: list[Row]) -> None:
    """Write with what to ask the items of the segment that the first `count` items end with."""
    write_earlier(blobs, job_id, (count - 1) // SEGMENT_ITEMS, pa.Table.from_pylist(asked, OF_ITEMS))
    asked.clear()


def _ids(row: Row) -> tuple[str, ...]:
    return tuple(one.hex() for one in row["images"] or ())


def _earlier(item: int, row: Row, source: Source) -> Row:
    """Return with what to ask an entry's URL: an object's stamp has already said that it changed."""
    asks = row["same_url"] and row["stamp"] is None and source.refetch == "changed"
    validators = {name: row[name] if asks else None for name in ("said_of", "etag", "last_modified")}
    return {"item": item, **validators, "image_id": row["image_id"], "shared": False}
