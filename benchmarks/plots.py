"""Curves as SVG files that read on a light page and on a dark one, the same bytes for the same points."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullFormatter

from benchmarks.results import Curve

GREY = "#808080"  # contrast of about 4 to both white and black
LINES = [
    ("#2a7fd4", "o", "-"),
    ("#d9600a", "s", "--"),
    ("#1a9a68", "^", "-."),
    ("#b0569e", "D", ":"),
    ("#8a7a00", "v", "-"),
    ("#6b6bd6", "P", "--"),
    ("#c2405a", "X", "-."),
    ("#3a8f9c", "*", ":"),
]
MAX_TICKS = 12
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "image-search",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
}


def draw(curve: Curve, path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, line) in enumerate(curve.lines.items()):
            colour, marker, dashes = LINES[number % len(LINES)]
            axes.plot(*zip(*line, strict=True), label=name, color=colour, marker=marker, linestyle=dashes)
        axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
        axes.set_xscale("log" if "x" in curve.log else "linear")
        measured = sorted({x for line in curve.lines.values() for x, _ in line})
        axes.xaxis.set_major_formatter(LogFormatter() if "x" in curve.log else "{x:,.10g}")
        axes.xaxis.set_minor_formatter(LogFormatter() if "x" in curve.log else NullFormatter())
        if "x" in curve.log and len(measured) <= MAX_TICKS:
            axes.set_xticks(measured, [f"{x:,.10g}" for x in measured])
            axes.minorticks_off()
        axes.set_yscale("log" if "y" in curve.log else "linear")
        axes.grid(color=GREY, alpha=0.3)
        if len(curve.lines) > 1:
            axes.legend(framealpha=0)
        metadata = {"Date": None, "Creator": None, "Description": curve.description}
        figure.savefig(path, transparent=True, metadata=metadata)
