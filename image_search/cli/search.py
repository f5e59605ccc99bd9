"""`image-search search` and `duplicates`: the pictures, and in a terminal also to look at."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from image_search import Client, Hit
from image_search.cli.common import (
    client_command,
    collection_option,
    complete_jobs,
    console_for,
    counted,
    image_table,
    print_json,
    print_notes,
    value_text,
    values_text,
)
from image_search.cli.filters import FILTER_HELP, parse_filters


def _numbers(_ctx: click.Context, _parameter: click.Parameter, given: str | None) -> list[float] | None:
    """Read numbers as JSON or with commas between; after an @ stands the name of a file that has them."""
    if given is None:
        return None
    try:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        return [float(number) for number in text.strip().strip("[]").split(",")]
    except ValueError:
        raise click.BadParameter("is no list of numbers, such as 0.1,0.2") from None


@click.command()
@click.argument("text", required=False)
@click.option("--image", "images", multiple=True, metavar="FILE_OR_URL", help="An example picture.")
@click.option(
    "--box",
    callback=_numbers,
    metavar="L,T,R,B",
    help="Of the one --image only this part: left, top, right, bottom, as shares of its sides.",
)
@click.option(
    "--vector",
    callback=_numbers,
    metavar="NUMBERS",
    help="A vector of the model's, as JSON or with commas; @FILE reads it from a file.",
)
@click.option("--not", "negative", multiple=True, metavar="TEXT", help="What the pictures should not show.")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help=FILTER_HELP)
@click.option(
    "--keyword",
    "keywords",
    multiple=True,
    metavar="WORDS",
    help="A word or phrase that the metadata must have.",
)
@click.option("--any", "any_keyword", is_flag=True, help="One of the keywords is enough.")
@click.option(
    "--keyword-in",
    "keyword_names",
    multiple=True,
    metavar="NAME",
    help="Look for keywords only in this metadata.",
)
@click.option(
    "--order-by",
    metavar="NAME",
    help="Order by this field or metadata name, with - the largest first. Needs --among or --min-score.",
)
@click.option("--among", type=click.IntRange(min=1), help="Look at the nearest so many alone.")
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Leave out what scores less.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Leave out what is less sure to fit.")
@click.option(
    "--group-by",
    metavar="NAME",
    help="Show the best of each value of a field or metadata name, or of near_duplicates.",
)
@click.option("--diversity", type=click.FloatRange(0, 1), help="How unlike each other the results are to be.")
@click.option("--job", metavar="JOB", help="Only what this job brought.", shell_complete=complete_jobs)
@click.option(
    "--facet", "facets", multiple=True, metavar="NAME", help="Count the values of a field or metadata name."
)
@click.option("--vectors", is_flag=True, help="Under --json also the vectors of the example pictures.")
@click.option("--limit", type=click.IntRange(1, 500), default=10, show_default=True)
@collection_option(help="Collection to search.  [default: images]")
@click.option("--show/--no-show", default=None, help="Show the pictures.  [default: on a terminal]")
@client_command
def search(
    client: Client,
    *,
    text: str | None,
    images: tuple[str, ...],
    box: list[float] | None,
    vector: list[float] | None,
    negative: tuple[str, ...],
    filters: tuple[str, ...],
    keywords: tuple[str, ...],
    any_keyword: bool,
    keyword_names: tuple[str, ...],
    order_by: str | None,
    among: int | None,
    min_score: float | None,
    min_confidence: float | None,
    group_by: str | None,
    diversity: float | None,
    job: str | None,
    facets: tuple[str, ...],
    vectors: bool,
    limit: int,
    collection: str | None,
    show: bool | None,
    as_json: bool,
) -> None:
    """Find pictures by TEXT, by example pictures, or both."""
    if show and not _can_show():
        raise click.UsageError("--show needs a terminal: its answers are read from standard input")
    answer = client.search(
        text,
        images=images,
        box=box,
        vector=vector,
        negative=negative,
        filters=parse_filters(filters) | ({} if job is None else {"job": job}),
        keywords=_keywords(keywords, keyword_names, is_any=any_keyword),
        order_by=order_by,
        among=among,
        min_score=min_score,
        min_confidence=min_confidence,
        group_by=group_by,
        diversity=diversity,
        collection=collection,
        limit=limit,
        include=("metadata", "confidence", *["vectors"] * vectors),
        facets=facets,
    )
    if as_json:
        print_json(answer)
        return
    console = console_for()
    print_notes(answer.warnings)
    for name, counts in (answer.facets or {}).items():
        console.print(f"{name}: {values_text(counts) or 'none'}")
    if not answer.results:
        console.print("Nothing found.")
        return
    if show or (show is None and _can_show()):
        from image_search.cli.gallery import gallery  # noqa: PLC0415 - it asks the terminal what it can show

        console.print(gallery(client, answer.results, console.width))
    if answer.results[0].strength and all(hit.strength == "weak" for hit in answer.results):
        console.print("Nothing surely fits; the nearest are:")
    if answer.list_scope and not answer.list_scope.complete:
        console.print(f"Of the {counted(answer.list_scope.pictures, 'picture')} nearest:")
    columns = _columns(answer.results, group_by)
    table, add = image_table(console, *(heading for heading, _ in columns))
    for number, hit in enumerate(answer.results):
        add(*(cells[number] for _, cells in columns), hit.id, hit.source)
    console.print(table)


def _columns(hits: Sequence[Hit], group_by: str | None) -> list[tuple[str, list[str]]]:
    """Return the heading and cells of each column that the answer has something for."""
    columns = [
        ("#", [f"{number}" for number in range(1, len(hits) + 1)]),
        ("score", [f"{hit.score:.4f}" for hit in hits]),
    ]
    if hits[0].strength:  # not in a collection of a few pictures
        columns.append(("strength", [hit.strength or "" for hit in hits]))
    if groups := [hit.group for hit in hits if hit.group]:
        if group_by and group_by != "near_duplicates":
            columns.append((group_by, [value_text(group.value) for group in groups]))
        columns.append(("size", [f"{group.size:,}" for group in groups]))
    if any(hit.matched for hit in hits):
        columns.append(("matched", [_matched_text(hit.matched or {}) for hit in hits]))
    return columns


def _matched_text(matched: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{keyword} ({', '.join(names)})" for keyword, names in matched.items())


def _keywords(keywords: Sequence[str], names: Sequence[str], *, is_any: bool) -> dict[str, Any] | None:
    if not keywords:
        if names or is_any:
            raise click.UsageError("--any and --keyword-in need a --keyword")
        return None
    return {"any" if is_any else "all": keywords} | ({"in": names} if names else {})


@click.command()
@collection_option(help="Collection to look through.  [default: images]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Least cosine similarity.  [default: 0.95]",
)
@click.option(
    "--max-distance", type=click.IntRange(0, 32), help="Most bits in which the hashes differ.  [default: 8]"
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Groups to show.")
@client_command
def duplicates(
    client: Client,
    *,
    collection: str | None,
    threshold: float | None,
    max_distance: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show groups of near-duplicates. The first of each is the one to keep."""
    answer = client.duplicates(
        collection=collection, threshold=threshold, max_distance=max_distance, limit=limit
    )
    if as_json:
        print_json(answer)
        return
    console = console_for()
    table, add = image_table(console, "group", "", "size", "bytes", "score")
    for number, group in enumerate(answer.groups, 1):
        for one in group.images:
            mark = Text("keep", "green") if one.id == group.keeper else ""
            size = f"{one.width or '?'}x{one.height or '?'}"
            add(str(number), mark, size, f"{one.bytes or 0:,}", f"{one.score:.4f}", one.id, one.source)
    console.print(table if answer.groups else "No near-duplicates.")
    if answer.total > len(answer.groups):
        console.print(f"{counted(answer.total - len(answer.groups), 'more group')}: --limit")
    if answer.not_compared:
        console.print(f"Not compared, having no perceptual hash: {counted(answer.not_compared, 'picture')}.")


client_commands: list[click.Command] = [search, duplicates]


def _can_show() -> bool:
    """Tell whether there is a terminal; some pseudo-terminals have no size to fit anything into."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.get_terminal_size().columns > 0
