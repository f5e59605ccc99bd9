"""The data types that every package uses. No I/O here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from shared.urls.redaction import redacted
from shared.validation import MAX_SOURCE, UNSHOWN, nfc, whole_text

COLLECTION_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
DEFAULT_COLLECTION = "images"
# In the order of the table of typical colours in shared/imaging/colors_and_hash.py.
COLORS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
MAX_KEY = 256
MAX_NAME = 200
MAX_GROUP_JOBS = 1_000
MAX_NOTES = 100
SHOWN_CHARS = 200  # of what is too long, or no URL
PHASH = re.compile(r"[0-9a-f]{16}")
_UNSHOWN = re.compile(rf"[\s{UNSHOWN}]+")
_TIMES = (-62_135_596_800, 253_402_300_799)  # the years 1 to 9999: RFC 3339 can say no others
COUNTS = ("width", "height", "bytes")  # whole numbers
RANGES = {
    **{"created_at": _TIMES, "taken_at": _TIMES, "lat": (-90, 90), "lon": (-180, 180), "nsfw": (0, 1)},
    **dict.fromkeys(COUNTS, (0, 2**63 - 1)),
}

MetadataValue = str | int | float | bool | list[str]
Metadata = dict[str, MetadataValue]


class Stage(StrEnum):
    """A stage of the pipeline; also the name of the queue for its messages."""

    FETCH = "fetch"
    ENCODE = "encode"
    INDEX = "index"


class ItemState(StrEnum):
    """The state of an item: `pending` and `fetched` are open, the others terminal."""

    PENDING = "pending"
    FETCHED = "fetched"
    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCHANGED = "unchanged"
    UPDATED = "updated"
    REMOVED = "removed"


# An item's state is one byte of its job's state map in Redis: the position here, as an ASCII digit.
ITEM_STATES = tuple(ItemState)


class JobKind(StrEnum):
    """What a job does with its items; docs/transfers.md says which stages each kind goes through."""

    INGEST = "ingest"
    EXPORT = "export"
    IMPORT = "import"
    REINDEX = "reindex"
    UPDATE = "update"
    DELETE = "delete"
    SYNC = "sync"


def item_states(kind: JobKind, options: JsonObject) -> list[ItemState]:
    """Return the states that items of such a job can come to, in the order of their counts."""
    others = {
        JobKind.UPDATE: {ItemState.UPDATED, ItemState.UNCHANGED},
        JobKind.DELETE: {ItemState.REMOVED, ItemState.UNCHANGED},
        JobKind.SYNC: _OF_SOME_KINDS,
    }.get(kind, {ItemState.UNCHANGED} if options.get("since") else set())
    return [one for one in ItemState if one in others or one not in _OF_SOME_KINDS]


_OF_SOME_KINDS = {ItemState.UNCHANGED, ItemState.UPDATED, ItemState.REMOVED}


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Item:
    """One image that a job was asked for: a `url` to fetch, or an `upload` (a blob's key).

    `source` says where it comes from, as it is kept and shown: of a URL, without the credentials, which stay
    in `url`. `error` is "code: detail" where the request already showed that the image cannot be had. `key`
    is the user's own name for the item, of at most MAX_KEY characters. `skip_near` leaves the image out where
    it is a near-duplicate.

    Of a sync, `of` is the name of the source whose listing has the item as an entry, `before` are the ids of
    the images that the entry brought earlier, and `withdraws` says that the listing has it no longer.
    """

    source: str
    url: str | None = None
    upload: str | None = None
    error: str | None = None
    metadata: Metadata = field(default_factory=dict)
    key: str | None = None
    skip_near: bool = False
    of: str | None = None
    before: tuple[str, ...] = ()
    withdraws: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", redacted(whole_text(self.source)))
        object.__setattr__(self, "before", tuple(self.before))


def url_item(
    url: str, metadata: Metadata | None = None, key: str | None = None, error: str | None = None
) -> Item:
    """Return the item of a URL, which fails where the URL cannot be one, or of an `error` known already."""
    if not url:
        error = error or "invalid_url: The URL is empty."
    if len(url) > MAX_SOURCE:
        error = f"invalid_url: The URL has {len(url):,} characters; at most {MAX_SOURCE:,} are allowed."
        url = redacted(url)[:SHOWN_CHARS]  # what is cut off may say what it is
    return Item(source=url, url=url, metadata=metadata or {}, error=error, key=key)


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item: an `image_id`, or a `code` (one of errors.ITEM_CODES) and `detail`."""

    index: int
    source: str
    attempts: int
    image_id: str | None = None
    code: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", self.detail and whole_text(self.detail))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A reference to up to CHUNK_SIZE consecutive items of a job: what one message of a queue carries.

    `number` counts the job's chunks from 0, `generation` its retries; `attempt` counts from 0 how often the
    chunk's transient failures were put back to be fetched again.
    """

    job_id: str
    generation: int
    number: int
    attempt: int = 0

    @property
    def ref(self) -> str:
        return f"{self.job_id}:{self.generation}:{self.number}:{self.attempt}"

    @classmethod
    def parse(cls, ref: str) -> Self:
        job_id, generation, number, attempt = ref.split(":")
        return cls(job_id, int(generation), int(number), int(attempt))


@dataclass(frozen=True, slots=True)
class Cause:
    """The request that brought about a job, by its id, and its span as W3C's `traceparent`; "" for none."""

    request_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's lease on a chunk at one stage.

    `token` names this delivery; `deliveries` counts from 1 how often the chunk was claimed at this stage.
    `payload` is the key of the blob that the stage before wrote ("" for fetch). `version` is the job's: an
    item's own is that plus its index. `kind`, `options` and `cause` are the job's. `arrived` is when the
    chunk came to the stage, on this process's monotonic clock.
    """

    chunk: Chunk
    stage: Stage
    token: str
    deliveries: int
    payload: str
    collection: str
    first_item: int
    last_item: int  # exclusive
    version: int
    kind: JobKind = JobKind.INGEST
    options: JsonObject = field(default_factory=dict)
    postponed: int = 0  # earlier attempts that found a host busy, and do not count as tries
    arrived: float = 0.0
    cause: Cause = field(default_factory=Cause)


@dataclass(frozen=True, slots=True)
class JobError:
    index: int
    source: str
    code: str
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", whole_text(self.source))
        object.__setattr__(self, "detail", whole_text(self.detail))


@dataclass(frozen=True, slots=True)
class Label:
    """What a job is called and where it comes from; nothing that is done depends on it.

    `origin` is what made it, `made_of` what of (a folder, say). The jobs of one upload or command share a
    `group`, of at most MAX_GROUP_JOBS. `name` is anybody's text, kept as one line of MAX_NAME characters.
    """

    name: str | None = None
    origin: str | None = None
    made_of: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        name = redacted(_UNSHOWN.sub(" ", self.name or "").strip())[:MAX_NAME]
        object.__setattr__(self, "name", name or None)


@dataclass(frozen=True, slots=True)
class Note:
    """What was changed or left out of a job's input, once a reason: `code` for programs, `detail` for people.

    `count` is of what `code` speaks of: columns, values, rows or files.
    """

    code: str
    detail: str
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", redacted(self.detail))  # it may show a cell, and so a URL


@dataclass(frozen=True, slots=True)
class Failure:
    """How many items failed with one code; `worth_retrying` of these may succeed when tried again."""

    code: str
    count: int
    worth_retrying: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """Items that wait to be tried again by themselves, the next of them in `in_s` seconds.

    That will be their try number `attempt` of at most `attempts`. They count until they have been tried.
    """

    items: int
    attempt: int
    attempts: int
    in_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its status shows it.

    Times are seconds since the epoch; `counts`, of the states that its items can come to, sums to `total`.
    """

    job_id: str
    status: JobStatus
    collection: str
    total: int
    chunk_size: int
    counts: dict[ItemState, int]
    rate_per_s: float | None
    eta_s: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    errors: list[JobError]
    truncated: bool = False
    callback_url: str | None = None
    kind: JobKind = JobKind.INGEST
    options: JsonObject = field(default_factory=dict)
    result: JsonObject | None = None
    label: Label = field(default_factory=Label)
    notes: list[Note] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    retrying: Retrying | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a collection, without its vector. `id` is the SHA-256 of the original bytes (hex).

    `keys` are the user's names for it, `jobs` the ids of those that brought it, oldest first.
    shared/embedding/tagging.py makes `tags`, best first, and `nsfw`, in [0, 1];
    shared/imaging/colors_and_hash.py makes `colors`, most area first, and `phash`, 16 hexadecimal digits.
    They are None or empty where an earlier version, without them, ingested the image, and so is any field of
    which something is stored that it cannot be (shared/storage/image_fields.py). A key is an identifier, and
    so in NFC whoever sends it.
    """

    id: str
    source: str
    sources: list[str]
    format: str
    width: int | None
    height: int | None
    bytes: int | None
    created_at: float | None = None
    taken_at: float | None = None
    lat: float | None = None
    lon: float | None = None
    metadata: Metadata = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    nsfw: float | None = None
    colors: list[str] = field(default_factory=list)
    phash: str | None = None
    keys: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not all(map(str.isascii, self.keys)):
            object.__setattr__(self, "keys", list(dict.fromkeys(map(nfc, self.keys))))


def in_range(name: str, value: float) -> bool:
    """Return whether a number can be the value of this field of an Image; NaN never can."""
    least, most = RANGES[name]
    return least <= value <= most


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: `score` is the cosine similarity to the query, in [-1, 1]."""

    image: Image
    score: float


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection and the model that it is bound to."""

    name: str
    count: int
    model: str
    fingerprint: str
    dimension: int
    created_at: float


JsonObject = dict[str, Any]
