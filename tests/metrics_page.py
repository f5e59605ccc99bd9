"""`make metrics`: docs/metrics.md, made of the definitions of the metrics."""

from pathlib import Path

from shared.metrics import exporter, ledger
from shared.metrics.definitions import DEFINITIONS, Definition

assert exporter and ledger, "importing them completes DEFINITIONS"
PAGE = Path(__file__).parents[1] / "docs/metrics.md"
_INTRODUCTION = """\
# Metrics

Made of `shared/metrics/` by `make metrics`; a test compares.

The API has its page at `GET /metrics`, for keys of the scope `metrics`; a worker or sweeper at \
`IMAGE_SEARCH_METRICS_PORT`, without a key ([settings.md](settings.md)). All processes of a worker, or of an \
API with `--processes`, are one target, and its page has the metrics of its roles.

Counters begin at 0 with their target, but for those of the ledger ("the same of each"): those count as long \
as Redis keeps its data, and every target that has them shows the same, so a query takes their `max`, never \
their `sum`. Times are in seconds, sizes in bytes. No label takes a value that a client or a foreign host \
can choose; where the values are known they are listed, and a counter with only such labels is 0 from the \
start.

| metric | type | labels | of | meaning |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    # The ledger's last, whatever was imported first.
    rows = sorted(DEFINITIONS, key=lambda one: one.exporters == ledger.UP.exporters)
    return _INTRODUCTION + "".join(f"{_row(one)}\n" for one in rows)


def _row(definition: Definition) -> str:
    labels = "; ".join(_label(name, definition.values.get(name)) for name in definition.labels)
    exporters = ", ".join(definition.exporters)
    if definition in vars(ledger).values():
        exporters += " (the same of each)"
    return f"| `{definition.name}` | {definition.kind} | {labels} | {exporters} | {definition.help} |"


def _label(name: str, values: tuple[str, ...] | None) -> str:
    return f"`{name}`: {', '.join(values)}" if values else f"`{name}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
