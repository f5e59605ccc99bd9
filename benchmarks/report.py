"""`make performance`: docs/performance.md, the pages behind it, docs/models.md and the plots, of records."""

import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks import figures, models, on_paper, records
from benchmarks.records import Recording
from benchmarks.results import Curve, goals_first

TEMPLATES = Path(__file__).parent / "pages"
DOCS = Path(__file__).parent.parent / "docs"
OVERVIEW, FOLDER = DOCS / "performance.md", DOCS / "performance"
MODELS = DOCS / "models.md"


def pages(recordings: dict[str, Recording]) -> dict[Path, str]:
    """Fill every template; the overview comes last, and ends with the parts that no template names."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["fixed"] = lambda value, digits: f"{value:,.{digits}f}"
    environment.filters["plot"] = plot_name
    environment.filters["goals_first"] = goals_first
    places: dict[str, str] = {}  # of each part that a page shows, from the overview

    def fill(name: str, folder: str, **more: object) -> str:
        def part(part_name: str) -> str:
            places[part_name] = f"{FOLDER.name}/{name}.md"
            run = recordings.get(part_name)
            return environment.get_template("part.j2").render(name=part_name, run=run, folder=folder)

        text = environment.get_template(f"{name}.md.j2").render(
            recordings=recordings, paper=on_paper, part=part, curve=curve, value=value, **more
        )
        return re.sub("\n{3,}", "\n\n", text).rstrip() + "\n"

    def curve(part_name: str, title: str, line: str) -> list[tuple[float, float]]:
        """The points of a line of the one curve whose title begins so."""
        (found,) = (one for one in recordings[part_name].curves if one.title.startswith(title))
        return found.lines[line]

    def value(part_name: str, name: str) -> float:
        return figures.value(recordings[part_name], name)

    names = sorted(path.name.removesuffix(".md.j2") for path in TEMPLATES.glob("*.md.j2"))
    for page in (OVERVIEW, MODELS):
        names.remove(page.stem)
    filled = {FOLDER / f"{name}.md": fill(name, "") for name in names}
    more = {
        "figures": figures.headline(recordings),
        "places": dict(places),
        "unplaced": [name for name in recordings if name not in places],
    }
    choice = fill(MODELS.stem, f"{FOLDER.name}/", models=models.MODELS, text_tokens=models.TEXT_TOKENS)
    return {OVERVIEW: fill(OVERVIEW.stem, f"{FOLDER.name}/", **more), MODELS: choice, **filled}


def plots(recordings: dict[str, Recording]) -> Iterator[tuple[Path, Curve]]:
    for recording in recordings.values():
        for curve in recording.curves:
            yield FOLDER / plot_name(curve, recording.part), curve


def plot_name(curve: Curve, part: str) -> str:
    return f"{part}-{re.sub('[^a-z0-9]+', '-', curve.title.lower()).strip('-')}.svg"


def main() -> None:
    from benchmarks.plots import draw  # noqa: PLC0415 - the guard test of the pages needs no matplotlib

    recordings = records.load_all()
    FOLDER.mkdir(exist_ok=True)
    for old in (*FOLDER.glob("*.svg"), *FOLDER.glob("*.md")):
        old.unlink()
    for path, text in pages(recordings).items():
        path.write_text(text, encoding="utf-8")
    for path, curve in plots(recordings):
        draw(curve, path)


if __name__ == "__main__":
    main()
