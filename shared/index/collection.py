"""One collection: its images with their vectors, and its keys.

Keys lie in a Chroma collection of their own beside the images', one record per key, under its SHA-256.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Protocol, TypeVar

import numpy as np
import structlog
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.errors import NotFoundError
from numpy.typing import NDArray

from shared.errors import CollectionNotFound, ImageNotFound, KeywordsNotReady, Unavailable
from shared.filters.conditions import Where
from shared.index import pages, provenance, search, strays, survey
from shared.index.connection import calls
from shared.index.provenance import Contribution, KeyRecord, StoredImage
from shared.index.records import (
    BATCH,
    MARK,
    PLACES,
    Pointer,
    Record,
    described,
    divided,
    documents_of,
    from_record,
    in_calls,
    joined,
    place_of,
    read_records,
    records_of,
    stored_image,
    to_record,
    update_records,
    write_records,
)
from shared.index.search import Ranked
from shared.models import CollectionInfo, Hit, Image, JsonObject
from shared.validation import forms, nfc

T = TypeVar("T")

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_SECONDS = 20.0  # a busy machine takes 10 s for a batch; well inside the writer's lease of 30 s
_PAGE = 5_000  # ids in one call
_OVERLAP = 1_000
_PROBED = 200  # pictures that are asked for under one deadline, of
_PROBE_TIMEOUT_SECONDS = 120.0  # where thousands are equal, an answer is long


@dataclass(frozen=True, slots=True)
class Opened:
    """A Chroma collection, the pointer that names it, and when that was read."""

    pointer: Pointer
    chroma: ChromaCollection
    read_at: float


class Opener(Protocol):
    """What a Collection needs of its Index."""

    timeout_s: float
    recent: dict[str, float]

    def open(self, name: str, max_age_s: float = ...) -> Opened: ...
    def reopen(self, name: str) -> Opened: ...
    def make(self, physical: str) -> ChromaCollection: ...
    def has_documents(self, name: str) -> bool: ...
    def size(self, chroma: ChromaCollection) -> int: ...
    def reaching(self, chroma: ChromaCollection, at_once: int = ...) -> strays.Reaching: ...
    def forget_strays(self, chroma: ChromaCollection) -> None: ...


class Collection:
    """A collection by its name, also after that is deleted and made anew, but never of another model.

    Every method raises CollectionNotFound once it is gone, and what Index raises.
    """

    def __init__(self, index: Opener, pointer: Pointer) -> None:
        self._index = index
        self.pointer = pointer

    @property
    def info(self) -> CollectionInfo:
        """Return the collection's description; only the count takes a request to Chroma."""
        count, pointer = self.count(), self.pointer
        return CollectionInfo(
            pointer.name, count, pointer.model, pointer.fingerprint, pointer.dimension, pointer.created_at
        )

    @property
    def physical(self) -> str:
        """Return the name of the Chroma collection."""
        return self.pointer.physical

    def check_model(self, model: str, fingerprint: str) -> None:
        """Raise ModelMismatch unless the collection's vectors are this model's."""
        self.pointer.check_model(model, fingerprint)

    def check_keywords(self) -> None:
        """Raise KeywordsNotReady while pictures of an earlier version lack what keywords find them by."""
        name = self.pointer.name
        if not self._index.has_documents(name):
            raise KeywordsNotReady(
                f"The texts of the collection {name!r} are still being prepared for `keywords`, since an "
                "earlier version wrote them; the sweeper does so by itself. Try again in some minutes, "
                "or search without `keywords`."
            )

    def upsert(
        self,
        images: Sequence[Image],
        vectors: NDArray[np.float32],
        owners: Sequence[str],
        contributions: Sequence[Sequence[Contribution]] | None = None,
        *,
        new: bool = False,
    ) -> None:
        """Write records exactly as given: distinct ids, vectors (n, dimension), one owner each.

        Records without `contributions` count as if their items had come before all others. With `new`, for a
        writer who has just seen that none of the ids is present, what is stored is not read first.
        """
        if vectors.shape != (len(images), self.pointer.dimension) or len(owners) != len(images):
            raise ValueError(f"{vectors.shape} vectors and {len(owners)} owners for {len(images)} images")
        made = contributions or [()] * len(images)
        records = [to_record(*one) for one in zip(images, owners, made, strict=True)]
        self._write(records, vectors, new=new)

    def vector(self, image_id: str) -> NDArray[np.float32]:
        """Return an image's vector, shape (dimension,). Raises ImageNotFound."""
        found = self.vectors([image_id])
        if image_id not in found:
            raise no_image(image_id)
        return found[image_id]

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors (dimension,) of those ids that are present."""
        found = self._run(lambda chroma: list(search.vectors(chroma, list(ids))))
        return {image_id: row for page, rows in found for image_id, row in zip(page, rows, strict=True)}

    def count(self) -> int:
        return self._run(lambda chroma: chroma.count())

    def nearest(self, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
        """Return for each of `vectors` (n, dimension) up to `count` (id, score), best first."""
        return self._run(self._reaching(partial(search.nearest, vectors=vectors, count=count)))

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        offset: int = 0,
        where: Where | None = None,
        min_score: float | None = None,
        exclude: str | None = None,
        of_text: bool = False,
    ) -> list[Hit]:
        """Return the nearest images, best first, ties by id; `exclude` leaves one id out.

        `vector` (dimension,) may have any length but 0. `of_text`: it is a text's, far from all images', for
        which HNSW looks at more of a large collection.
        """
        which = partial(
            search.search, vector=vector, limit=limit, offset=offset, where=where, min_score=min_score,
            exclude=exclude,
        )  # fmt: skip
        return self._run(self._looking(which, of_text))

    def ranked(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        where: Where | None = None,
        min_score: float | None = None,
        exclude: str | None = None,
        of_text: bool = False,
    ) -> Ranked:
        """Return the ids and scores of the `limit` nearest, in an order that does not depend on `limit`.

        The other parameters are those of `search`. Beside them, the images that were read on the way.
        """
        which = partial(
            search.ranked, vector=vector, limit=limit, where=where, min_score=min_score, exclude=exclude
        )
        return self._run(self._looking(which, of_text))

    def images(self, ids: Sequence[str]) -> dict[str, Image]:
        """Return those of the images that are present, by id."""
        found: dict[str, Image] = {}
        for start in range(0, len(ids), search.PAGE):  # each under a deadline of its own
            read = partial(read_records, ids=list(ids[start : start + search.PAGE]))
            found |= {record["id"]: from_record(record) for record in self._run(read)}
        return found

    def matching(
        self, vector: NDArray[np.float32], *, where: Where | None, min_score: float | None, most: int
    ) -> tuple[list[Image], bool]:
        """Return those of the `most` nearest that match, in no order, and whether no other image does."""
        which = partial(search.matching, where=where, min_score=min_score, most=most)
        return self._run(self._reaching(partial(which, vector=vector)))

    def lost(self, vectors: Mapping[str, NDArray[np.float32]]) -> list[str]:
        """Return those ids, present, that no search by their own of `vectors` finds."""
        missed: list[str] = []
        for start in range(0, len(vectors), _PROBED):
            page = dict(list(vectors.items())[start : start + _PROBED])

            def probe(chroma: ChromaCollection, page: dict[str, NDArray[np.float32]] = page) -> list[str]:
                return strays.lost(self._index.reaching(chroma, strays.MOST), page)

            missed += self._run(probe, _PROBE_TIMEOUT_SECONDS)
        there = self.vectors(missed)
        return [one for one in missed if one in there]

    def mark_new_strays(
        self, written: Mapping[str, NDArray[np.float32]], check: Callable[[], None] = lambda: None
    ) -> None:
        """Mark those of `written`, new here, that no search finds; what fails is left to `verify`.

        `check`, which may raise, is called before the marks are written.
        """
        asking = strays.doubtful(written)
        try:
            missed = self.lost(asking) if asking else []
        except (Unavailable, CollectionNotFound) as error:
            log.warning("strays_not_looked_for", images=len(asking), detail=error.detail)
            return
        if missed:
            check()
            self.mark_strays(missed)
            log.info("strays_marked", collection=self.pointer.name, images=len(missed))

    def mark_strays(self, ids: Sequence[str]) -> None:
        """Have searches score those of `ids` that are present one by one, as HNSW does not reach them."""
        for start in range(0, len(ids), BATCH):
            page = list(ids[start : start + BATCH])
            marks: list[JsonObject] = [{MARK: 1}] * len(page)
            self._run(methodcaller("update", page, metadatas=marks), WRITE_TIMEOUT_SECONDS)
        self._run(self._index.forget_strays)

    def sample(self, count: int, of: int | None = None) -> NDArray[np.float32]:
        """Return vectors (n, dimension) of about `count` images spread over the first `of`, or over all."""
        return self._run(partial(search.sample, count=count, of=of))

    def survey(self, where: Where | None) -> survey.Survey:
        """Return what metadata the images that match have, as `survey.survey` finds it."""
        return self._run(partial(survey.survey, where=where))

    def owners(self, ids: Sequence[str]) -> dict[str, tuple[str, Image]]:
        """Return the owner and image of those ids that are present."""
        return {one.image.id: (one.owner, one.image) for one in self.stored(ids).values()}

    def get(self, image_id: str) -> Image:
        """Return an image. Raises ImageNotFound."""
        found = self.owners([image_id])
        if image_id not in found:
            raise no_image(image_id)
        return found[image_id][1]

    def delete(self, ids: Sequence[str]) -> None:
        """Delete those ids that are present."""
        for start in range(0, len(ids), BATCH):
            self._run(methodcaller("delete", list(ids[start : start + BATCH])), WRITE_TIMEOUT_SECONDS)

    def stored(self, ids: Sequence[str]) -> dict[str, StoredImage]:
        """Return the records of those ids that are present, with all that the writer must know."""
        found: dict[str, StoredImage] = {}
        for start in range(0, len(ids), BATCH):
            records = self._run(partial(read_records, ids=list(ids[start : start + BATCH])))
            found |= {record["id"]: stored_image(record) for record in records}
        return found

    def with_vectors(self, ids: Sequence[str]) -> dict[str, tuple[StoredImage, NDArray[np.float32]]]:
        """Return, in one call, the records and vectors (dimension,) of those ids that are present."""
        get = methodcaller("get", list(dict.fromkeys(ids)), include=["metadatas", "embeddings"])
        found: JsonObject = self._run(get)
        records = records_of(found["ids"], found["metadatas"])
        rows = search.rows_of(found["embeddings"])
        return {one["id"]: (stored_image(one), row) for one, row in zip(records, rows, strict=True)}

    def update(self, stored: Sequence[StoredImage]) -> None:
        """Write the records of images that are present, and leave their vectors as they are."""
        records = [to_record(one.image, one.owner, one.contributions) for one in stored]
        self._update(records)

    def records(self, ids: Sequence[str]) -> dict[str, JsonObject]:
        """Return what Chroma holds for those ids that are present, only to be compared or copied."""
        found = self._run(partial(read_records, ids=list(ids)))
        return {one["id"]: {name: one[name] for name in one if name != MARK} for one in found}

    def copy_records(
        self,
        target: "Collection",
        vectors: Mapping[str, NDArray[np.float32]],
        images: Mapping[str, Image] | None = None,
    ) -> list[str]:
        """Write the records of those ids that are present to `target`, with other `vectors` by id.

        `images`, by id, have the tags and nsfw that go with these. Returns the ids that were present.
        """
        copied: list[str] = []
        ids = list(vectors)
        for start in range(0, len(ids), BATCH):
            records = self.records(ids[start : start + BATCH])
            records |= {i: described(records[i], one) for i, one in (images or {}).items() if i in records}
            target._write(list(records.values()), np.array([vectors[image_id] for image_id in records]))
            copied += records
        return copied

    def copy_changes(self, target: "Collection", ids: Sequence[str]) -> None:
        """Write to the records of `target` what they have otherwise, but for what the models said."""
        ours, theirs = self.records(ids), target.records(ids)
        changed: list[JsonObject] = []
        for image_id in ours.keys() & theirs.keys():
            (rest, _), (former, said) = divided(ours[image_id]), divided(theirs[image_id])
            if rest != former:
                changed.append(joined(rest, said))
        target._update(changed)

    def ids(self) -> Iterator[str]:
        """Yield every id, in the order in which they came; memory holds a page.

        Each page begins well before the end of the one before: what is deleted meanwhile moves the rest
        forward, and up to _OVERLAP deletions between two pages leave nothing out.
        """
        start, before = 0, frozenset[str]()
        while True:
            page: list[str] = self._run(methodcaller("get", limit=_PAGE, offset=start, include=[]))["ids"]
            yield from (image_id for image_id in page if image_id not in before)
            if len(page) < _PAGE:
                return
            start, before = start + len(page) - _OVERLAP, frozenset(page)

    def key_records(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        """Return the records of those keys that have one, by key in NFC.

        A key that an earlier version stored in another form is found by that form, and by NFC if that is NFD.
        """
        found: dict[str, KeyRecord] = {}
        asked = {_key_id(form): key for key in keys for form in forms(key)}
        ids = list(asked)
        for start in range(0, len(ids), BATCH):
            for record in self._beside(partial(read_records, ids=ids[start : start + BATCH])):
                one = provenance.key_from_record(asked[record["id"]], record)
                found[one.key] = found[one.key].joined(one) if one.key in found else one
        return found

    def write_keys(self, records: Sequence[KeyRecord]) -> None:
        ids = [_key_id(record.key) for record in records]
        rows = [provenance.key_to_record(record) for record in records]
        for call in in_calls(rows, [""] * len(rows)):  # which need no documents
            self._beside(
                methodcaller("upsert", ids[call], _spread(ids[call]), rows[call]), WRITE_TIMEOUT_SECONDS
            )

    def prove_writable(self, size: int = 0) -> None:
        """Send a change of about `size` bytes, of no image. Raises IndexUnavailable if that fails."""
        change: JsonObject = {"proof": "x" * size}
        self._run(methodcaller("update", ["no image's id"], metadatas=[change]), WRITE_TIMEOUT_SECONDS)

    def by_key(self, key: str) -> StoredImage | None:
        """Return the image that the key points at, if any."""
        record = self.key_records([key]).get(nfc(key))
        if record is None:
            return None
        found = self.stored(record.candidates)
        holders = [
            (max(versions), one) for one in found.values() if (versions := one.key_versions(record.key))
        ]
        return max(holders, key=lambda holder: holder[0])[1] if holders else None

    def page(self, after: str, limit: int, where: Where | None) -> list[Image]:
        """Return up to `limit` images that match, in the order of their ids, from the first past `after`."""
        return self._run(lambda chroma: pages.page(chroma, after, limit, where))

    def newest(
        self, after: pages.Place | None, limit: int, where: Where | None, since: float | None = None
    ) -> list[Image]:
        """Return up to `limit` images that match, newest first, from the first past `after`.

        Those of one `created_at` are in the order of their ids, those without one last. `since`, in seconds
        since the epoch, is a guess at the time of the page's last image (pages.py).
        """
        known = self._index.recent
        is_first = after is None and (where is None or where.to_chroma() is None)

        def run(chroma: ChromaCollection) -> list[Image]:
            guess = known.get(chroma.name) if is_first else since
            found = pages.newest(chroma, after, limit, where, guess)
            if is_first and len(found) == limit and (last := found[-1].created_at) is not None:
                known[chroma.name] = last
            return found

        return self._run(run)

    def _write(self, records: Sequence[Record], vectors: NDArray[np.float32], *, new: bool = False) -> None:
        documents = documents_of(records)
        for call in in_calls(records, documents, self.pointer.dimension):
            write = partial(write_records, records=records[call], documents=documents[call], new=new)
            self._run(partial(write, vectors=vectors[call]), WRITE_TIMEOUT_SECONDS)

    def _update(self, records: Sequence[Record]) -> None:
        documents = documents_of(records)
        for call in in_calls(records, documents):
            update = partial(update_records, records=records[call], documents=documents[call])
            self._run(update, WRITE_TIMEOUT_SECONDS)

    def _run(self, operation: Callable[[ChromaCollection], T], timeout_s: float | None = None) -> T:
        index, name = self._index, self.pointer.name
        with calls(timeout_s or index.timeout_s):
            opened = index.open(name)
            try:
                return operation(self._follow(opened))
            except NotFoundError:  # the cached pointer was stale
                return operation(self._follow(index.reopen(name)))

    def _reaching(self, operation: Callable[[strays.Reaching], T]) -> Callable[[ChromaCollection], T]:
        return lambda chroma: operation(self._index.reaching(chroma))

    def _looking(self, which: Callable[..., T], of_text: bool) -> Callable[[ChromaCollection], T]:
        """Return a search that looks at as many candidates as the collection's size asks for."""

        def run(chroma: ChromaCollection) -> T:
            size = self._index.size(chroma) if of_text else 0
            return which(self._index.reaching(chroma), candidates=search.candidates_for(size))

        return run

    def _beside(self, operation: Callable[[ChromaCollection], T], timeout_s: float | None = None) -> T:
        def run(_: ChromaCollection) -> T:
            # They are made where there are none: a stale pointer would make those of a deleted one anew.
            self._follow(self._index.open(self.pointer.name, max_age_s=0.0))
            return operation(self._index.make(self.pointer.keys))

        return self._run(run, timeout_s)

    def _follow(self, opened: Opened) -> ChromaCollection:
        opened.pointer.check_model(self.pointer.model, self.pointer.fingerprint)
        self.pointer = opened.pointer
        return opened.chroma


def no_image(image_id: str) -> ImageNotFound:
    return ImageNotFound(f"There is no image {image_id!r} in this collection.")


def _key_id(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _spread(ids: Sequence[str]) -> NDArray[np.float32]:
    """Return vectors that nobody searches: all different, since Chroma's graph suffers from equal ones."""
    angles = np.array([place_of(image_id) / PLACES * 2 * np.pi for image_id in ids])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
