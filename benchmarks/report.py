"""`make performance`: docs/performance.md and its plots, made anew from what `--record` kept."""

import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks import on_paper, records
from benchmarks.records import Recording
from benchmarks.results import Curve, goals_first

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLOTS = DOCS / "performance.md", DOCS / "performance"


def page(recordings: dict[str, Recording]) -> str:
    """The text of docs/performance.md: the template, and at the end the parts that it does not name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["fixed"] = lambda value, digits: f"{value:,.{digits}f}"
    environment.filters["plot"] = plot_name
    environment.filters["goals_first"] = goals_first
    text = environment.get_template("performance.md.j2").render(recordings=recordings, paper=on_paper)
    return re.sub("\n{3,}", "\n\n", text).rstrip() + "\n"


def plots(recordings: dict[str, Recording]) -> Iterator[tuple[Path, Curve]]:
    for recording in recordings.values():
        for curve in recording.curves:
            yield PLOTS / plot_name(curve, recording.part), curve


def plot_name(curve: Curve, part: str) -> str:
    return f"{part}-{re.sub('[^a-z0-9]+', '-', curve.title.lower()).strip('-')}.svg"


def main() -> None:
    from benchmarks.plots import draw  # noqa: PLC0415 - the guard test of the page needs no matplotlib

    recordings = records.load_all()
    PAGE.write_text(page(recordings), encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    for path, curve in plots(recordings):
        draw(curve, path)


if __name__ == "__main__":
    main()
