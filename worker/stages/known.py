"""What a collection has already: such a picture is neither decoded nor encoded again.

Its record and vector, as they are stored, go on to the one writer with what the new item says of it, like any
addition: so the log alone still makes the collection, and it is right if the picture is deleted meanwhile.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.errors import ImageSearchError
from shared.index.collection import Collection
from shared.index.provenance import StoredImage
from shared.services import Services
from shared.storage.blobs import FileKind, file_key
from worker.encoders import BoundModel

# Of the files that each KEEP wants, the one that is written last.
_LAST_KEPT: dict[str, FileKind] = {"rendition": "rendition", "original": "original", "none": "thumbnail"}

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A picture as the collection has it; `vector` has the shape (dimension,)."""

    stored: StoredImage
    vector: NDArray[np.float32]


class KnownImages:
    """Answers, to the threads of one chunk, what its collection has under a model.

    Those that ask at about the same time share a call to Chroma, which costs as much for one id as for many.
    While others of them decode, there is no hurry: then half the threads are waited for.
    """

    def __init__(self, services: Services, collection: str, model: BoundModel) -> None:
        self._services = services
        self.collection = collection
        self._model = model
        self._asks = bool(model.fingerprint)  # else the collection is still to be made
        self._many = max(1, services.settings.fetch_concurrency // 2)
        self._changed = threading.Condition()
        self._waiting: dict[str, Future[Known | None]] = {}
        self._calling = False
        self._decoding = 0
        self._expected: dict[str, StoredImage] = {}

    def expect(self, image_ids: list[str]) -> None:
        """Look up in one call, before there are threads, what `record` will be asked for."""
        if image_ids:
            self._expected = self._asking(lambda collection: collection.stored(image_ids))

    def record(self, image_id: str) -> StoredImage | None:
        """Return the record of a picture that was expected, if the collection has it as `of` says."""
        stored = self._expected.get(image_id)
        return stored if stored and self._has_files(image_id) else None

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Count the block as work that others may wait for."""
        with self._changed:
            self._decoding += 1
        try:
            yield
        finally:
            with self._changed:
                self._decoding -= 1
                self._changed.notify_all()

    def of(self, image_id: str) -> Known | None:
        """Return the picture if the collection has it with all files that KEEP wants.

        None, too, where Chroma does not answer, for the rest of the chunk.
        """
        if not self._asks:
            return None
        with self._changed:
            answer = self._waiting.setdefault(image_id, Future())
            self._changed.wait_for(lambda: answer.done() or self._may_call())
            asked: dict[str, Future[Known | None]] = {}
            if not answer.done():
                asked, self._waiting, self._calling = self._waiting, {}, True
        if asked:
            self._call(asked)
        known = answer.result()
        return known if known and self._has_files(image_id) else None

    def _may_call(self) -> bool:
        return not self._calling and (not self._decoding or len(self._waiting) >= self._many)

    def _call(self, asked: dict[str, Future[Known | None]]) -> None:
        found: dict[str, Known] = {}
        try:
            found = self._look_up(list(asked))
        finally:
            for image_id, answer in asked.items():
                answer.set_result(found.get(image_id))
            with self._changed:
                self._calling = False
                self._changed.notify_all()

    def _look_up(self, ids: list[str]) -> dict[str, Known]:
        found = self._asking(lambda collection: collection.with_vectors(ids))
        # One of zeros, which a stranger wrote, is none.
        return {i: Known(stored, vector) for i, (stored, vector) in found.items() if vector.any()}

    def _asking(self, look_up: Callable[[Collection], dict[str, T]]) -> dict[str, T]:
        if not self._asks:
            return {}
        try:
            collection = self._services.index.collection(self.collection)
            collection.check_model(self._model.name, self._model.fingerprint)
            return look_up(collection)
        except ImageSearchError as error:
            log.warning("known_images_not_looked_for", collection=self.collection, reason=error.detail)
            self._asks = False
            return {}

    def _has_files(self, image_id: str) -> bool:
        kind = _LAST_KEPT[self._services.settings.keep]
        return self._services.blobs.exists(file_key(self.collection, image_id, kind))
