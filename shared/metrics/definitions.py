"""Every metric: docs/metrics.md is made of these definitions.

Where several processes are one target (deploy/metrics_folder.py), each keeps its numbers in files that all
of them read for a scrape. No label takes a value that a client can choose: each such value would be a time
series for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from shared.errors import RETRYABLE_ITEM_CODES

Kind = Literal["counter", "gauge", "histogram"]
Exporter = Literal["api", "fetch", "encode", "index", "sweep"]
ROLES = get_args(Exporter)
PREFIX = "image_search_"
REGISTRY = CollectorRegistry()
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)
OPEN = ()  # the values of a label that are not known beforehand

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric as Prometheus sees it: `exporters` are the roles whose pages have it.

    `values` are those that a label can have, where they are known.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    exporters: tuple[Exporter, ...]
    values: Mapping[str, tuple[str, ...]]


DEFINITIONS: list[Definition] = []


def define(
    name: str,
    kind: Kind,
    help_text: str,
    labels: Iterable[str] | Mapping[str, tuple[str, ...]],
    exporters: tuple[Exporter, ...],
) -> Definition:
    """Add a metric to DEFINITIONS; the name of a counter ends in `_total`. `labels` may have their values."""
    values = dict(labels) if isinstance(labels, Mapping) else {}
    found = Definition(PREFIX + name, kind, help_text, tuple(labels), exporters, values)
    DEFINITIONS.append(found)
    return found


def _counter(name: str, help_text: str, of: tuple[Exporter, ...], **labels: tuple[str, ...]) -> Counter:
    made = define(f"{name}_total", "counter", help_text, labels, of)
    counter = Counter(made.name, help_text, made.labels, registry=REGISTRY)
    # An alert sees no increase from nothing to 1: what can be counted is 0 from the start.
    for values in product(*labels.values()) if labels else ():
        counter.labels(*values)
    return counter


def _histogram(
    name: str,
    help_text: str,
    of: tuple[Exporter, ...],
    buckets: tuple[float, ...] = SECONDS,
    **labels: tuple[str, ...],
) -> Histogram:
    made = define(name, "histogram", help_text, labels, of)
    return Histogram(made.name, help_text, made.labels, registry=REGISTRY, buckets=buckets)


def _gauge(
    name: str,
    help_text: str,
    of: tuple[Exporter, ...],
    mode: Literal["livesum", "livemax"],
    **labels: tuple[str, ...],
) -> Gauge:
    made = define(name, "gauge", help_text, labels, of)
    return Gauge(made.name, help_text, made.labels, registry=REGISTRY, multiprocess_mode=mode)


STAGES: tuple[Exporter, ...] = ("fetch", "encode", "index")
# Clients can send any word as a method, and each would be a time series for ever.
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "other")
CHROMA_OPERATIONS = ("query", "get", "add", "upsert", "update", "delete", "count", "collection", "other")

# Requests and searches
HTTP_REQUESTS = _counter(
    "http_requests",
    "Requests answered, by the route's pattern and the answer's status",
    ("api",),
    method=METHODS,
    route=OPEN,
    status=OPEN,
)
HTTP_SECONDS = _histogram(
    "http_request_seconds", "Time to answer a request", ("api",), method=METHODS, route=OPEN, status=OPEN
)
SEARCHES_ANSWERED = _counter(
    "searches",
    "Answers of /v1/search, by what they ask with (a vector counts as an image); cached: nothing of it had "
    "to be downloaded, read or encoded",
    ("api",),
    kind=("text", "image", "combined"),
    cached=("true", "false"),
)
SEARCH_ENCODE_SECONDS = _histogram(
    "search_encode_seconds",
    "Time to make a search's query into one vector, what it names downloaded",
    ("api",),
)
SEARCH_INDEX_SECONDS = _histogram("search_index_seconds", "Time of a search in the index", ("api",))

# Models
MODEL_INFO = _gauge(
    "model_info",
    "1 for the deployment's own model as this target computes with it",
    ("api", "encode"),
    "livemax",
    model=OPEN,
    fingerprint=OPEN,
    device=OPEN,
    precision=OPEN,
)
OUT_OF_MEMORY_HALVINGS = _counter(
    "out_of_memory_halvings", "Batches halved for want of the device's memory", ("api", "encode")
)
GPU_MEMORY = _gauge(
    "gpu_memory_bytes",
    "GPU memory that the target's processes hold for tensors (allocated) and in all (reserved), read while "
    "they encode",
    ("api", "encode"),
    "livesum",
    device=OPEN,
    state=("allocated", "reserved"),
)

# Chunks
CHUNKS = _counter(
    "chunks", "Chunks, of jobs of every kind, whose work at a stage came to its end", STAGES, stage=STAGES
)
REDELIVERIES = _counter(
    "redeliveries",
    "Deliveries of chunks that a worker had at the stage before, and died or failed over",
    STAGES,
    stage=STAGES,
)
POISON_CHUNKS = _counter(
    "poison_chunks",
    "Deliveries of chunks that keep losing their worker: isolated (pictures one by one in a process of their "
    "own, a write of its own) or given up, with their items failed",
    STAGES,
    stage=STAGES,
    action=("isolated", "given_up"),
)
LEASES_LOST = _counter(
    "leases_lost",
    "Chunks whose work came to nothing: their lease was over, or their job cancelled",
    STAGES,
    stage=STAGES,
)
POSTPONED_CHUNKS = _counter(
    "postponed_chunks",
    "Chunks given back to be delivered again: Redis, Chroma, the blob store or the model was not to be had "
    "(unavailable), or an error that nobody foresaw is in the log (error)",
    STAGES,
    stage=STAGES,
    reason=("unavailable", "error"),
)

# Fetch
DOWNLOAD_BYTES = _counter("download_bytes", "Bytes of pictures downloaded", ("fetch",))
DOWNLOAD_SECONDS = _histogram(
    "download_seconds",
    "Time of one download, the wait for its host's turn included; failed ones too",
    ("fetch",),
)
DECODE_SECONDS = _histogram(
    "decode_seconds", "Time to decode one picture and make its renditions; failed ones too", ("fetch",)
)
RETRIES = _counter(
    "retries",
    "Items put back to be fetched again, by the error that failed them",
    ("fetch",),
    code=(*sorted(RETRYABLE_ITEM_CODES), "http_status"),
)

# Encode
ENCODE_SECONDS = _histogram("encode_seconds", "Time to encode one chunk's pictures", ("encode",))
ENCODE_BATCH = _histogram("encode_batch_images", "Pictures in a chunk that was encoded", ("encode",), SIZES)

# Index
WRITE_SECONDS = _histogram(
    "write_seconds",
    "Time to write one batch of pictures, or one chunk of changes or removals, into the index, what is there "
    "looked up",
    ("index",),
)
WRITE_BATCH = _histogram(
    "write_batch_images", "Items in one batch of pictures, or chunk of changes or removals", ("index",), SIZES
)
WRITER_LAG = _histogram(
    "writer_lag_seconds", "Time from a chunk's arrival at index to its end there", ("index",), LONG_SECONDS
)

# Chroma
CHROMA_REQUESTS = _counter(
    "chroma_requests",
    "Calls to Chroma, by what they ask and how they ended: refused is an error that Chroma answered, "
    "unavailable no answer or one of a proxy",
    ROLES,
    operation=CHROMA_OPERATIONS,
    outcome=("ok", "refused", "unavailable", "timeout"),
)
CHROMA_SECONDS = _histogram(
    "chroma_request_seconds", "Time of a call to Chroma, however it ended", ROLES, operation=CHROMA_OPERATIONS
)

# The sweeper
MESSAGES_RESENT = _counter(
    "messages_resent",
    "Messages that the sweeper sent: of chunks whose delay is over, whose worker was lost, or which waited "
    "so long that their message may be",
    ("sweep",),
    stage=STAGES,
)
CALLBACKS = _counter(
    "callbacks",
    "Callbacks tried: taken, to be tried again (retried), or given up after the last try",
    ("sweep",),
    outcome=("taken", "retried", "given_up"),
)
