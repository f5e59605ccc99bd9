"""`image-search list`, `delete` and `update`: pictures by their ids, keys or what filters match."""

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import click
from rich.console import Console

from image_search import Client
from image_search.cli.common import (
    client_command,
    collection_option,
    console_for,
    counted,
    day_and_time,
    image_table,
    print_job_notes,
    print_json,
    print_notes,
    table_of,
)
from image_search.cli.filters import FILTER_HELP, parse_filters
from image_search.cli.jobs import follow, metadata_of, print_jobs
from image_search.models.collections import DEFAULT_COLLECTION
from image_search.models.jobs import Job

MAX_SHOWN = 20
_ID = re.compile(r"[0-9a-f]{64}")


def pictures_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which pictures, and how they are changed."""
    for option in reversed(
        (
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            click.option("--ids-file", type=click.File(), help="Ids too: a file of them, one a line."),
            click.option(
                "--key", "-k", "keys", multiple=True, metavar="KEY", help="Your own name for a picture."
            ),
            click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help=FILTER_HELP),
            click.option(
                "--all",
                "everything",
                is_flag=True,
                help="Also where this is every picture of the collection.",
            ),
            collection_option(DEFAULT_COLLECTION),
            click.option("--dry-run", is_flag=True, help="Change nothing; show what would be."),
            click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal."),
            click.option(
                "--wait/--no-wait", default=True, help="Follow the job to its end.  [default: wait]"
            ),
        )
    ):
        function = option(function)
    return function


@click.command("list")
@click.option("--newest", is_flag=True, help="Newest first.  [default: in the order of their ids]")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help=FILTER_HELP)
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--cursor", help="Go on behind a page: its next_cursor.")
@collection_option(help="Collection to list.  [default: images]")
@client_command
def list_(
    client: Client,
    *,
    newest: bool,
    filters: tuple[str, ...],
    limit: int,
    cursor: str | None,
    collection: str | None,
    as_json: bool,
) -> None:
    """List pictures, all or those that match --filter."""
    page = client.images(
        filters=parse_filters(filters) if filters else None,
        order_by="-created_at" if newest else None,
        collection=collection,
        limit=limit,
        cursor=cursor,
    )
    if as_json:
        print_json(page)
        return
    console = console_for()
    print_notes(page.warnings)
    if not page.images:
        console.print("Nothing found.")
        return
    table, add = image_table(console, "created (UTC)")
    for one in page.images:
        add(day_and_time(one.created_at) if one.created_at else "", one.id, one.source)
    console.print(table)
    if page.next_cursor:
        console.print(f"There are more: --cursor {page.next_cursor}")


@click.command()
@pictures_options
@client_command
def delete(client: Client, **options: Any) -> None:
    """Delete pictures by ID, by --key or by --filter, as one job.

    An ID of - stands for the ids on standard input, one per line. A key goes, and its picture unless
    something else has brought that too. What is ingested meanwhile stays.

    The exit status is 0 if none is left, also where it was gone before, 3 if some failed, 1 if nothing was
    tried.
    """
    _change(client, client.delete, "Delete", ("deleted", "not there"), **options)


@click.command()
@click.option("--metadata", "-m", multiple=True, metavar="NAME=VALUE", help="What to set.")
@click.option("--remove", "-r", multiple=True, metavar="NAME", help="A name to take away.")
@pictures_options
@client_command
def update(client: Client, metadata: tuple[str, ...], remove: tuple[str, ...], **options: Any) -> None:
    """Set metadata of pictures by ID, --key or --filter.

    An ID of - stands for the ids on standard input, one per line.

    The exit status is 0 if all are changed, or were not there, 3 if some failed, 1 if nothing was tried.
    """
    change = {**dict.fromkeys(remove), **metadata_of(metadata)}
    if not change:
        raise click.UsageError("say what to change: --metadata NAME=VALUE or --remove NAME")
    _change(client, partial(client.update, change), "Update", ("updated", "unchanged"), **options)


client_commands: list[click.Command] = [list_, delete, update]


def _change(
    client: Client,
    start: Callable[..., Job],
    verb: str,
    words: tuple[str, str],
    *,
    ids: tuple[str, ...],
    ids_file: TextIO | None,
    keys: tuple[str, ...],
    filters: tuple[str, ...],
    everything: bool,
    collection: str,
    dry_run: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
) -> None:
    if [bool(ids or ids_file), bool(keys), bool(filters or everything)].count(True) != 1:
        raise click.UsageError("say which pictures: IDs, --key or --filter, one of the three")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError(
            f"nobody can be asked here: add --yes, or --dry-run to see what would be {words[0]}"
        )
    of_filters = None if ids or ids_file or keys else parse_filters(filters)
    named = _read(ids, ids_file)
    which = {"keys": keys or None, "filters": of_filters, "everything": everything, "collection": collection}
    begin = partial(start, named or None, origin="command_line", **which)
    console = console_for(as_json)
    if dry_run or not yes:
        tried = client.wait(begin(dry_run=True).job_id)
        _show(client, tried, collection, console, as_json=as_json)
        counts = (tried.result or {}).get("counts", {})
        would = next((count for state, count in counts.items() if state in ("removed", "updated")), 0)
        if filters and not tried.total and not as_json:  # is a name unknown?
            print_notes(client.images(filters=of_filters, collection=collection, limit=1).warnings)
        if dry_run or not would:
            _say(tried, counts, words, console, would=would, as_json=as_json)
            return
        last = " This cannot be undone." if verb == "Delete" else ""
        question = (
            f"{verb} {counted(would, 'key' if keys else 'picture')} of the collection {collection}?{last}"
        )
        click.confirm(question, abort=True, err=as_json)
    job = begin()
    console.print(f"Job {job.job_id}: {counted(job.total, 'key' if keys else 'picture')}")
    print_job_notes(console, job.notes)
    if wait:
        job = follow(client, job.job_id, console)
    print_jobs(client, [job], console, as_json=as_json, followed=wait)


def _read(ids: tuple[str, ...], file: TextIO | None) -> list[str]:
    named = [one for given in ids for one in (sys.stdin.read().split() if given == "-" else [given])]
    named += file.read().split() if file else []
    for one in named:
        if not _ID.fullmatch(one):
            raise click.UsageError(f"{one!r} is no picture's id: that is 64 hexadecimal digits, copied whole")
    if (ids or file) and not named:
        raise click.UsageError("there is no id on standard input" if ids else "there is no id in the file")
    return named


def _show(client: Client, job: Job, collection: str, console: Console, *, as_json: bool) -> None:
    """List the first of what is to be changed."""
    ids = (job.result or {}).get("ids", [])[:MAX_SHOWN]
    if as_json or not ids:
        return
    table = table_of("id", "source")
    named = {"id": {"in": ids}, "nsfw": {"ne": -1}}  # also what NSFW_MAX hides
    for image in client.images(filters=named, collection=collection).images:
        table.add_row(image.id, image.source)
    console.print(table)


def _say(
    job: Job, counts: dict[str, int], words: tuple[str, str], console: Console, *, would: int, as_json: bool
) -> None:
    """Say what a dry run has found."""
    if as_json:
        print_json(job)
        return
    others = ((counts.get("unchanged", 0), words[1]), (counts.get("failed", 0), "would fail"))
    more = "".join(f", {count:,} {word}" for count, word in others if count)
    console.print(f"{would:,} would be {words[0]}{more}.")
