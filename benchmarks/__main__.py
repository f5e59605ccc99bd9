"""`make bench`: every fast benchmark, a table each, compared with what was recorded; see `--help`."""

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from benchmarks import (
    api_costs,
    changes,
    decode,
    encode,
    encode_split,
    filters,
    fuzz,
    graphs,
    index_writes,
    ingest,
    kinds,
    known,
    large_pictures,
    lists,
    load,
    memory,
    models,
    newest,
    observing,
    parity,
    peers,
    poison,
    records,
    scaling,
    search_costs,
    search_ingest,
    search_load,
    switching,
    syncs,
    tables,
    vectors,
)
from benchmarks.photos import served, write_photos
from benchmarks.random_checkpoint import make_random_checkpoint
from benchmarks.records import Recording
from benchmarks.results import Curve, NotHere, Result, show

PARITY_SAMPLE = 100
DECODE_SAMPLE = 6
ENCODE_SAMPLE = 64
KINDS_SAMPLE = 8
PEERS_SAMPLE = 200


@dataclass(frozen=True)
class Bench:
    """What the parts share, made when the first of them asks for it; the fields are the command's options."""

    work: Path
    photos: int
    pictures: int
    rounds: int
    precision: str
    model: Path | None
    seconds: float
    items: int
    large: int
    mutations: int
    seed: int

    @cached_property
    def checkpoint(self) -> Path:
        """A randomly initialised ViT-B/32 of the real shape."""
        make_random_checkpoint(self.work / "vit-b-32")
        return self.work / "vit-b-32"

    def first_photos(self, count: int) -> list[Path]:
        return write_photos(self.work / "photos", min(count, self.photos))

    def parity(self) -> list[Result]:
        sample = self.first_photos(PARITY_SAMPLE)
        trained = [] if self.model is None else parity.measure(self.model, sample, centred=False)
        return parity.measure(self.checkpoint, sample, centred=True) + trained

    def encode(self) -> list[Result]:
        return encode.measure(self.checkpoint, self.first_photos(ENCODE_SAMPLE), self.work)

    @contextmanager
    def urls(self) -> Iterator[list[str]]:
        paths = self.first_photos(self.photos)
        with served(paths[0].parent) as address:
            yield [f"{address}/{path.name}" for path in paths]

    def observing(self) -> list[Result]:
        with self.urls() as urls:
            return observing.measure(self.checkpoint, urls, self.work / "observing")

    def ingest(self) -> list[Result]:
        with self.urls() as urls:
            precisions = self.precision.split(",")
            return ingest.measure(self.checkpoint, urls, self.work / "ingest", precisions, self.rounds)

    def peers(self) -> list[Result]:
        sample = self.first_photos(PEERS_SAMPLE)
        return peers.measure(
            self.checkpoint, sample, self.work / "peers", self.precision.split(","), self.rounds
        )


def _gpu() -> ModuleType:
    from benchmarks import gpu  # noqa: PLC0415 - it imports torch, which takes seconds

    return gpu


Part = Callable[[Bench], Sequence[Result | Curve]]
FAST: dict[str, Part] = {
    "parity": Bench.parity,
    "decode": lambda bench: decode.measure(bench.checkpoint, bench.first_photos(DECODE_SAMPLE)),
    "api": lambda bench: api_costs.measure(bench.work / "api"),
    "tables": lambda bench: tables.measure(bench.checkpoint, bench.work / "tables"),
    "filters": lambda bench: filters.measure(bench.checkpoint, bench.work / "filters", bench.pictures),
    "index": lambda bench: index_writes.measure(bench.work / "index"),
    "changes": lambda bench: changes.measure(bench.work / "changes"),
    "search": lambda bench: search_costs.measure(bench.checkpoint, bench.work / "search", bench.pictures),
    "ingest": Bench.ingest,
}
LONG: dict[str, Part] = {
    "encode": Bench.encode,
    "known": lambda bench: known.measure(bench.checkpoint, bench.work / "known", bench.rounds),
    "syncs": lambda bench: syncs.measure(bench.checkpoint, bench.work / "syncs", bench.rounds),
    "kinds": lambda bench: kinds.measure(bench.work / "kinds", bench.first_photos(KINDS_SAMPLE)),
    "models": lambda bench: models.measure(bench.work / "models"),
    "scaling": lambda bench: scaling.measure(bench.work / "scaling"),
    "encode-split": lambda bench: encode_split.measure(bench.checkpoint, bench.work / "encode-split"),
    "peers": Bench.peers,
    "load": lambda bench: load.measure(bench.work / "load", bench.seconds),
    "large-pictures": lambda bench: large_pictures.measure(bench.work / "large-pictures"),
    "searching": lambda bench: search_load.measure(bench.checkpoint, bench.work / "searching"),
    "crowd": lambda bench: search_load.crowd(bench.checkpoint, bench.work / "crowd"),
    "search-ingest": lambda bench: search_ingest.measure(
        bench.checkpoint, bench.first_photos(ENCODE_SAMPLE), bench.work / "search-ingest"
    ),
    "switch": lambda bench: switching.measure(
        bench.checkpoint, bench.first_photos(switching.PHOTOS), bench.work / "switch"
    ),
    "memory": lambda bench: memory.measure(bench.work / "memory", bench.items),
    "lists": lambda bench: lists.measure(
        bench.checkpoint, bench.work / "lists", bench.first_photos(1)[0], bench.pictures
    ),
    "observing": Bench.observing,
    "newest": lambda bench: newest.measure(bench.work / "newest", bench.large),
    "vectors": lambda bench: vectors.measure(bench.work / "vectors"),
    "graphs": lambda bench: graphs.measure(bench.work / "graphs"),
    "gpu": lambda bench: _gpu().measure(bench.work / "gpu"),
    "gpu-road": lambda bench: _gpu().road(bench.work / "gpu-road", bench.urls),
    "poison": lambda _: poison.measure(),
    "fuzz": lambda bench: fuzz.measure(bench.mutations, bench.seed),
}


