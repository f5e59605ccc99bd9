"""The trash: files of images that no key points at any more, kept for a while before they are deleted.

An item that brings such an image back may have been fetched, and its files written, before they were moved to
the trash; `restore` gets them back. So two keys can exchange their images in one job.
"""

from collections.abc import Sequence

from shared.ledger.ledger import Ledger
from shared.storage.blobs import FILE_KINDS, Blobs, file_key, trash_key


def discard(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    """Move the files of images that are no longer in the index to the trash."""
    if not image_ids:
        return
    ledger.writer.record_trashed(collection, image_ids)
    blobs.move(
        (file_key(collection, image_id, kind), trash_key(collection, image_id, kind))
        for image_id in image_ids
        for kind in FILE_KINDS
    )


def restore(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    """Move the files of images that are in the index again out of the trash."""
    found = ledger.writer.trashed(collection, image_ids) if image_ids else []
    if not found:
        return
    blobs.move(
        (trash_key(collection, image_id, kind), live)
        for image_id in found
        for kind in FILE_KINDS
        if not blobs.exists(live := file_key(collection, image_id, kind))
    )
    ledger.writer.forget_trashed(collection, found)


def has_files(blobs: Blobs, collection: str, image_id: str) -> bool:
    """Return whether an image's files, of which every one has a thumbnail, are there or in the trash."""
    return any(blobs.exists(key(collection, image_id, "thumbnail")) for key in (file_key, trash_key))


def delete_from_trash(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    blobs.delete(*(trash_key(collection, image_id, kind) for image_id in image_ids for kind in FILE_KINDS))
    ledger.writer.forget_trashed(collection, image_ids)
