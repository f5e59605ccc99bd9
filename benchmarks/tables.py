"""Reading a table, for its types and again for its items: core time per row, by kind of table.

The goal is a tenth of an ingest's core time per item. Decoding a picture of 16 x 16 pixels is only a part of
that, and stands for it.
"""

import csv
import json
import resource
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

from benchmarks.results import Result
from benchmarks.tiny import picture
from shared.embedding.encoder import Encoder
from shared.imaging.decode import decode
from shared.tables.table import TableOptions, open_table

ROWS = 100_000
PICTURES = 300
ROUNDS = 3
GOAL = 0.1


def measure(checkpoint: Path, work: Path) -> list[Result]:
    work.mkdir()
    preprocess = Encoder.load(str(checkpoint), precision="fp32").preprocess
    pictures = [picture(f"/{number}.png") for number in range(PICTURES)]

    def decode_all() -> None:
        for data in pictures:
            decode(data, preprocess, max_pixels=10_000, keep="rendition")

    tiny = statistics.median(_core_seconds(decode_all) for _ in range(ROUNDS)) / PICTURES
    results = [Result("core time of decoding a tiny picture", 1e6 * tiny, "µs")]
    for kind, write in _WRITERS.items():
        path = work / f"table.{kind}"
        write(path)
        with path.open("rb") as file:
            seconds = [_core_seconds(lambda file=file: _read(file)) / ROWS for _ in range(ROUNDS)]  # type: ignore[misc]
        row = statistics.median(seconds)
        spread = (min(seconds) / tiny, max(seconds) / tiny)
        results += [
            Result(f"{kind}: a row against a tiny picture's decoding", row / tiny, "", GOAL, True, spread),
            Result(f"  {kind}: core time per row, read twice", 1e6 * row, "µs"),
        ]
    return results


def _core_seconds(call: Callable[[], object]) -> float:
    """Of this process and of those that it starts."""

    def spent() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = spent()
    call()
    return spent() - before


def _read(file: IO[bytes]) -> None:
    table = open_table(file, TableOptions(key_column="sku"))
    assert sum(1 for _ in table.rows()) == ROWS


def _rows() -> Iterator[dict[str, Any]]:
    for number in range(ROWS):
        yield {
            "url": f"https://images.example.com/products/{number}.jpg",
            "sku": f"sku-{number}",
            "caption": f"A caption of some words, the {number % 97}th of them, für Größe {number % 7}",
            "price": number % 1_000 + 0.5,
            "stock": number % 4_000,
            "new": number % 2 == 0,
        }


def _write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, next(_rows()))
        writer.writeheader()
        writer.writerows(_rows())


def _write_json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in _rows()), encoding="utf-8")


def _write_json(path: Path) -> None:
    path.write_text(json.dumps(list(_rows())), encoding="utf-8")


def _write_parquet(path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(list(_rows())), path)


_WRITERS = {"csv": _write_csv, "jsonl": _write_json_lines, "json": _write_json, "parquet": _write_parquet}
