"""Every metric: docs/metrics.md is made of these definitions.

Where several processes are one target (`share_between_processes`), each keeps its numbers in files that all
of them read for a scrape. No label takes a value that a client can choose: each such value would be a time
series for ever.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

Kind = Literal["counter", "gauge", "histogram"]
Exporter = Literal["api", "fetch", "encode", "index", "sweep"]
ROLES = get_args(Exporter)
PREFIX = "image_search_"
REGISTRY = CollectorRegistry()
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric as Prometheus sees it: `exporters` are the roles whose pages have it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    exporters: tuple[Exporter, ...]


DEFINITIONS: list[Definition] = []


def define(
    name: str, kind: Kind, help_text: str, labels: tuple[str, ...], exporters: tuple[Exporter, ...]
) -> Definition:
    """Add a metric to DEFINITIONS; the name of a counter ends in `_total`."""
    found = Definition(PREFIX + name, kind, help_text, labels, exporters)
    DEFINITIONS.append(found)
    return found


def _counter(name: str, help_text: str, *labels: str, of: tuple[Exporter, ...]) -> Counter:
    made = define(f"{name}_total", "counter", help_text, labels, of)
    return Counter(made.name, help_text, labels, registry=REGISTRY)


def _histogram(
    name: str,
    help_text: str,
    *labels: str,
    of: tuple[Exporter, ...],
    buckets: tuple[float, ...] = SECONDS,
) -> Histogram:
    made = define(name, "histogram", help_text, labels, of)
    return Histogram(made.name, help_text, labels, registry=REGISTRY, buckets=buckets)


def _gauge(
    name: str, help_text: str, *labels: str, of: tuple[Exporter, ...], mode: Literal["livesum", "livemax"]
) -> Gauge:
    made = define(name, "gauge", help_text, labels, of)
    return Gauge(made.name, help_text, labels, registry=REGISTRY, multiprocess_mode=mode)


_STAGES: tuple[Exporter, ...] = ("fetch", "encode", "index")

# Requests and searches
HTTP_REQUESTS = _counter("http_requests", "Requests answered", "method", "route", "status", of=("api",))
HTTP_SECONDS = _histogram(
    "http_request_seconds", "Time to answer a request", "method", "route", "status", of=("api",)
)
SEARCHES = _counter(
    "searches",
    "Searches, by what they ask with (text, image or combined) and whether all of that was encoded before",
    "kind",
    "cached",
    of=("api",),
)
SEARCH_ENCODE_SECONDS = _histogram("search_encode_seconds", "Time to encode a search's query", of=("api",))
SEARCH_INDEX_SECONDS = _histogram("search_index_seconds", "Time of a search in the index", of=("api",))

# Models
MODEL_INFO = _gauge(
    "model_info",
    "1 for the deployment's own model as this target computes with it",
    "model",
    "fingerprint",
    "device",
    "precision",
    of=("api", "encode"),
    mode="livemax",
)
OUT_OF_MEMORY_HALVINGS = _counter(
    "out_of_memory_halvings", "Batches halved for want of the device's memory", of=("api", "encode")
)
GPU_MEMORY = _gauge(
    "gpu_memory_bytes",
    "GPU memory that the target's processes hold for tensors (allocated) and in all (reserved)",
    "device",
    "state",
    of=("api", "encode"),
    mode="livesum",
)

# Chunks
CHUNKS = _counter("chunks", "Chunks that left a stage", "stage", of=_STAGES)
REDELIVERIES = _counter(
    "redeliveries",
    "Chunks that came to a worker again, after another lost or released them",
    "stage",
    of=_STAGES,
)
POISON_CHUNKS = _counter(
    "poison_chunks",
    "Deliveries of chunks that keep losing their worker: tried in isolation, or given up",
    "stage",
    "action",
    of=_STAGES,
)
LEASES_LOST = _counter(
    "leases_lost", "Chunks whose lease was over, or job cancelled, before their end", "stage", of=_STAGES
)
POSTPONED_CHUNKS = _counter(
    "postponed_chunks",
    "Chunks given back because Redis, Chroma or the blob store failed",
    "stage",
    of=_STAGES,
)

# Fetch
DOWNLOAD_BYTES = _counter("download_bytes", "Bytes of pictures downloaded", of=("fetch",))
DOWNLOAD_SECONDS = _histogram(
    "download_seconds", "Time of one download, waiting for its host's turn included", of=("fetch",)
)
DECODE_SECONDS = _histogram(
    "decode_seconds", "Time to decode one picture and make its renditions", of=("fetch",)
)
RETRIES = _counter(
    "retries", "Items put back to be fetched again, by the error that failed them", "code", of=("fetch",)
)

# Encode
ENCODE_SECONDS = _histogram("encode_seconds", "Time to encode one chunk's pictures", of=("encode",))
ENCODE_BATCH = _histogram(
    "encode_batch_images", "Pictures in a chunk that was encoded", of=("encode",), buckets=SIZES
)

# Index
WRITE_SECONDS = _histogram("write_seconds", "Time to write one batch into the index", of=("index",))
WRITE_BATCH = _histogram(
    "write_batch_images", "Pictures in one write to the index", of=("index",), buckets=SIZES
)
WRITER_LAG = _histogram(
    "writer_lag_seconds",
    "Time from a chunk's arrival at index to its end there",
    of=("index",),
    buckets=LONG_SECONDS,
)

# Chroma
CHROMA_REQUESTS = _counter(
    "chroma_requests",
    "Calls to Chroma, by what they ask and how they ended",
    "operation",
    "outcome",
    of=ROLES,
)
CHROMA_SECONDS = _histogram("chroma_request_seconds", "Time of a call to Chroma", "operation", of=ROLES)

# The sweeper
MESSAGES_RESENT = _counter("messages_resent", "Messages that the sweeper sent again", "stage", of=("sweep",))
CALLBACKS = _counter("callbacks", "Callbacks tried, by whether they were taken", "outcome", of=("sweep",))
