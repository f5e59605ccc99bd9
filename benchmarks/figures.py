"""The ten figures that docs/performance.md opens with, each taken from a recorded run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import on_paper
from benchmarks.records import Recording


@dataclass(frozen=True)
class Figure:
    """`kind` says what the number is: a ratio and a share have no unit, a rate belongs to its machine."""

    what: str
    number: float
    unit: str
    kind: str
    run: Recording

    @property
    def shown(self) -> str:
        """Three digits, and the unit."""
        return f"{float(f'{self.number:.3g}'):,.10g} {self.unit}".strip()


def value(run: Recording, name: str) -> float:
    """What a run measured under this name."""
    (found,) = (result.value for result in run.results if result.name.strip() == name)
    return found


def _measured(name: str) -> Callable[[Recording], float]:
    return lambda run: value(run, name)


def _per_core_hour(name: str) -> Callable[[Recording], float]:
    return lambda run: value(run, name) / run.machine.cores * 3600


def _outside_the_encoder(run: Recording) -> float:
    return 1000 * on_paper.ingests({run.part: run})[0].without_encode


# By the name that the template has for it: what, kind, unit, part of the benchmarks, number.
_HEADLINE: dict[str, tuple[str, str, str, str, Callable[[Recording], float]]] = {
    "bf16": (
        "Photos from URL to searchable, bf16",
        "rate", "per hour per core", "ingest", _per_core_hour("bf16: product"),
    ),
    "int8": (
        "The same in int8",
        "rate", "per hour per core", "ingest", _per_core_hour("int8: product"),
    ),
    "naive": (
        "Ingest in bf16, against the loop that people write (fp32)",
        "ratio", "times", "ingest", _measured("ingest in bf16, times the naive loop"),
    ),
    "peers": (
        "Ingest, against the fastest of six other tools, which only embed files",
        "ratio", "times", "peers", _measured("ingest by URL (auto), times the best other tool"),
    ),
    "outside": (
        "What a photo costs outside the encoder, where a GPU encodes, too",
        "time", "core-ms per picture", "ingest", _outside_the_encoder,
    ),
    "search": (
        "Median search by a new text over HTTP, 60,000 pictures",
        "time", "ms", "search", _measured("text search of 60,000 over HTTP"),
    ),
    "busy": (
        "p99 of 4 searchers during an ingest, against their median without",
        "ratio", "times", "search-ingest",
        _measured("search p99 during an ingest, times p50 idle, 4 searchers"),
    ),
    "growth": (
        "The index's part of a text search, 1,000,000 pictures against 10,000",
        "ratio", "times", "vectors", _measured("median text search of 1,000,000, times 10,000"),
    ),
    "recall": (
        "Of the ten pictures truly nearest to a text, what a search finds among 1,000,000",
        "share", "", "vectors", _measured("recall@10 of 1,000,000, text queries"),
    ),
    "memory": (
        "Chroma's memory with 1,000,000 pictures of 512 dimensions",
        "memory", "MiB", "vectors", _measured("resident memory of Chroma, 1,000,000 just written"),
    ),
}  # fmt: skip


def headline(recordings: Mapping[str, Recording]) -> dict[str, Figure]:
    """The figures whose parts are recorded."""
    return {
        slug: Figure(what, number(recordings[part]), unit, kind, recordings[part])
        for slug, (what, kind, unit, part, number) in _HEADLINE.items()
        if part in recordings
    }
