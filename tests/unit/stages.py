"""What the stages work with, in this process: the real ledger's scripts and blobs, stubs of the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from shared.config import Settings
from shared.download.downloader import Download
from shared.download.validators import Validators
from shared.errors import CollectionNotFound, IndexUnavailable, ItemError, ModelMismatch
from shared.imaging.preprocess import Preprocess
from shared.index.provenance import Contribution, KeyRecord, StoredImage
from shared.index.records import Pointer
from shared.ledger.ledger import Ledger, new_job_id
from shared.models import Chunk, Claim, Image, Item, ItemResult, ItemState, MetadataValue, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.blobs import Blobs
from shared.storage.manifest import ManifestWriter, write_results
from shared.storage.validators import url_hash
from shared.storage.vector_log import Addition, Segment
from tests.redis_server import fake_ledger
from worker.encoders import BoundModel
from worker.pipelines import store_of
from worker.stages import index

FINGERPRINT = "5" * 16
DIMENSION = 4


@dataclass
class StubDownloader:
    """Answers a URL with what `pages` says: bytes, a status of a post, or an error to raise.

    With an ETag if `etags` has one; `sent` are the URLs whose content was.
    """

    pages: dict[str, Any] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    posts: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    def download(
        self,
        url: str,
        limits: Any = None,
        known: Validators | None = None,
        called_off: Any = None,
        headers: Any = None,
    ) -> Download:
        answer = self.pages[url]
        if isinstance(answer, Exception):
            raise answer
        said = Validators(url_hash(url), etag) if (etag := self.etags.get(url)) else None
        if known and known == said:
            return Download(None, said)
        self.sent.append(url)
        return Download(answer, said)

    def post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float | None = None) -> int:
        self.posts.append((url, body, headers))
        answer = self.pages.get(url, 200)
        if isinstance(answer, Exception):
            raise answer
        return cast(int, answer)


class StubModel(BoundModel):
    """A collection's model whose pictures are prepared as the tests say."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__("stub/model", FINGERPRINT)
        self.__dict__["prepared"] = preprocess

    @property
    def preprocess(self) -> Preprocess:
        return cast(Preprocess, self.__dict__["prepared"])


@dataclass
class StubDispatcher:
    sent: list[tuple[Stage, Chunk]] = field(default_factory=list)

    def send(self, stage: Stage, chunk: Chunk) -> None:
        self.sent.append((stage, chunk))

    def pump(self) -> None:
        pass

    def wake_writer(self) -> None:
        self.sent.append((Stage.INDEX, Chunk("", 0, 0)))


