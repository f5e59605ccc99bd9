"""The collections of one Chroma database, by name.

A collection's name is an alias: a pointer in the registry, itself a Chroma collection, to the physical
collection that holds the vectors. So an alias swap takes one write, and a search needs nothing but Chroma to
follow it. The pointer is written first, and whoever opens it first makes the physical collection: a crash in
between leaves nothing to clean up. `<name>~<fingerprint>` is a shadow collection, being made beside another
and seen by nobody. A Chroma collection's metadata hold its format (shared/formats.py).
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from operator import methodcaller
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from chromadb import errors
from chromadb.api import ServerAPI
from chromadb.api.collection_configuration import CreateCollectionConfiguration
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.errors import NotFoundError
from numpy.typing import NDArray

from shared.batching.batching import Batching
from shared.config import Settings
from shared.errors import (
    CollectionExists,
    CollectionNotFound,
    IndexUnavailable,
    InvalidRequest,
)
from shared.formats import FIELD, check_format
from shared.index.collection import WRITE_TIMEOUT_SECONDS, Collection, Opened
from shared.index.connection import CALLS_AT_ONCE, Together, calls, http_server
from shared.index.records import BATCH, Pointer, add_documents, new_pointer, pointer_of
from shared.index.search import EF_SEARCH
from shared.index.strays import AT_ONCE, Reaching, reaching
from shared.models import COLLECTION_NAME, CollectionInfo

log = structlog.get_logger(__name__)

REGISTRY = "image-search-registry"
# Of the pictures' records: in FORMAT each has a document, by which keywords find it. An earlier version,
# which would write some without, refuses it; what such a version made is PLAIN until `add_documents` is
# through. The registry and the keys' records always are.
FORMAT, PLAIN = 2, 1
POINTER_TTL_SECONDS = 2.0
SIZE_TTL_SECONDS = 600.0  # Chroma counts 10,000 a millisecond
STRAYS_TTL_SECONDS = 60.0
_STAGED = "~"  # in no collection's name: what comes behind it is the model of one that is being made
# sync_threshold: vectors written before Chroma stores its graph; measured, above 2,000 writers crawl.
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


class _Unembedded:
    """Leaves vectors as they are where documents are written: Chroma's own way is to download a model."""

    def __call__(self, input: object) -> None:
        return None


_UNEMBEDDED: Any = _Unembedded()


