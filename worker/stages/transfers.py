"""Chunks of jobs that move collections. They begin where a picture's road does, in the fetch queue.

    export   fetch: pictures out of Chroma and the blob store → one Parquet part a chunk; done
    import   fetch: rows of a Parquet file → vector log → index: the one writer, as for any other picture
    reindex  reindex.py

A part is written under a key of its chunk, an import's vectors go the way of ingested ones: so both may run
twice like everything else.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from shared.errors import CollectionNotFound, ItemError, ModelMismatch
from shared.imaging.decode import is_small_file
from shared.models import Claim, Image, Item, ItemState, JobKind, Stage
from shared.services import Services
from shared.storage import parquet, vector_log
from shared.storage.blobs import Blobs, export_prefix, picture_key, rows_key
from shared.storage.manifest import read_items
from shared.storage.parquet import MOVED_PICTURES, Header, MovedPicture, Row, Source
from worker.recovery.isolation import run_isolated
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages import reindex
from worker.stages.transition import advance

READ_TIMEOUT_S = 120  # of one chunk's rows in a throwaway process


def run(services: Services, claim: Claim) -> None:
    """Works on a claimed chunk of any job but an ingest and advances it."""
    if claim.kind is JobKind.REINDEX:
        reindex.begin(services, claim)
    elif claim.kind is JobKind.EXPORT:
        _export(services, claim)
    else:
        _import(services, claim)


def _export(services: Services, claim: Claim) -> None:
    ids = [item.source for item in _items(services, claim)]
    header = Header(**claim.options["header"])
    try:
        rows = _stored(services, claim, header, ids)
    except (CollectionNotFound, ModelMismatch):
        rows = {}
    pictures: Sequence[MovedPicture] = claim.options["include"]
    key = f"{export_prefix(claim.chunk.job_id)}{claim.chunk.number:07d}.parquet"
    with services.blobs.open_write(key) as file:
        parquet.write_part(file, header, list(rows.values()), pictures)
    gone = ItemError("index_error", "The picture was deleted before it was read.")
    found = dict(enumerate(ids, claim.first_item))
    failed = {i: gone for i, image_id in found.items() if image_id not in rows}
    done = {i: (image_id, ItemState.INDEXED) for i, image_id in found.items() if i not in failed}
    advance(services, claim, sources=found, done=done, failed=failed)


def _stored(services: Services, claim: Claim, header: Header, ids: list[str]) -> dict[str, Row]:
    """Those of `ids` that exist. Raises CollectionNotFound, and ModelMismatch after a switch of models."""
    collection = services.index.collection(claim.collection)
    collection.check_model(header.model, header.fingerprint)
    vectors = collection.vectors(ids)
    images = {i: image for i, (_, image) in collection.owners(ids).items() if i in vectors}

    def row(image: Image) -> Row:
        kept: dict[str, bytes] = {}
        for kind in claim.options["include"]:
            with suppress(KeyError):
                kept[kind] = services.blobs.get(picture_key(claim.collection, image.id, kind))
        return Row(image, vectors[image.id], kept)

    with ThreadPoolExecutor(services.settings.fetch_concurrency, "export") as pool:
        return dict(zip(images, pool.map(row, images.values()), strict=True))


def _import(services: Services, claim: Claim) -> None:
    attempts = claim.chunk.attempt + 1
    rows = dict(enumerate(_rows(services, claim), claim.first_item))
    sound = {i: rows[i] for i in services.ledger.pending(claim)}
    failed = {i: ItemError("index_error", row) for i, row in sound.items() if isinstance(row, str)}
    taken = {i: row for i, row in sound.items() if isinstance(row, Row)}
    for row in taken.values():
        _keep(services, claim.collection, row)
    additions = [
        vector_log.Addition(i, attempts, f"{claim.chunk.job_id}:{i}", row.image, claim.version + i)
        for i, row in taken.items()
    ]
    key = ""
    if taken:
        vectors = np.stack([row.vector for row in taken.values()])
        model, fingerprint = claim.options["model"], claim.options["fingerprint"]
        segment = vector_log.Segment(additions[0].version, model, fingerprint, additions, vectors)
        name = f"{claim.chunk.ref.replace(':', '.')}.{claim.token}"
        key = vector_log.write_segment(services.blobs, claim.collection, name, segment)
    advance(
        services,
        claim,
        sources={i: f"row {i}" for i in sound},
        done={i: (row.image.id, ItemState.FETCHED) for i, row in taken.items()},
        failed=failed,
        next_stage=Stage.INDEX if taken else None,
        payload=key,
    )


def _rows(services: Services, claim: Claim) -> list[Row | str]:
    """The claim's rows, or what is wrong with each."""
    call = (services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    try:
        if claim.deliveries < SUSPICIOUS_DELIVERIES:
            return read_rows(*call)
        rows: list[Row | str] = run_isolated(read_rows, *call, timeout_s=READ_TIMEOUT_S)
    except KeyError:
        fault = "The file has expired; import it again."
    except ItemError:
        fault = "Reading the row's part of the file ended the process that read it, twice."
    else:
        return rows
    return [fault] * (claim.last_item - claim.first_item)


def read_rows(blobs: Blobs, job_id: str, start: int, stop: int) -> list[Row | str]:
    """Rows `start` to `stop` (exclusive) of an import job's files. Raises KeyError when one has expired."""
    rows: list[Row | str] = []
    first = 0
    for key, count in json.loads(blobs.get(rows_key(job_id))):
        if first < stop and start < first + count:
            with blobs.open_read(key) as file:
                rows += Source(file).read(max(start - first, 0), min(stop - first, count))
        first += count
    return rows


def _keep(services: Services, collection: str, row: Row) -> None:
    """Keeps the files that came with a row; one that is none of ours is left out, it was not asked for."""
    for kind in MOVED_PICTURES:
        data = row.pictures.get(kind)
        if data is not None and is_small_file(data, kind):
            services.blobs.put(picture_key(collection, row.image.id, kind), data)


def _items(services: Services, claim: Claim) -> list[Item]:
    return read_items(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
