"""The server's metrics for Prometheus, in a registry of its own per app.

Where a server has several processes, each keeps its numbers in files that all of them read for a scrape
(`deploy/server.py` chooses that before this module is imported).
"""

import re
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from shared.errors import Unavailable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "image_search"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The counters: `requests` and `seconds` per method, route and status, and two times per search."""

    def __init__(self, ledger_gauges: Callable[[], dict[str, float]]) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter(
            f"{_PREFIX}_http_requests", "Requests answered", labels, registry=self._registry
        )
        self.seconds = self._histogram("http_request_seconds", "Time to answer a request", labels)
        self.encode_seconds = self._histogram("search_encode_seconds", "Time to encode a search's query")
        self.index_seconds = self._histogram("search_index_seconds", "Time of a search in the index")
        self._shown = self._registry
        if values.ValueClass is not values.MutexValue:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown)  # type: ignore[no-untyped-call]
        self._shown.register(_LedgerGauges(ledger_gauges))

    def _histogram(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", help_text, labels, buckets=_SECONDS, registry=self._registry)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        # Clients can send any word as a method, and each would be a time series for ever.
        labels = (method if method in _METHODS else "other", route, str(status))
        self.requests.labels(*labels).inc()
        self.seconds.labels(*labels).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self._shown)


class _LedgerGauges(Collector):
    """The ledger's gauges, read at each scrape and absent while Redis is down."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            gauges = self._read()
        except Unavailable:
            gauges = None
        up = GaugeMetricFamily(f"{_PREFIX}_ledger_up", "Whether the job ledger answers")
        up.add_metric([], 0.0 if gauges is None else 1.0)
        yield up
        for name, value in sorted((gauges or {}).items()):
            full_name = f"{_PREFIX}_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"
            gauge = GaugeMetricFamily(full_name, "From the job ledger")
            gauge.add_metric([], value)
            yield gauge
