"""What a benchmark reports: ratios of one run first, each with the figure that it must reach."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


class NotHere(Exception):
    """This machine lacks what a part measures; the message says what."""


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

    @property
    def shown(self) -> str:
        return f"{_number(self.value)} {self.unit}".strip()

    @property
    def shown_spread(self) -> str:
        return "" if self.spread is None else " to ".join(map(_number, self.spread))

    @property
    def shown_goal(self) -> str:
        return "" if self.goal is None else f"{'≤' if self.most else '≥'} {_number(self.goal)}"


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) by the name of their line; `log` names the axes, of "x" and "y", that are logarithmic."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log: str = ""

    @property
    def description(self) -> str:
        """What its plot's file keeps, so that a plot says of itself what it was drawn from."""
        return json.dumps(asdict(self), sort_keys=True)


def goals_first(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.goal is None)


def show(results: Iterable[Result], regressed: Mapping[str, float] | None = None) -> None:
    """Prints a table; `regressed` has the recorded value of each result that is now worse, by its name."""
    regressed = regressed or {}
    table = Table("measure", "value", "spread", "goal", "")
    for result in goals_first(results):
        verdict = "" if result.goal is None else "reached" if result.reached else "MISSED"
        if result.name in regressed:
            verdict = f"{verdict}, REGRESSED from {_number(regressed[result.name])}"
        table.add_row(result.name, result.shown, result.shown_spread, result.shown_goal, verdict)
    Console(width=140).print(table)


def wall_seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