@click.command(context_settings={"show_default": True})
@click.option("--photos", default=500, help="Photo-sized JPEGs (2048 x 1536) to ingest.")
@click.option("--pictures", default=filters.PICTURES, help="Pictures in the index for filtered searches.")
@click.option("--rounds", default=2, help="Rounds of `ingest`, `known`, `peers` and `syncs`.")
@click.option("--precision", default="auto,int8", help="What `ingest` and `peers` encode in, in turn.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=None,
    help="A trained checkpoint to measure parity on too.",
)
@click.option("--seconds", default=60.0, help="How long `load` measures under load.")
@click.option("--mutations", default=20_000, help="Damaged files that `fuzz` reads.")
@click.option("--seed", default=0, help="The first of them: other seeds, other damage.")
@click.option("--items", default=200_000, help="Pictures that `memory` ingests, about 200 per second.")
@click.option("--large", default=newest.LARGE, help="Pictures of the larger collection of `newest`.")
@click.option("--only", type=click.Choice([*FAST, *LONG]), help="One part.")
@click.option("--full", is_flag=True, help="The long parts too; some take an hour.")
@click.option("--record", is_flag=True, help="Keep the results in benchmarks/recorded, over the last ones.")
@click.option("--compare/--no-compare", default=True, help="Fail where a ratio is worse than its record.")
@click.pass_context
def main(
    context: click.Context, /, *, only: str | None, full: bool, record: bool, compare: bool, **options: Any
) -> None:
    """Measure what the pipeline, the API and the index cost, mostly with a randomly initialised ViT-B/32.

    Without --only or --full the fast parts run: parity, decode, api, tables, filters, index, changes, search,
    ingest.
    Exits with 1 when a goal was missed, a part broke, or a ratio with a goal is worse than its record by more
    than a fifth. After --record, `make performance` makes docs/performance.md and its tables: commit all.
    """
    parts = {only: (FAST | LONG)[only]} if only else FAST | LONG if full else FAST
    defaults = {str(option.name): option.get_default(context) for option in context.command.params}
    changed = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value != defaults[name]
    }
    good, began = True, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        bench = Bench(work=Path(folder), **options)
        for name, part in parts.items():
            started = time.perf_counter()
            try:
                outcomes = part(bench)
            except NotHere as reason:
                click.echo(f"{name}: left out. {reason}")
                good &= not only
                continue
            except Exception:
                traceback.print_exc()
                click.echo(f"{name}: broke, see above.")
                good = False
                continue
            run = records.make(name, changed, time.perf_counter() - started, outcomes)
            good &= _report(run, record, compare)
    click.echo(f"{time.perf_counter() - began:.0f} s in all")
    raise SystemExit(0 if good else 1)


def _report(now: Recording, record: bool, compare: bool) -> bool:
    """Shows, compares and keeps a part's run; false when it is not as good as it must be."""
    then = records.load(now.part)
    regressed: dict[str, float] = {}
    if compare and then is not None and (reason := records.incomparable(now, then)):
        click.echo(f"{now.part}: not compared, since {reason}.")
    elif compare and then is not None:
        regressed = records.regressions(now, then)
    click.echo(now.command)
    show(now.results, regressed)
    if record:
        click.echo(records.save(now))
    return not regressed and all(result.reached for result in now.results)


if __name__ == "__main__":
    main()
