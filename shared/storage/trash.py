"""The trash: files of images that no key points at any more, kept for a while before they are deleted.

An item that brings such an image back may have been fetched, and its files written, before they were moved to
the trash; `restore` gets them back. So two keys can exchange their images in one job.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from shared.ledger.ledger import Ledger
from shared.storage.blobs import FILE_KINDS, Blobs, file_key, trash_key

AT_ONCE = 8  # images whose files are moved: an object store answers in its own time


def discard(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    """Move the files of images that are no longer in the index to the trash."""
    if not image_ids:
        return
    ledger.writer.record_trashed(collection, image_ids)

    def move(image_id: str) -> None:
        for kind in FILE_KINDS:
            live, aside = (key(collection, image_id, kind) for key in (file_key, trash_key))
            _move(blobs, live, aside)

    with ThreadPoolExecutor(AT_ONCE, "discard") as pool:
        for _ in pool.map(move, image_ids):
            pass


def restore(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    """Move the files of images that are in the index again out of the trash."""
    found = ledger.writer.trashed(collection, image_ids) if image_ids else []
    for image_id in found:
        for kind in FILE_KINDS:
            live = file_key(collection, image_id, kind)
            if not blobs.exists(live):
                _move(blobs, trash_key(collection, image_id, kind), live)
    if found:
        ledger.writer.forget_trashed(collection, found)


def delete_from_trash(ledger: Ledger, blobs: Blobs, collection: str, image_ids: Sequence[str]) -> None:
    blobs.delete(*(trash_key(collection, image_id, kind) for image_id in image_ids for kind in FILE_KINDS))
    ledger.writer.forget_trashed(collection, image_ids)


def _move(blobs: Blobs, source: str, target: str) -> None:
    with suppress(KeyError):
        blobs.move(source, target)