@dataclass
class StubCollection:
    """Refuses the ids in `refused` as Chroma does: the whole call fails, with `refusal`."""

    images: dict[str, StoredImage] = field(default_factory=dict)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
    queries: int = 0
    refused: set[str] = field(default_factory=set)
    refusal: Exception = field(default_factory=lambda: ValueError("no such metadata value"))
    trouble: Exception | None = None
    proofs: list[int] = field(default_factory=list)
    pointer: Any = field(default_factory=lambda: SimpleNamespace(model="stub", fingerprint=FINGERPRINT))
    looked_up: list[list[str]] = field(default_factory=list)

    def check_model(self, model: str, fingerprint: str) -> None:
        if fingerprint != self.pointer.fingerprint:
            raise ModelMismatch("Another model wrote this collection: reindex it.")

    def with_vectors(self, ids: Sequence[str]) -> dict[str, tuple[StoredImage, NDArray[np.float32]]]:
        self.looked_up.append(list(ids))
        return {i: (self.images[i], self.vectors[i]) for i in ids if i in self.images}

    def stored(self, ids: Sequence[str]) -> dict[str, StoredImage]:
        return {i: self.images[i] for i in ids if i in self.images}

    def key_records(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        return {key: self.keys[key] for key in keys if key in self.keys}

    def write_keys(self, records: Sequence[KeyRecord]) -> None:
        self.keys |= {record.key: record for record in records}

    def prove_writable(self, size: int) -> None:
        self.proofs.append(size)
        if self.trouble is not None:
            raise self.trouble

    def update(self, pictures: Sequence[StoredImage]) -> None:
        assert {one.image.id for one in pictures} <= self.images.keys()
        self.images |= {one.image.id: one for one in pictures}

    def upsert(
        self,
        images: Sequence[Image],
        vectors: NDArray[np.float32],
        owners: Sequence[str],
        contributions: Sequence[tuple[Contribution, ...]],
        *,
        new: bool,
    ) -> None:
        assert not new or self.images.keys().isdisjoint(image.id for image in images)
        self.calls.append(len(images))
        assert vectors.shape == (len(images), DIMENSION)
        if self.trouble is not None:
            raise self.trouble
        if self.refused & {image.id for image in images}:
            raise self.refusal
        rows = map(StoredImage, images, owners, contributions)
        self.images |= {one.image.id: one for one in rows}
        self.vectors |= {image.id: vector for image, vector in zip(images, vectors, strict=True)}

    def nearest(self, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
        self.queries += len(vectors)
        scores = [{i: float(self.vectors[i] @ vector) for i in self.images} for vector in vectors]
        return [sorted(one.items(), key=lambda pair: -pair[1])[:count] for one in scores]

    def mark_new_strays(self, written: Mapping[str, NDArray[np.float32]], check: object) -> None:
        assert written.keys() <= self.images.keys()

    def delete(self, ids: Sequence[str]) -> None:
        for image_id in ids:
            self.images.pop(image_id, None)


@dataclass
class StubIndex:
    stored: StubCollection = field(default_factory=StubCollection)
    down: bool = False
    fingerprint: str = FINGERPRINT

    def pointers(self) -> list[Pointer]:
        return []

    def ensure(self, name: str, *, model: str, fingerprint: str, dimension: int) -> StubCollection:
        if self.down:
            raise IndexUnavailable("Chroma does not answer.")
        if fingerprint != self.fingerprint:
            raise ModelMismatch("Another model wrote this collection: reindex it.")
        return self.stored

    def collection(self, name: str) -> StubCollection:
        if self.down:
            raise IndexUnavailable("Chroma does not answer.")
        self.stored.pointer = SimpleNamespace(model="stub", fingerprint=self.fingerprint)
        return self.stored


@dataclass
class StubServices:
    """As Services, with every part open to the test."""

    settings: Settings
    blobs: Blobs
    ledger: Ledger
    index: StubIndex = field(default_factory=StubIndex)
    downloader: StubDownloader = field(default_factory=StubDownloader)
    dispatcher: StubDispatcher = field(default_factory=StubDispatcher)

    @property
    def real(self) -> Services:
        return cast(Services, self)

    def job(self, items: Sequence[Item] | int, chunk_size: int = 4, **options: Any) -> str:
        """A job and its manifest; a number stands for so many URLs."""
        job_id = new_job_id()
        if isinstance(items, int):
            items = [Item(source=f"http://x/{i}", url=f"http://x/{i}") for i in range(items)]
        writer = ManifestWriter(self.blobs, job_id)
        for item in items:
            writer.add(item)
        writer.flush()
        return self.ledger.create(
            job_id, collection="images", total=len(items), chunk_size=chunk_size, **options
        )

    def claim(self, stage: Stage = Stage.FETCH) -> Claim:
        """The next chunk's lease: of one that is dispatched now for fetch, else of one that waits."""
        if stage is Stage.FETCH:
            claim = self.ledger.claim(self.ledger.dispatch()[0], stage)
        else:
            claim = self.ledger.claim_ready(stage, 1)[0]
        assert claim is not None
        return claim

    def to_index(
        self, ids: Sequence[str], *, keys: Sequence[str | None] = (), fingerprint: str = FINGERPRINT
    ) -> str:
        """A job of one chunk, of pictures with these ids, that waits for the index writer."""
        job_id = self.job(len(ids), chunk_size=max(len(ids), 1))
        claim = self.claim()
        found = [ItemResult(i, "", 1, image_id=image_id) for i, image_id in enumerate(ids)]
        write_results(self.blobs, claim.chunk, Stage.FETCH, claim.token, found)
        additions = [
            Addition(
                i,
                1,
                f"{job_id}:{i}",
                image(id_, f"{job_id}/{i}", keys[i] if keys else None),
                claim.version + i,
            )
            for i, id_ in enumerate(ids)
        ]
        vectors = np.eye(DIMENSION, dtype=np.float32)[np.arange(len(ids)) % DIMENSION]
        segment = Segment(claim.version, "stub", fingerprint, additions, vectors)
        key = vector_log.write_segment(self.blobs, "images", claim.token, segment)
        transitions = [(i, ItemState.FETCHED) for i in range(len(ids))]
        assert self.ledger.advance(claim, transitions=transitions, next_stage=Stage.INDEX, payload=key)
        return job_id

    def states(self, job_id: str) -> list[ItemState]:
        return [state for _, state in self.ledger.items(job_id, None, 0, 10_000)[0]]


def drain(services: Services) -> None:
    """What the index worker does for a message."""
    index.drain(services, store_of)


def make_services(folder: Path, **settings: Any) -> StubServices:
    ledger = fake_ledger()
    return StubServices(Settings(**settings), Blobs(f"file://{folder}/blobs"), ledger)


def image(image_id: str, source: str = "s", key: str | None = None, **metadata: MetadataValue) -> Image:
    return Image(
        id=image_id,
        source=source,
        sources=[source],
        format="png",
        width=1,
        height=1,
        bytes=1,
        created_at=1.0,
        keys=[key] if key else [],
        metadata=metadata,
    )


def unavailable() -> ItemError:
    return ItemError("http_status", "503 Service Unavailable", http_status=503)


def collection_gone() -> CollectionNotFound:
    return CollectionNotFound("There is no collection 'images'.")
