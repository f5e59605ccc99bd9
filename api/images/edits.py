"""Immediate changes, made by no job: each is written to the vector log, then to the index."""

from collections.abc import Callable, Mapping

from shared.errors import InvalidRequest
from shared.index.collection import no_image
from shared.index.write_batch import WriteBatch
from shared.ledger.writer_lease import writing
from shared.models import Image, Metadata, MetadataValue
from shared.services import Services
from shared.storage import vector_log
from shared.storage.blobs import (
    FILE_KINDS,
    collection_prefix,
    file_key,
    log_prefix,
    trash_prefix,
)
from shared.storage.trash import delete_from_trash, discard


def remove_image(services: Services, name: str, image_id: str) -> None:
    """Remove an image everywhere. Raises CollectionNotFound, ImageNotFound."""
    services.index.collection(name).get(image_id)  # so that one which is not there waits for nobody
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        collection = services.index.collection(name)  # it may have been switched meanwhile
        version = services.ledger.writer.new_version()
        batch = WriteBatch(collection, ids=[image_id])
        if not batch.remove(image_id, version):
            raise no_image(image_id)
        record = {"op": "delete", "version": version, "id": image_id}
        vector_log.write_change(services.blobs, name, collection.pointer.fingerprint, record)
        services.ledger.writer.record_removal(name, image_id, version)
        batch.save(check)
        services.blobs.delete(*(file_key(name, image_id, kind) for kind in FILE_KINDS))
        delete_from_trash(services.ledger, services.blobs, name, [image_id])


def remove_key(services: Services, name: str, key: str) -> bool:
    """Remove a key, and its image unless another key or an item without one has brought that too.

    Returns whether the key pointed at an image. If it did not, items of jobs that were made before, and are
    still being worked on, do not bring it back either. Raises CollectionNotFound.
    """
    services.index.collection(name)  # so that one which is not there waits for nobody
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        collection = services.index.collection(name)  # it may have been switched meanwhile
        version = services.ledger.writer.new_version()
        record = {"op": "delete_key", "version": version, "key": key}
        vector_log.write_change(services.blobs, name, collection.pointer.fingerprint, record)
        batch = WriteBatch(collection, keys=[key])
        found = batch.remove_key(key, version)
        _, gone = batch.save(check)
        discard(services.ledger, services.blobs, name, gone)
    return found


def change_metadata(
    services: Services,
    name: str,
    image_id: str,
    metadata: Mapping[str, MetadataValue | None],
    accept: Callable[[Metadata, Metadata], None],
) -> Image:
    """Merge `metadata` into an image's, where None takes a name away (RFC 7396); return the image.

    Nothing is written if `accept`, which gets the metadata before and after, raises. What an item of a job
    made before says of the same names no longer counts, whenever it is delivered. Raises CollectionNotFound,
    ImageNotFound, and InvalidRequest when the index refuses the image's record.
    """
    image = services.index.collection(name).get(image_id)
    if not metadata:
        return image
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        collection = services.index.collection(name)  # it may have been switched meanwhile
        version = services.ledger.writer.new_version()
        batch = WriteBatch(collection, ids=[image_id])
        before = batch.stored(image_id)
        if before is None:
            raise no_image(image_id)
        accept(before.image.metadata, batch.change(image_id, version, metadata))
        record = {"op": "patch", "version": version, "id": image_id, "metadata": dict(metadata)}
        logged = vector_log.write_change(services.blobs, name, collection.pointer.fingerprint, record)
        refused, _ = batch.save(check)
        if refused:
            services.blobs.delete(logged)
            raise InvalidRequest("The index does not take this metadata, and nothing was changed.")
    changed = batch.stored(image_id)
    assert changed is not None  # noqa: S101 - changing metadata takes no picture away
    return changed.image


def remove_collection(services: Services, name: str) -> None:
    """Remove a collection, its images and its vector log. Raises CollectionNotFound."""
    services.index.collection(name)
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        services.ledger.writer.record_removal(name, "*", services.ledger.writer.new_version())
        check()
        services.index.delete(name)
    for prefix in (log_prefix, collection_prefix, trash_prefix):
        services.blobs.delete_prefix(prefix(name))
