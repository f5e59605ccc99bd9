"""The fetch stage of an import: rows of a Parquet file → vector log → the one writer, as of any other image.

A chunk may be delivered twice, as one of an ingest may.
"""

import json

import numpy as np

from shared.errors import ItemError
from shared.imaging.decode import is_small_file
from shared.imaging.isolation import run_isolated
from shared.models import Claim, ItemState, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.blobs import Blobs, file_key, rows_key
from shared.storage.parquet import FILE_COLUMNS, Row, Source
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages.transition import Outcome, end_chunk

READ_TIMEOUT_SECONDS = 120  # of one chunk's rows in a throwaway process


def run(services: Services, claim: Claim) -> None:
    """Write the rows of a claimed chunk to the vector log and end the claim."""
    attempts = claim.chunk.attempt + 1
    rows = dict(enumerate(_rows(services, claim), claim.first_item))
    sound = {i: rows[i] for i in services.ledger.pending(claim)}
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
        key = vector_log.write_segment(services.blobs, claim.collection, vector_log.name_of(claim), segment)
    outcomes = [
        Outcome(i, f"row {i}", error=ItemError("index_error", row))
        if isinstance(row, str)
        else Outcome(i, f"row {i}", ItemState.FETCHED, image_id=row.image.id)
        for i, row in sound.items()
    ]
    stage = Stage.INDEX if taken else None
    end_chunk(services, claim, outcomes, next_stage=stage, payload=key)


def _rows(services: Services, claim: Claim) -> list[Row | str]:
    """Return the claim's rows, or what is wrong with each."""
    call = (services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    try:
        if claim.deliveries < SUSPICIOUS_DELIVERIES:
            return read_rows(*call)
        rows: list[Row | str] = run_isolated(read_rows, *call, timeout_s=READ_TIMEOUT_SECONDS)
    except KeyError:
        fault = "The file has expired; import it again."
    except ItemError:
        fault = "Reading the row's part of the file ended the process that read it, twice."
    else:
        return rows
    return [fault] * (claim.last_item - claim.first_item)


def read_rows(blobs: Blobs, job_id: str, start: int, stop: int) -> list[Row | str]:
    """Return rows `start` to `stop` (exclusive) of an import job's files. Raises KeyError after expiry."""
    rows: list[Row | str] = []
    first = 0
    for key, count in json.loads(blobs.get(rows_key(job_id))):
        if first < stop and start < first + count:
            with blobs.open_read(key) as file:
                rows += Source(file).read(max(start - first, 0), min(stop - first, count))
        first += count
    return rows


def _keep(services: Services, collection: str, row: Row) -> None:
    """Keep the files that came with a row, but none that is not of the kind that we write."""
    for kind in FILE_COLUMNS:
        data = row.files.get(kind)
        if data is not None and is_small_file(data, kind):
            services.blobs.put(file_key(collection, row.image.id, kind), data)
