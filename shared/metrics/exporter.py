"""The page of metrics of one target: a process, or all processes of a worker or server on this machine."""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.metrics import page_server
from shared.metrics.definitions import DEFINITIONS, REGISTRY, ROLES, Exporter, define
from shared.metrics.process_files import read_all
from shared.version import VERSION

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported
_BUILD = define("build_info", "gauge", "1, with the version of this target", ("version",), ROLES)
# The processes of an API each have a page of their own, and no start in common.
_STARTED = define(
    "start_time_seconds",
    "gauge",
    "When this target started, in seconds since 1970",
    (),
    ("fetch", "encode", "index", "sweep"),
)


class Page:
    """The metrics of `roles`, and of further collectors, such as the ledger's, that one target shows."""

    def __init__(self, roles: Collection[Exporter], *others: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        folder = os.environ.get(FOLDER_VARIABLE)
        self._registry.register(_OfRoles(_Shared(folder) if folder else REGISTRY, set(roles)))
        self._registry.register(_OfRoles(_Target(), set(roles)))
        for other in others:
            self._registry.register(other)

    def render(self) -> bytes:
        """Return the page in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> None:
        """Serve the page from a thread. Raises ConfigError for a port that is taken or a wrong host."""
        page_server.serve(self.render, host, port)


class _Shared(Collector):
    """The numbers of all processes that keep them in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Iterable[Metric]:
        return read_all(self._folder)


class _OfRoles(Collector):
    """What a collector has of some roles' metrics: one registry has those of all."""

    def __init__(self, source: Collector | CollectorRegistry, roles: set[Exporter]) -> None:
        self._source = source
        self._names = {
            one.name.removesuffix("_total") for one in DEFINITIONS if roles.intersection(one.exporters)
        }

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._source.collect() if family.name in self._names)


class _Target(Collector):
    def __init__(self) -> None:
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(_BUILD.name, _BUILD.help, labels=_BUILD.labels)
        build.add_metric([VERSION], 1)
        yield build
        yield GaugeMetricFamily(_STARTED.name, _STARTED.help, value=self._started)
