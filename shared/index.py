"""Vectors and picture records in Chroma; beside index_connection.py the only module that imports chromadb.

A logical collection is a pointer in the registry, itself a Chroma collection, to the physical collection that
holds its vectors. So a name can be switched to another physical collection in one write, and the search
needs nothing but Chroma to follow it. The pointer is written first and its physical collection is made by
whoever opens it first: a crash in between leaves nothing to clean up. `<name>~<fingerprint>` is one that is
being made beside another, and that nobody sees. A Chroma collection's metadata say its format (formats.py).
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from chromadb import errors
from chromadb.api import ServerAPI
from chromadb.api.collection_configuration import CreateCollectionConfiguration
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.errors import NotFoundError
from numpy.typing import NDArray

from shared import index_search
from shared.contributions import Contribution
from shared.errors import (
    CollectionExists,
    CollectionNotFound,
    IndexUnavailable,
    InvalidRequest,
    ModelMismatch,
)
from shared.filters import Where
from shared.formats import FIELD, check_format
from shared.index_connection import calls as _calls
from shared.index_connection import http_server, in_process_server
from shared.index_pictures import BATCH, Pictures, no_image, write_records
from shared.index_records import Pointer, new_pointer, to_record
from shared.models import COLLECTION_NAME, CollectionInfo, Hit, Image

T = TypeVar("T")

REGISTRY = "image-search-registry"
FORMAT = 1  # of the registry and of the pictures' and keys' records
WRITE_TIMEOUT_S = 20.0  # a busy machine takes 10 s for a batch; well inside the writer's lease of 30 s
POINTER_TTL_S = 2.0
SIZE_TTL_S = 600.0  # Chroma counts 10,000 a millisecond
_STAGED = "~"  # in no collection's name: what comes behind it is the model of one that is being made
# sync_threshold: vectors written before Chroma stores its graph; measured, above 2,000 writers crawl.
EF_SEARCH = 256  # enough for texts' nearest among 100,000; index_search.py asks for more where there are more
HNSW = CreateCollectionConfiguration(
    hnsw={
        "space": "cosine",
        "ef_construction": 128,
        "ef_search": EF_SEARCH,
        "max_neighbors": 24,
        "sync_threshold": 2_000,
    }
)

_NO_VECTOR: NDArray[np.float32] = np.ones((1, 1), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Opened:
    pointer: Pointer
    chroma: ChromaCollection
    read_at: float


class Index:
    """All collections of one Chroma database. Connects at the first call, and again after Chroma was away.

    Every method raises IndexUnavailable when Chroma does not answer within `timeout_s` (reads) or
    WRITE_TIMEOUT_S (writes) or answers with a failure of its own, and NewerFormat.
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str = "default_tenant",
        database: str = "default_database",
        token: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._connect = partial(http_server, url, token)
        self._tenant, self._database = tenant, database
        self._timeout_s = timeout_s
        self._registry_collection: ChromaCollection | None = None
        self._cache: dict[str, _Opened] = {}
        self._sizes: dict[str, tuple[float, int]] = {}  # by physical name: when it was counted, what came out

    @classmethod
    def in_process(cls, folder: Path) -> "Index":
        """An index in a folder without a server, for tests; those of one folder share their data."""
        index = cls("")
        index._server = in_process_server(folder)
        return index

    def ping(self) -> None:
        with _calls(self._timeout_s):
            self._server.heartbeat()

    def collections(self) -> list[CollectionInfo]:
        with _calls(self._timeout_s):
            found = self._registry(lambda registry: registry.get(include=["metadatas"]))
            infos = []
            for name in sorted(name for name in found["ids"] if _STAGED not in name):
                with contextlib.suppress(CollectionNotFound):
                    infos.append(self.collection(name).info)
            return infos

    def collection(self, name: str) -> "Collection":
        """Raises CollectionNotFound."""
        if _STAGED in name:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        with _calls(self._timeout_s):
            return Collection(self, self._open(name).pointer)

    def create(self, name: str, *, model: str, fingerprint: str, dimension: int) -> "Collection":
        """Raises CollectionExists, and InvalidRequest for a name that cannot be one."""
        check_collection_name(name)
        with _calls(WRITE_TIMEOUT_S):
            if self._pointer(name) is not None:
                raise CollectionExists(f"The collection {name!r} exists already.")
            proposed = new_pointer(name, model, fingerprint, dimension)
            winner = self._propose(proposed)
            if winner is None or winner.physical != proposed.physical:
                raise CollectionExists(f"The collection {name!r} exists already.")
            return Collection(self, self._reopen(name).pointer)

    def ensure(self, name: str, *, model: str, fingerprint: str, dimension: int) -> "Collection":
        """The collection, made if there is none. Raises ModelMismatch, and InvalidRequest as `create`."""
        check_collection_name(name)
        with _calls(WRITE_TIMEOUT_S):
            try:
                pointer = self._open(name).pointer
            except CollectionNotFound:
                self._propose(new_pointer(name, model, fingerprint, dimension))
                pointer = self._reopen(name).pointer
        pointer.check_model(model, fingerprint)
        return Collection(self, pointer)

    def foreign(self, model: str, fingerprint: str) -> list[str]:
        """What is to be said of each collection that this model did not write and cannot read."""
        with _calls(self._timeout_s):
            pointers = self._registry(lambda registry: registry.get(include=["metadatas"]))
        faults = []
        for name, record in zip(pointers["ids"], pointers["metadatas"], strict=True):
            if _STAGED in name:
                continue
            try:
                Pointer(name=name, **record).check_model(model, fingerprint)
            except ModelMismatch as mismatch:
                faults.append(mismatch.detail)
        return faults

    def stage(self, name: str, *, model: str, fingerprint: str, dimension: int) -> "Collection":
        """A collection of this model beside `name`, made if there is none; nobody sees it before `switch`."""
        staged = f"{name}{_STAGED}{fingerprint}"
        with _calls(WRITE_TIMEOUT_S):
            if self._pointer(staged) is None:
                self._propose(replace(new_pointer(name, model, fingerprint, dimension), name=staged))
            return Collection(self, self._reopen(staged).pointer)

    def staged(self, name: str, fingerprint: str) -> "Collection":
        """What `stage` has made. Raises CollectionNotFound."""
        with _calls(self._timeout_s):
            return Collection(self, self._reopen(f"{name}{_STAGED}{fingerprint}").pointer)

    def switch(self, name: str, staged: "Collection", *, new_keys: bool = False) -> "Collection":
        """Lets `name`, made if it is none, point at what is staged, in one write.

        Its keys stay with it, as a model has nothing to do with them; with `new_keys`, those staged are its.
        Returns what it pointed at before, which is staged now: `unstage` it once nobody can still be writing
        there, which is POINTER_TTL_S later.
        """
        with _calls(WRITE_TIMEOUT_S):
            before, aside = self._pointer(name), staged.pointer
            if before is not None and before.physical == aside.physical:  # the second try after a crash
                return staged
            keys = (before, aside) if before and not new_keys else (aside, before or aside)
            pointers = [replace(aside, name=name, keys=keys[0].keys)]
            if before:
                pointers.append(replace(before, name=aside.name, keys=keys[1].keys))
            names = [one.name for one in pointers]
            fields: list[Any] = [one.fields for one in pointers]
            vectors = np.repeat(_NO_VECTOR, len(names), axis=0)
            self._registry(lambda registry: registry.upsert(names, vectors, fields))
            self._cache.pop(name, None)
            return Collection(self, self._reopen(aside.name).pointer)

    @staticmethod
    def wait_for_pointers() -> None:
        """Until every process follows the latest switch."""
        time.sleep(POINTER_TTL_S + 0.5)

    def unstage(self, name: str) -> None:
        """Deletes what is staged beside `name`."""
        with _calls(WRITE_TIMEOUT_S):
            names = self._registry(lambda registry: registry.get(include=[]))["ids"]
            live = self._pointer(name)
        for staged in (one for one in names if one.startswith(name + _STAGED)):
            with _calls(WRITE_TIMEOUT_S):
                pointer = self._pointer(staged)
                self._cache.pop(staged, None)
            if pointer is not None and (live is None or pointer.physical != live.physical):
                self._drop(pointer.physical)
            if pointer is not None and (live is None or pointer.keys != live.keys):
                self._drop(pointer.keys)
            with _calls(WRITE_TIMEOUT_S):
                self._registry(methodcaller("delete", [staged]))

    def delete(self, name: str) -> None:
        """Raises CollectionNotFound. After a failure the collection may be there, empty: delete it again."""
        with _calls(WRITE_TIMEOUT_S):
            pointer = self._pointer(name)
            self._cache.pop(name, None)
        if pointer is None:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        self.unstage(name)
        self._drop(pointer.physical)
        self._drop(pointer.keys)
        still = pointer.physical
        with _calls(WRITE_TIMEOUT_S):
            self._registry(lambda registry: registry.delete([name], where={"physical": still}))
        # Whoever opened it in between has made it anew.
        self._drop(pointer.physical)

    @cached_property
    def _server(self) -> ServerAPI:
        return self._connect()

    def _open(self, name: str) -> _Opened:
        cached = self._cache.get(name)
        if cached is not None and time.monotonic() - cached.read_at < POINTER_TTL_S:
            return cached
        read_at = time.monotonic()
        pointer = self._pointer(name)
        if cached is not None and cached.pointer == pointer:
            opened = _Opened(cached.pointer, cached.chroma, read_at)
        else:
            opened = self._reopen(name)
        self._cache[name] = opened
        return opened

    def _reopen(self, name: str) -> _Opened:
        """Follows the pointer whatever the cache says. Raises CollectionNotFound."""
        self._cache.pop(name, None)
        read_at = time.monotonic()
        pointer = self._pointer(name)
        if pointer is None:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        chroma = self._make(pointer.physical)
        if self._pointer(name) != pointer:
            here = pointer.physical
            if self._registry(lambda registry: registry.get(where={"physical": here}, include=[]))["ids"]:
                return self._reopen(name)  # switched meanwhile
            # Deleted meanwhile, and perhaps just made anew by us.
            self._drop(pointer.physical)
            raise CollectionNotFound(f"There is no collection {name!r}.")
        # get_or_create silently keeps what another configuration made.
        if (chroma.configuration_json.get("hnsw") or {}).get("space") != "cosine":
            raise IndexUnavailable(f"The collection {name!r} was not made for cosine similarity.")
        self._cache[name] = _Opened(pointer, chroma, read_at)
        return self._cache[name]

    def _size(self, chroma: ChromaCollection) -> int:
        """How many there are, or were a while ago."""
        counted_at, size = self._sizes.get(chroma.name, (-SIZE_TTL_S, 0))
        if time.monotonic() - counted_at >= SIZE_TTL_S:
            size = chroma.count()
            self._sizes[chroma.name] = time.monotonic(), size
        return size

    def _pointer(self, name: str) -> Pointer | None:
        found = self._registry(lambda registry: registry.get(ids=[name], include=["metadatas"]))
        return Pointer(name=name, **found["metadatas"][0]) if found["ids"] else None

    def _propose(self, pointer: Pointer) -> Pointer | None:
        """Registers the pointer unless the name has one; returns the one that it has then."""
        # Chroma's `add` leaves an id that exists as it is: the first of two at once wins.
        self._registry(lambda registry: registry.add([pointer.name], _NO_VECTOR, [pointer.fields]))
        return self._pointer(pointer.name)

    def _registry(self, operation: Callable[[ChromaCollection], Any]) -> Any:
        if self._registry_collection is not None:
            with contextlib.suppress(NotFoundError):  # Chroma lost its data since
                return operation(self._registry_collection)
        self._registry_collection = self._make(REGISTRY)
        return operation(self._registry_collection)

    def _make(self, physical: str) -> ChromaCollection:
        place = (self._tenant, self._database)
        try:
            # One that exists keeps the metadata that it was made with.
            model = self._server.create_collection(physical, None, HNSW, {FIELD: FORMAT}, True, *place)
        except errors.InvalidArgumentError as error:
            raise IndexUnavailable("Chroma does not have the tenant or database.") from error
        check_format((model.metadata or {}).get(FIELD), FORMAT, f"The Chroma collection {physical!r}")
        return ChromaCollection(self._server, model, embedding_function=None, data_loader=None)

    def _drop(self, physical: str) -> None:
        """Deletes a physical collection, some 5,000 records a second.

        Record by record first: Chroma 1.5 forgets the lists in the metadata of a collection that is deleted
        as a whole, and gives them to the next records that it stores anywhere.
        """
        place = {"tenant": self._tenant, "database": self._database}
        more = True
        while more:
            with _calls(WRITE_TIMEOUT_S), contextlib.suppress(NotFoundError):
                more = False
                model = self._server.get_collection(physical, **place)
                chroma = ChromaCollection(self._server, model, embedding_function=None, data_loader=None)
                if ids := chroma.get(limit=BATCH, include=[])["ids"]:
                    chroma.delete(ids)
                    more = True
                else:
                    self._server.delete_collection(physical, **place)


