"""The metrics that the ledger has: totals since the beginning, and what waits now.

Every target that shows them shows the same: a query takes the `max` of them, never the sum.
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.errors import Unavailable
from shared.ledger.ledger import Ledger
from shared.metrics.definitions import Definition, Exporter, Kind, define

_OF: tuple[Exporter, ...] = ("api", "sweep")


def _define(name: str, kind: Kind, help_text: str, *labels: str) -> Definition:
    return define(name, kind, help_text, labels, _OF)


UP = _define("ledger_up", "gauge", "1 while the job ledger in Redis answers")
ITEMS = _define("items_total", "counter", "Items that came to an end, by what became of them", "outcome")
ITEM_ERRORS = _define("item_errors_total", "counter", "Items that failed, by the error's code", "code")
BUSY = _define("encoder_busy_seconds_total", "counter", "Time in which encode processes computed")
STALLED = _define(
    "encoder_stalled_seconds_total", "counter", "Time in which encode processes stood although a chunk waited"
)
JOBS_OPEN = _define("jobs_open", "gauge", "Jobs that have not finished")
RETRYING = _define("retrying_items", "gauge", "Items that wait to be fetched again")
BACKLOG = _define(
    "backlog_items",
    "gauge",
    "Items that wait for a stage; for fetch those too whose chunk no message was sent for yet",
    "stage",
)
WAITING = _define("waiting_chunks", "gauge", "Chunks that wait at a stage", "stage")
RUNNING = _define("running_chunks", "gauge", "Chunks that a worker has at a stage", "stage")
OLDEST = _define(
    "oldest_waiting_chunk_seconds", "gauge", "How long the oldest chunk that waits at a stage has", "stage"
)
SLOTS = _define("worker_slots", "gauge", "Chunks that the workers seen of late can work on at once", "stage")
LIMITED_BY = _define(
    "ingest_limited_by", "gauge", "1 for what limits ingestion now (nothing while none is under way)", "by"
)
BREAKERS = _define("host_breakers_open", "gauge", "Foreign hosts that are not asked, as they kept failing")


class LedgerMetrics(Collector):
    """The ledger's metrics, read at each scrape and absent while Redis is down."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Yield the families; but for UP, none while Redis is down."""
        try:
            numbers = self._ledger.workers.gauges()
        except Unavailable:
            yield _gauge(UP, 0)
            return
        yield _gauge(UP, 1)
        yield _gauge(JOBS_OPEN, numbers["jobs_open"])


def _gauge(definition: Definition, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(definition.name, definition.help, value)
