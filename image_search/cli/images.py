"""`image-search delete`: pictures by their ids, keys or what filters match."""

import re
import sys

import click
from rich.console import Console

from image_search import Client, Deletion
from image_search._progress import counting
from image_search.cli.common import (
    client_command,
    collection_option,
    console_for,
    counted,
    print_json,
    print_notes,
    table_of,
)
from image_search.cli.filters import FILTER_HELP, parse_filters
from image_search.cli.jobs import EXIT_INTERRUPTED, EXIT_SOME_FAILED
from image_search.models.collections import DEFAULT_COLLECTION

MAX_SHOWN = 20
_ID = re.compile(r"[0-9a-f]{64}")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--key", "-k", "keys", multiple=True, metavar="KEY", help="Your own name for a picture.")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help=FILTER_HELP)
@click.option("--all", "everything", is_flag=True, help="Also where this is every picture of the collection.")
@collection_option(DEFAULT_COLLECTION)
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@client_command
def delete(
    client: Client,
    *,
    ids: tuple[str, ...],
    keys: tuple[str, ...],
    filters: tuple[str, ...],
    everything: bool,
    collection: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete pictures by ID, by --key or by --filter.

    An ID of - stands for the ids on standard input, one per line. A key goes, and its picture unless
    something else has brought that too.

    The exit status is 0 if none is left, also where it was gone before, 3 if some failed, 1 if nothing was
    tried.
    """
    if [bool(ids), bool(keys), bool(filters or everything)].count(True) != 1:
        raise click.UsageError("say which pictures: IDs, --key or --filter, one of the three")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError(
            "nobody can be asked here: add --yes, or --dry-run to see what would be deleted"
        )
    console = console_for(as_json)
    found = client.delete_images(
        _read(ids) or None,
        keys=keys or None,
        filters=None if ids or keys else parse_filters(filters),
        collection=collection,
        everything=everything or dry_run,
        dry_run=True,
    )
    count = len(found.deleted)
    what = counted(count, "key" if keys else "picture")
    if count and not as_json:
        _show(client, found.deleted, collection, console, are_keys=bool(keys))
    if filters and not count and not as_json:  # is a name unknown?
        print_notes(client.images(filters=parse_filters(filters), collection=collection, limit=1).warnings)
    if dry_run or not count:
        _print(found, collection, console, as_json=as_json, dry_run=dry_run)
        return
    if not yes:
        question = f"Delete {what} from the collection {collection}? This cannot be undone."
        click.confirm(question, abort=True, err=as_json)
    tried = 0

    def show(done: int) -> None:
        nonlocal tried
        tried = done
        tell(done)

    try:
        with counting(console, "Deleting", count) as tell:
            result = client.delete_images(
                None if keys else found.deleted,
                keys=found.deleted if keys else None,
                collection=collection,
                on_done=show,
            )
    except KeyboardInterrupt:
        console.print(f"Stopped after {tried:,} of {count:,}; the same command goes on.")
        sys.exit(EXIT_INTERRUPTED)
    result.gone.extend(found.gone)
    _print(result, collection, console, as_json=as_json, dry_run=False)
    if result.failed:
        sys.exit(EXIT_SOME_FAILED)


client_commands: list[click.Command] = [delete]


def _read(ids: tuple[str, ...]) -> list[str]:
    named = [one for given in ids for one in (sys.stdin.read().split() if given == "-" else [given])]
    for one in named:
        if not _ID.fullmatch(one):
            raise click.UsageError(f"{one!r} is no picture's id: that is 64 hexadecimal digits, copied whole")
    if ids and not named:
        raise click.UsageError("there is no id on standard input")
    return named


def _show(client: Client, names: list[str], collection: str, console: Console, *, are_keys: bool) -> None:
    """List the first of what is to be deleted."""
    first = names[:MAX_SHOWN]
    table = table_of("key", "id", "source") if are_keys else table_of("id", "source")
    if are_keys:
        for key in first:
            for image in client.images(key=key, collection=collection).images:
                table.add_row(key, image.id, image.source)
    else:
        named = {"id": {"in": first}, "nsfw": {"ne": -1}}  # also what NSFW_MAX hides
        for image in client.images(filters=named, collection=collection).images:
            table.add_row(image.id, image.source)
    console.print(table)
    if len(names) > MAX_SHOWN:
        console.print(f"and {len(names) - MAX_SHOWN:,} more")


def _print(result: Deletion, collection: str, console: Console, *, as_json: bool, dry_run: bool) -> None:
    failed = [
        {"id": name, "code": error.code, "detail": error.detail} for name, error in result.failed.items()
    ]
    if as_json:
        about = {"collection": collection, "dry_run": dry_run}
        print_json({**about, "deleted": result.deleted, "gone": result.gone, "failed": failed})
        return
    verb = "would be deleted" if dry_run else "deleted"
    gone = f", {len(result.gone):,} not there" if result.gone else ""
    console.print(f"{len(result.deleted):,} {verb}{gone}" + (f", {len(failed):,} failed." if failed else "."))
    if failed:
        table = table_of("id", "code", "why")
        for one in failed[:MAX_SHOWN]:
            table.add_row(one["id"], one["code"], one["detail"])
        console.print(table)
        console.print("Try them again: the same command.")
