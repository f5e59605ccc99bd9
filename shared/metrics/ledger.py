"""The metrics that the ledger has: totals since the beginning, and what waits now.

Every target that shows them shows the same: a query takes the `max` of them, never the sum.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.errors import ITEM_CODES, Unavailable
from shared.ledger.ledger import Ledger
from shared.ledger.processes import Backlog, slots_of
from shared.metrics.bottleneck import CAUSES, limit_of
from shared.metrics.definitions import Definition, Exporter, Kind, define
from shared.models import ItemState, Stage

_OF: tuple[Exporter, ...] = ("api", "sweep")


def _define(name: str, kind: Kind, help_text: str, *labels: str) -> Definition:
    return define(name, kind, help_text, labels, _OF)


UP = _define("ledger_up", "gauge", "1 while the job ledger in Redis answers")
ITEMS = _define(
    "items_total",
    "counter",
    "Items of jobs of every kind that came to an end, by what became of them; again after a retry",
    "outcome",
)
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
        workers = self._ledger.workers
        try:
            backlog, totals, slots = workers.backlog(), workers.totals(), slots_of(workers.seen())
        except Unavailable:
            yield _gauge(UP, {(): 0})
            return
        yield _gauge(UP, {(): 1})
        yield from _counted(totals)
        yield from _waiting(backlog, slots)


def _counted(totals: Mapping[str, float]) -> Iterator[Metric]:
    ended = (one for one in ItemState if one not in (ItemState.PENDING, ItemState.FETCHED))
    yield _counter(ITEMS, {(one,): totals.get(one, 0) for one in ended})
    # Only known codes: what another version left in Redis is no label.
    yield _counter(ITEM_ERRORS, {(code,): totals.get(f"code:{code}", 0) for code in ITEM_CODES})
    yield _counter(BUSY, {(): totals.get("encoder_busy_seconds", 0)})
    yield _counter(STALLED, {(): totals.get("encoder_stalled_seconds", 0)})


def _waiting(backlog: Backlog, slots: Mapping[Stage, int]) -> Iterator[Metric]:
    queues = {(queue.stage,): queue for queue in backlog.queues}
    limit = limit_of(backlog, slots)
    yield _gauge(JOBS_OPEN, {(): backlog.open_jobs})
    yield _gauge(RETRYING, {(): backlog.retrying_items})
    yield _gauge(BACKLOG, {stage: queue.items for stage, queue in queues.items()})
    yield _gauge(WAITING, {stage: queue.waiting for stage, queue in queues.items()})
    yield _gauge(RUNNING, {stage: queue.running for stage, queue in queues.items()})
    yield _gauge(OLDEST, {stage: queue.oldest_wait_s or 0 for stage, queue in queues.items()})
    yield _gauge(SLOTS, {(stage,): count for stage, count in slots.items()})
    yield _gauge(LIMITED_BY, {(by,): by == limit.by for by in CAUSES})
    yield _gauge(BREAKERS, {(): backlog.breakers_open})


_Values = Mapping[tuple[str, ...], float]  # by the values of the metric's labels


def _gauge(definition: Definition, values: _Values) -> Metric:
    return _filled(GaugeMetricFamily(definition.name, definition.help, labels=definition.labels), values)


def _counter(definition: Definition, values: _Values) -> Metric:
    return _filled(CounterMetricFamily(definition.name, definition.help, labels=definition.labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: _Values) -> Metric:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
