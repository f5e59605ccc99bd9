"""What becomes of many thousand damaged files of every format, each from a seed of its own."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.results import Result
from tests.decoder_process import NEVER, DecoderProcess, Ending
from tests.mutations import mutated

PROCESSES = 2
MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Read:
    """One damaged file of `format`, and how reading it ended."""

    seed: int
    format: str
    ending: Ending


def measure(mutations: int, first_seed: int) -> list[Result]:
    """Reads the files of so many seeds, and shows a table of how they ended."""
    seeds = range(first_seed, first_seed + mutations)
    with ThreadPoolExecutor(PROCESSES) as pool:
        shares = pool.map(_read_all, (seeds[start::PROCESSES] for start in range(PROCESSES)))
        reads = [read for share in shares for read in share]
    _show(reads)
    failed = sorted((read for read in reads if read.ending.kind in NEVER), key=lambda read: read.seed)
    for read in failed[:MAX_SHOWN]:
        print(f"seed {read.seed} ({read.format}): {read.ending.kind} {read.ending.detail}")
    slowest = max(reads, key=lambda read: read.ending.seconds)
    largest = max(reads, key=lambda read: read.ending.peak_bytes)
    return [
        Result(f"of {mutations:,} damaged files, wrong, died or timeout", len(failed), goal=0, most=True),
        Result(f"  slowest (seed {slowest.seed}, {slowest.format})", slowest.ending.seconds, "s"),
        Result(
            f"  most memory (seed {largest.seed}, {largest.format})", largest.ending.peak_bytes / 2**20, "MiB"
        ),
    ]


def _read_all(seeds: Iterable[int]) -> list[Read]:
    reads = []
    with DecoderProcess() as decoder:
        for seed in seeds:
            name, data = mutated(seed)
            reads.append(Read(seed, name, decoder.read(data)))
    return reads


def _show(reads: list[Read]) -> None:
    counts = Counter((read.format, read.ending.kind) for read in reads)
    kinds = sorted({kind for _, kind in counts} | NEVER)
    table = Table("format", "files", *kinds)
    for name in sorted({name for name, _ in counts}):
        row = [counts[name, kind] for kind in kinds]
        table.add_row(name, *(f"{number:,}" for number in (sum(row), *row)))
    Console(width=140).print(table)