class Collection(Pictures):
    """A logical collection; follows its name when it is deleted and made anew, but never to another model.

    Every method raises CollectionNotFound once it is gone, and what Index raises.
    """

    def __init__(self, index: Index, pointer: Pointer) -> None:
        self._index = index
        self.pointer = pointer

    @property
    def info(self) -> CollectionInfo:
        """Asks Chroma for the count; what the pointer says is free."""
        count, pointer = self.count(), self.pointer
        return CollectionInfo(
            pointer.name, count, pointer.model, pointer.fingerprint, pointer.dimension, pointer.created_at
        )

    @property
    def _write_s(self) -> float:
        return WRITE_TIMEOUT_S

    @property
    def physical(self) -> str:
        """The name of the Chroma collection."""
        return self.pointer.physical

    def check_model(self, model: str, fingerprint: str) -> None:
        """Raises ModelMismatch unless the collection's vectors are this model's."""
        self.pointer.check_model(model, fingerprint)

    def upsert(
        self,
        images: Sequence[Image],
        vectors: NDArray[np.float32],
        owners: Sequence[str],
        contributions: Sequence[Sequence[Contribution]] | None = None,
        *,
        new: bool = False,
    ) -> None:
        """Writes the records exactly as given; distinct ids, vectors (n, dimension), one owner each.

        Records without `contributions` count as if their items had come before all others. With `new`, for
        a writer who has just seen that none of the ids is present, what is stored is not read first.
        """
        if vectors.shape != (len(images), self.pointer.dimension) or len(owners) != len(images):
            raise ValueError(f"{vectors.shape} vectors and {len(owners)} owners for {len(images)} images")
        made = contributions or [()] * len(images)
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            records = {
                image.id: to_record(image, owner, made_of)
                for image, owner, made_of in zip(images[batch], owners[batch], made[batch], strict=True)
            }
            write = partial(write_records, records=records, vectors=vectors[batch], new=new)
            self._run(write, WRITE_TIMEOUT_S)

    def vector(self, image_id: str) -> NDArray[np.float32]:
        """Shape (dimension,). Raises ImageNotFound."""
        found = self.vectors([image_id])
        if image_id not in found:
            raise no_image(image_id)
        return found[image_id]

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Of those ids that are present."""
        pages = self._run(lambda chroma: list(index_search.vectors(chroma, list(ids))))
        return {image_id: row for page, rows in pages for image_id, row in zip(page, rows, strict=True)}

    def count(self) -> int:
        return self._run(lambda chroma: chroma.count())

    def nearest(self, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
        """For each of `vectors` (n, dimension) up to `count` (id, score), best first."""
        return self._run(lambda chroma: index_search.nearest(chroma, vectors, count))

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
        """Best first, ties by id; `vector` (dimension,) of any length but 0; `exclude` leaves one id out.

        `of_text`: the vector is far from all pictures', and HNSW looks at more of a large collection.
        """
        which = partial(
            index_search.search, vector=vector, limit=limit, offset=offset, where=where, min_score=min_score,
            exclude=exclude,
        )  # fmt: skip

        def run(chroma: ChromaCollection) -> list[Hit]:
            size = self._index._size(chroma) if of_text else 0
            return which(chroma, candidates=index_search.candidates_for(size, EF_SEARCH))

        return self._run(run)

    def matching(
        self, vector: NDArray[np.float32], *, where: Where | None, min_score: float | None, most: int
    ) -> tuple[list[Image], bool]:
        """Of the `most` nearest those that match, in no order; and whether no other one does."""
        which = partial(index_search.matching, where=where, min_score=min_score, most=most)
        return self._run(lambda chroma: which(chroma, vector))

    def sample(self, count: int) -> NDArray[np.float32]:
        """Vectors (n, dimension) of about `count` pictures spread over the collection, or of all of fewer."""
        return self._run(partial(index_search.sample, count=count))

    def _run(self, operation: Callable[[ChromaCollection], T], timeout_s: float | None = None) -> T:
        index, name = self._index, self.pointer.name
        with _calls(timeout_s or index._timeout_s):
            opened = index._open(name)
            try:
                return operation(self._follow(opened))
            except NotFoundError:  # the cached pointer was stale
                return operation(self._follow(index._reopen(name)))

    def _beside(self, operation: Callable[[ChromaCollection], T], timeout_s: float | None = None) -> T:
        return self._run(lambda _: operation(self._index._make(self.pointer.keys)), timeout_s)

    def _follow(self, opened: _Opened) -> ChromaCollection:
        opened.pointer.check_model(self.pointer.model, self.pointer.fingerprint)
        self.pointer = opened.pointer
        return opened.chroma


def check_collection_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not COLLECTION_NAME.fullmatch(name):
        raise InvalidRequest(
            "A collection's name is 1 to 63 letters, digits, dots, underscores and hyphens, "
            "a letter or digit first and last."
        )
