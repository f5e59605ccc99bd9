"""`image-search search` and `duplicates`: the pictures, and in a terminal also to look at."""

import os
import sys

import click
from rich.text import Text

from image_search import Client
from image_search.cli.common import (
    client_command,
    collection_option,
    complete_jobs,
    console_for,
    counted,
    image_table,
    print_json,
    print_notes,
    values_text,
)
from image_search.cli.filters import FILTER_HELP, parse_filters


@click.command()
@click.argument("text", required=False)
@click.option("--image", "images", multiple=True, metavar="FILE_OR_URL", help="An example picture.")
@click.option("--not", "negative", multiple=True, metavar="TEXT", help="What the pictures should not show.")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help=FILTER_HELP)
@click.option("--job", metavar="JOB", help="Only what this job brought.", shell_complete=complete_jobs)
@click.option(
    "--facet", "facets", multiple=True, metavar="NAME", help="Count the values of a field or metadata name."
)
@click.option("--limit", type=click.IntRange(1, 500), default=10, show_default=True)
@collection_option(help="Collection to search.  [default: images]")
@click.option("--show/--no-show", default=None, help="Show the pictures.  [default: on a terminal]")
@client_command
def search(
    client: Client,
    *,
    text: str | None,
    images: tuple[str, ...],
    negative: tuple[str, ...],
    filters: tuple[str, ...],
    job: str | None,
    facets: tuple[str, ...],
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
        negative=negative,
        filters=parse_filters(filters) | ({} if job is None else {"job": job}),
        collection=collection,
        limit=limit,
        include=("metadata", "confidence"),
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
    rated = answer.results[0].strength is not None  # not in a collection of a few pictures
    if rated and all(hit.strength == "weak" for hit in answer.results):
        console.print("Nothing surely fits; the nearest are:")
    table, add = image_table(console, "#", "score", *["strength"] * rated)
    for number, hit in enumerate(answer.results, 1):
        add(f"{number}", f"{hit.score:.4f}", *[hit.strength] * rated, hit.id, hit.source)
    console.print(table)


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