class Index:
    """All collections of one Chroma database, connected at the first call and again after an outage.

    Every method raises IndexUnavailable when Chroma does not answer within `timeout_s` (reads) or
    WRITE_TIMEOUT_SECONDS (writes) or answers with a failure of its own, and NewerFormat.
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
        self.timeout_s = timeout_s
        self._registry_collection: ChromaCollection | None = None
        self._turns: dict[UUID, Batching] = {}  # by Chroma's id: a slow collection holds up no other
        self._cache: dict[str, Opened] = {}
        self._sizes: dict[str, tuple[float, int]] = {}  # by physical name: when it was counted, what came out
        self.recent: dict[str, float] = {}  # by physical name: the time of the last image of the newest page
        self._reaching: dict[UUID, tuple[float, Reaching]] = {}  # by Chroma's id, and when it was read

    def ping(self) -> None:
        with calls(self.timeout_s):
            self._server.heartbeat()

    def collections(self) -> list[CollectionInfo]:
        with calls(self.timeout_s):
            found = self._registry(lambda registry: registry.get(include=["metadatas"]))
            infos = []
            for name in sorted(name for name in found["ids"] if _STAGED not in name):
                with contextlib.suppress(CollectionNotFound):
                    infos.append(self.collection(name).info)
            return infos

    def collection(self, name: str) -> Collection:
        """Return the collection of this name. Raises CollectionNotFound."""
        if _STAGED in name:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        with calls(self.timeout_s):
            return Collection(self, self.open(name).pointer)

    def create(self, name: str, *, model: str, fingerprint: str, dimension: int) -> Collection:
        """Make a collection. Raises CollectionExists, and InvalidRequest for a name that is not allowed."""
        check_collection_name(name)
        with calls(WRITE_TIMEOUT_SECONDS):
            if self._pointer(name) is not None:
                raise CollectionExists(f"The collection {name!r} exists already.")
            proposed = new_pointer(name, model, fingerprint, dimension)
            winner = self._propose(proposed)
            if winner is None or winner.physical != proposed.physical:
                raise CollectionExists(f"The collection {name!r} exists already.")
            return Collection(self, self.reopen(name).pointer)

    def ensure(self, name: str, *, model: str, fingerprint: str, dimension: int) -> Collection:
        """Return the collection, made if there is none. Raises ModelMismatch; InvalidRequest as `create`."""
        check_collection_name(name)
        with calls(WRITE_TIMEOUT_SECONDS):
            try:
                # Others may have deleted it just now, and who is to fill it must not fill what is gone.
                pointer = self.open(name, max_age_s=0.0).pointer
            except CollectionNotFound:
                self._propose(new_pointer(name, model, fingerprint, dimension))
                pointer = self.reopen(name).pointer
        pointer.check_model(model, fingerprint)
        return Collection(self, pointer)

    def pointers(self) -> list[Pointer]:
        """List what each collection is bound to, by name."""
        with calls(self.timeout_s):
            found = self._registry(lambda registry: registry.get(include=["metadatas"]))
        pairs = sorted(zip(found["ids"], found["metadatas"], strict=True), key=lambda pair: pair[0])
        pointers = (pointer_of(name, record) for name, record in pairs if _STAGED not in name)
        return [pointer for pointer in pointers if pointer is not None]

    def stage(self, name: str, *, model: str, fingerprint: str, dimension: int) -> Collection:
        """Return the model's shadow collection beside `name`, made if need be; hidden until `switch`."""
        staged = f"{name}{_STAGED}{fingerprint}"
        with calls(WRITE_TIMEOUT_SECONDS):
            if self._pointer(staged) is None:
                self._propose(replace(new_pointer(name, model, fingerprint, dimension), name=staged))
            return Collection(self, self.reopen(staged).pointer)

    def staged(self, name: str, fingerprint: str) -> Collection:
        """Return what `stage` has made. Raises CollectionNotFound, also once `switch` has used it."""
        staged = f"{name}{_STAGED}{fingerprint}"
        with calls(self.timeout_s):
            pointer = self.reopen(staged).pointer
        if pointer.fingerprint != fingerprint:
            raise CollectionNotFound(f"There is no collection {staged!r}.")
        return Collection(self, pointer)

    def fingerprints(self, name: str) -> set[str]:
        """Return those of the models of the collection `name` and of the shadow collections beside it."""
        with calls(self.timeout_s):
            found = self._registry(lambda registry: registry.get(include=["metadatas"]))
        pointers = map(pointer_of, found["ids"], found["metadatas"])
        return {one.fingerprint for one in pointers if one and one.name.partition(_STAGED)[0] == name}

    def switch(self, name: str, staged: Collection, *, new_keys: bool = False) -> Collection:
        """Point `name`, made if there is none, at the shadow collection `staged`, in one write.

        When it was created stays, and so do its keys, as they do not depend on a model; with `new_keys` the
        shadow's keys replace them.
        Returns the former collection, which is now the shadow: `unstage` it once nobody can still be writing
        there, which is POINTER_TTL_SECONDS later.
        """
        with calls(WRITE_TIMEOUT_SECONDS):
            before, aside = self._pointer(name), staged.pointer
            if before is not None and before.physical == aside.physical:  # the second try after a crash
                return staged
            keys = (before, aside) if before and not new_keys else (aside, before or aside)
            created_at = (before or aside).created_at
            pointers = [replace(aside, name=name, keys=keys[0].keys, created_at=created_at)]
            if before:
                pointers.append(replace(before, name=aside.name, keys=keys[1].keys))
            names = [one.name for one in pointers]
            fields: list[Any] = [one.fields for one in pointers]
            vectors = np.repeat(_NO_VECTOR, len(names), axis=0)
            self._registry(lambda registry: registry.upsert(names, vectors, fields))
            self._cache.pop(name, None)
            return Collection(self, self.reopen(aside.name).pointer)

    @staticmethod
    def wait_for_pointers() -> None:
        """Wait until every process follows the latest switch."""
        time.sleep(POINTER_TTL_SECONDS + 0.5)

    def unstage(self, name: str, fingerprint: str = "") -> None:
        """Delete the shadow collections beside `name`, with a `fingerprint` that under this model's name."""
        with calls(WRITE_TIMEOUT_SECONDS):
            names = self._registry(lambda registry: registry.get(include=[]))["ids"]
            live = self._pointer(name)
        for staged in (one for one in names if one.startswith(f"{name}{_STAGED}{fingerprint}")):
            with calls(WRITE_TIMEOUT_SECONDS):
                pointer = self._pointer(staged)
                self._cache.pop(staged, None)
            if pointer is not None and (live is None or pointer.physical != live.physical):
                self._drop(pointer.physical)
            if pointer is not None and (live is None or pointer.keys != live.keys):
                self._drop(pointer.keys)
            with calls(WRITE_TIMEOUT_SECONDS):
                self._registry(methodcaller("delete", [staged]))

    def delete(self, name: str) -> None:
        """Delete a collection; after a failure it may be there, empty: repeat. Raises CollectionNotFound."""
        with calls(WRITE_TIMEOUT_SECONDS):
            pointer = self._pointer(name)
            self._cache.pop(name, None)
        if pointer is None:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        self.unstage(name)
        self._drop(pointer.physical)
        self._drop(pointer.keys)
        still = pointer.physical
        with calls(WRITE_TIMEOUT_SECONDS):
            self._registry(lambda registry: registry.delete([name], where={"physical": still}))
        # Whoever opened it in between has made it anew.
        self._drop(pointer.physical)

    @cached_property
    def _server(self) -> ServerAPI:
        return self._connect()

    def open(self, name: str, max_age_s: float = POINTER_TTL_SECONDS) -> Opened:
        """Return a name's Chroma collection by a pointer of `max_age_s`. Raises CollectionNotFound."""
        cached = self._cache.get(name)
        if cached is not None and time.monotonic() - cached.read_at < max_age_s:
            return cached
        read_at = time.monotonic()
        pointer = self._pointer(name)
        if cached is not None and cached.pointer == pointer:
            opened = Opened(cached.pointer, cached.chroma, read_at)
        else:
            opened = self.reopen(name)
        self._cache[name] = opened
        return opened

    def reopen(self, name: str) -> Opened:
        """Return the Chroma collection of a name, its pointer read anew. Raises CollectionNotFound."""
        before = self._cache.pop(name, None)
        read_at = time.monotonic()
        pointer = self._pointer(name)
        if before and before.pointer != pointer:  # switched or deleted: its strays may be many megabytes
            self._reaching.pop(before.chroma.id, None)
            self._turns.pop(before.chroma.id, None)
        if pointer is None:
            raise CollectionNotFound(f"There is no collection {name!r}.")
        chroma = self.make(pointer.physical, FORMAT)
        if self._pointer(name) != pointer:
            here = pointer.physical
            if self._registry(lambda registry: registry.get(where={"physical": here}, include=[]))["ids"]:
                return self.reopen(name)  # switched meanwhile
            # Deleted meanwhile, and perhaps just made anew by us.
            self._drop(pointer.physical)
            raise CollectionNotFound(f"There is no collection {name!r}.")
        # get_or_create silently keeps what another configuration made. Distributed Chroma has SPANN for HNSW.
        made = chroma.configuration_json
        if (made.get("hnsw") or made.get("spann") or {}).get("space") != "cosine":
            raise IndexUnavailable(f"The collection {name!r} was not made for cosine similarity.")
        self._cache[name] = Opened(pointer, chroma, read_at)
        return self._cache[name]

    def size(self, chroma: ChromaCollection) -> int:
        """Return the number of images, at most SIZE_TTL_SECONDS old."""
        counted_at, size = self._sizes.get(chroma.name, (-SIZE_TTL_SECONDS, 0))
        if time.monotonic() - counted_at >= SIZE_TTL_SECONDS:
            size = chroma.count()
            self._sizes[chroma.name] = time.monotonic(), size
        return size

    def reaching(self, chroma: ChromaCollection, at_once: int = AT_ONCE) -> Reaching:
        """Return the collection with its strays as they were at most STRAYS_TTL_SECONDS ago.

        Until all are read, which takes several calls, or one of many `at_once`, it lacks some.
        """
        read_at, found = self._reaching.get(chroma.id, (-STRAYS_TTL_SECONDS, None))
        if found is None or not found.complete or time.monotonic() - read_at >= STRAYS_TTL_SECONDS:
            turns = self._turns.setdefault(chroma.id, Batching(CALLS_AT_ONCE))
            found = reaching(Together(chroma, turns), found, at_once)
            self._reaching[chroma.id] = time.monotonic(), found
        return found

    def forget_strays(self, chroma: ChromaCollection) -> None:
        """Have `reaching` read the strays anew."""
        if found := self._reaching.get(chroma.id):
            self._reaching[chroma.id] = -STRAYS_TTL_SECONDS, found[1]

    def has_documents(self, name: str) -> bool:
        """Return whether each record of a collection has a document. Raises CollectionNotFound."""
        with calls(self.timeout_s):
            opened = self.open(name)
            return _format_of(opened.chroma) >= FORMAT or _format_of(self.reopen(name).chroma) >= FORMAT

    def add_documents(self, name: str, check: Callable[[], None]) -> int:
        """Write the documents of up to BATCH records that have none yet; return of how many.

        Once there are none the collection is in FORMAT. The caller holds the writer's lease; `check`, which
        may raise, is called before each write. Raises CollectionNotFound.
        """
        with calls(WRITE_TIMEOUT_SECONDS):
            chroma = self.reopen(name).chroma
            added = add_documents(chroma, BATCH, check) if _format_of(chroma) < FORMAT else 0
            if not added:
                check()
                chroma.modify(metadata={FIELD: FORMAT})
            return added

    def _pointer(self, name: str) -> Pointer | None:
        found = self._registry(lambda registry: registry.get(ids=[name], include=["metadatas"]))
        return pointer_of(name, found["metadatas"][0]) if found["ids"] else None

    def _propose(self, pointer: Pointer) -> Pointer | None:
        """Register the pointer unless the name has one; return the one that it has then."""
        # Chroma's `add` leaves an id that exists as it is: the first of two at once wins.
        self._registry(lambda registry: registry.add([pointer.name], _NO_VECTOR, [pointer.fields]))
        return self._pointer(pointer.name)

    def _registry(self, operation: Callable[[ChromaCollection], Any]) -> Any:
        if self._registry_collection is not None:
            with contextlib.suppress(NotFoundError):  # Chroma lost its data since
                return operation(self._registry_collection)
        self._registry_collection = self.make(REGISTRY)
        return operation(self._registry_collection)

    def make(self, physical: str, new: int | None = None) -> ChromaCollection:
        """Open a physical collection, made if there is none in the format `new`, by default PLAIN."""
        place = (self._tenant, self._database)
        try:
            # One that exists keeps the metadata that it was made with.
            model = self._server.create_collection(physical, None, HNSW, {FIELD: new or PLAIN}, True, *place)
        except errors.InvalidArgumentError as error:
            raise IndexUnavailable("Chroma does not have the tenant or database.") from error
        check_format(_format_of(model), FORMAT, f"The Chroma collection {physical!r}")
        return ChromaCollection(self._server, model, embedding_function=_UNEMBEDDED, data_loader=None)

    def _drop(self, physical: str) -> None:
        """Delete a physical collection, some 5,000 records per second.

        Record by record first: Chroma 1.5 forgets the lists in the metadata of a collection that is deleted
        as a whole, and gives them to the next records that it stores anywhere.
        """
        place = {"tenant": self._tenant, "database": self._database}
        more = True
        while more:
            with calls(WRITE_TIMEOUT_SECONDS), contextlib.suppress(NotFoundError):
                more = False
                model = self._server.get_collection(physical, **place)
                chroma = ChromaCollection(self._server, model, embedding_function=None, data_loader=None)
                if ids := chroma.get(limit=BATCH, include=[])["ids"]:
                    chroma.delete(ids)
                    more = True
                else:
                    self._server.delete_collection(physical, **place)


def _format_of(chroma: Any) -> int:
    return int((chroma.metadata or {}).get(FIELD, PLAIN))


def build_index(settings: Settings) -> Index:
    token = settings.chroma_token.get_secret_value() if settings.chroma_token else None
    return Index(
        settings.chroma_url, tenant=settings.chroma_tenant, database=settings.chroma_database, token=token
    )


def check_collection_name(name: str) -> None:
    """Raise InvalidRequest for a name that is not allowed."""
    if not COLLECTION_NAME.fullmatch(name):
        raise InvalidRequest(
            "A collection's name is 1 to 63 letters, digits, dots, underscores and hyphens, "
            "a letter or digit first and last."
        )
