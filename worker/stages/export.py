"""The fetch stage of an export: images out of Chroma and the blob store, one Parquet part per chunk.

A part is written under a key of its chunk, so that a chunk may be delivered twice.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from shared.errors import CollectionNotFound, ItemError, ModelMismatch
from shared.models import Claim, Image, ItemState
from shared.services import Services
from shared.storage import parquet
from shared.storage.blobs import export_prefix, file_key
from shared.storage.manifest import read_items
from shared.storage.parquet import FileColumn, Header, Row
from shared.tracing.tracing import carried
from worker.stages.transition import Outcome, end_chunk


def run(services: Services, claim: Claim) -> None:
    """Write the images of a claimed chunk and ends it."""
    items = read_items(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    ids = [item.source for item in items]
    header = Header(**claim.options["header"])
    try:
        rows = _stored(services, claim, header, ids)
    except (CollectionNotFound, ModelMismatch):
        rows = {}
    files: Sequence[FileColumn] = claim.options["include"]
    key = f"{export_prefix(claim.chunk.job_id)}{claim.chunk.number:07d}.parquet"
    with services.blobs.open_write(key) as file:
        parquet.write_part(file, header, list(rows.values()), files)
    gone = ItemError("index_error", "The picture was deleted before it was read.")
    outcomes = [
        Outcome(i, image_id, ItemState.INDEXED, image_id=image_id)
        if image_id in rows
        else Outcome(i, image_id, error=gone)
        for i, image_id in enumerate(ids, claim.first_item)
    ]
    end_chunk(services, claim, outcomes)


def _stored(services: Services, claim: Claim, header: Header, ids: list[str]) -> dict[str, Row]:
    """Return those of `ids` that exist. Raises CollectionNotFound; ModelMismatch after a switch of models."""
    collection = services.index.collection(claim.collection)
    collection.check_model(header.model, header.fingerprint)
    vectors = collection.vectors(ids)
    images = {i: image for i, (_, image) in collection.owners(ids).items() if i in vectors}

    def row(image: Image) -> Row:
        kept: dict[str, bytes] = {}
        for kind in claim.options["include"]:
            with suppress(KeyError):
                kept[kind] = services.blobs.get(file_key(claim.collection, image.id, kind))
        return Row(image, vectors[image.id], kept)

    with ThreadPoolExecutor(services.settings.fetch_concurrency, "export") as pool:
        return dict(zip(images, pool.map(carried(row), images.values()), strict=True))
