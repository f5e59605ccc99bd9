"""What a benchmark reports: ratios of one run first, each with the figure that it must reach."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """`goal` is the least (or, with `most`, the greatest) value that is good; None: only for reading.

    `spread` is the least and the greatest of the rounds that `value` is the median of.
    """

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    most: bool = False
    spread: tuple[float, float] | None = None

    @property
    def reached(self) -> bool:
        if self.goal is None:
            return True
        return self.value <= self.goal if self.most else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) by the name of their line; `log` names the axes, of "x" and "y", that are logarithmic."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log: str = ""


def show(results: list[Result]) -> None:
    """Prints a table, the results that have a goal first."""
    table = Table("measure", "value", "goal", "")
    for result in sorted(results, key=lambda r: r.goal is None):
        goal = "" if result.goal is None else f"{'≤' if result.most else '≥'} {result.goal:g}"
        verdict = "" if result.goal is None else "reached" if result.reached else "MISSED"
        table.add_row(result.name, f"{result.value:.4g} {result.unit}".strip(), goal, verdict)
    Console(width=120).print(table)


def write_json(results: list[Result], path: Path) -> None:
    rows = [asdict(result) | {"name": result.name.strip(), "reached": result.reached} for result in results]
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def wall_seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
