"""`image-search sync` and `sources`: what collections are kept in step with."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from rich.console import Console
from rich.text import Text

from image_search import ApiError, Client
from image_search.cli.common import (
    client_command,
    collection_option,
    complete_sources,
    console_for,
    day_and_time,
    print_job_notes,
    print_json,
    status_text,
    table_of,
)
from image_search.cli.jobs import EXIT_SOME_FAILED, follow, print_jobs
from image_search.cli.tables import table_options
from image_search.models.jobs import Job
from image_search.models.sources import Run, Source, SourcePage

MAX_NAME = 63
MAX_SHOWN = 20  # entries of a dry run
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
# What of a source's document is its definition, beside where it is.
_DEFINED = (
    *("collection", "every", "delete_missing", "max_delete_share", "refetch", "callback_url"),
    *("url_column", "key_column", "columns", "skip_columns", "number_columns"),
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that define a source."""
    for option in reversed(
        (
            click.option("--name", help="The source's name.  [default: the last part of its location]"),
            collection_option(help="Collection to keep in step.  [default: images]"),
            click.option(
                "--every", metavar="TIME", help="How often: 30m, 12h, 1d, at least 5m.  [default: only now]"
            ),
            click.option(
                "--delete-missing/--keep-missing",
                default=None,
                help="Whether what the listing has no longer goes.  [default: keep]",
            ),
            click.option(
                "--refetch",
                type=click.Choice(["changed", "always"]),
                help="Always: download also what has not changed.  [default: changed]",
            ),
            click.option("--callback-url", metavar="URL", help="Gets the final status of each sync."),
            table_options,
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", metavar="SOURCE", shell_complete=complete_sources)
@source_options
@click.option(
    "--max-delete-share",
    type=click.FloatRange(0, 1),
    help="Most of what is known that one sync may remove, 0 to 1; more, and it removes nothing.  "
    "[default: 0.2]",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would be added, changed, removed.")
@click.option("--wait/--no-wait", default=False, help="Follow the job to its end; a dry run always is.")
@client_command
def sync(
    client: Client,
    *,
    source: str,
    name: str | None,
    max_delete_share: float | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Keep a collection in step with a bucket, feed or folder.

    SOURCE is s3://bucket/prefix, the URL of a table or a sitemap, or file:///folder, one of the server's: it
    becomes a source of that --name, if it is none yet. Or SOURCE is the name of a source, which is synced as
    it was defined; --max-delete-share is for this sync then.

    With --wait the exit status is 0 if all is in step, 3 if some failed or removals were withheld; so it is
    of a dry run. It is 1 if no job could be made.
    """
    given = {option: value for option, value in options.items() if value is not None}
    console = console_for(as_json)
    if "://" in source:
        given |= {} if max_delete_share is None else {"max_delete_share": max_delete_share}
        found = _defined(client, source, name, given, console, dry_run=dry_run)
        job = client.sync(found.name, dry_run=dry_run)
    else:
        _check_is_name(source, {"name": name, **given})
        job = _synced_by_name(client, source, dry_run=dry_run, max_delete_share=max_delete_share)
    console.print(f"Job {job.job_id}: {'dry run' if dry_run else 'sync'} of {job.name or source}")
    if dry_run or wait:
        job = follow(client, job.job_id, console)
        print_job_notes(console, job.notes)
    if dry_run and (job.result or {}).get("counts"):
        _show_dry_run(job, console, as_json=as_json)
    else:
        print_jobs(client, [job], console, as_json=as_json, followed=dry_run or wait)


@click.group()
def sources() -> None:
    """List, show and delete what `sync` keeps in step with."""


@sources.command("list")
@client_command
def list_(client: Client, *, as_json: bool) -> None:
    """List the sources, with their last and next sync."""
    found = client.sources()
    if as_json:
        print_json(SourcePage(sources=found, next_cursor=None))
        return
    table = table_of("name", "from", "collection", "every", "last sync (UTC)", "what changed", "next (UTC)")
    for one in found:
        last = one.last_run
        table.add_row(
            one.name,
            one.from_,
            one.collection,
            one.every or "",
            Text("running", "cyan") if one.running_job else _ending(last) if last else "",
            _changes(last) if last else "",
            day_and_time(one.next_run_at or ""),
        )
    console_for().print(table if found else "There are no sources.")


@sources.command()
@click.argument("name", shell_complete=complete_sources)
@client_command
def show(client: Client, *, name: str, as_json: bool) -> None:
    """Show how NAME is defined, and its last syncs."""
    found = client.source(name)
    if as_json:
        print_json(found)
        return
    console = console_for()
    table = table_of("", "")
    table.show_header = False
    told = {"from": found.from_, **{option: getattr(found, option) for option in _DEFINED}}
    for option, value in told.items():
        if value not in (None, "", False):
            table.add_row(option.replace("_", " "), "yes" if value is True else f"{value}")
    if found.next_run_at:
        table.add_row("next sync", f"{day_and_time(found.next_run_at)} (UTC)")
    console.print(table)
    if found.running_job:
        console.print(f"A sync runs. Watch it: image-search status {found.running_job} --watch")
    runs = table_of("last syncs (UTC)", "status", "what changed", "job", "why")
    for run in found.runs or ():
        status = Text.assemble(status_text(run.status), " (dry run)" if run.dry_run else "")
        runs.add_row(day_and_time(run.started_at), status, _changes(run), run.job_id, run.detail)
    console.print(runs if found.runs else "It has not been synced yet.")


@sources.command()
@click.argument("name", shell_complete=complete_sources)
@click.option(
    "--images",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="Delete: what only this source has brought goes, too.",
)
@click.option("--yes", is_flag=True, help="Do not ask; nobody is asked where there is no terminal.")
@click.option("--wait/--no-wait", default=True, help="Follow the job that deletes.  [default: wait]")
@client_command
def delete(client: Client, *, name: str, images: str, yes: bool, wait: bool, as_json: bool) -> None:
    """Delete the source NAME; the pictures that it has brought stay, unless --images delete."""
    if not yes and sys.stdin.isatty():
        what = " with the pictures that only it has brought" if images == "delete" else ""
        click.confirm(f"Delete the source {name}{what}?", abort=True, err=as_json)
    job = client.delete_source(name, images="delete" if images == "delete" else "keep")
    console = console_for(as_json)
    if job is not None:
        console.print(f"Job {job.job_id}: {name} and its pictures")
        job = follow(client, job.job_id, console) if wait else job
        print_jobs(client, [job], console, as_json=as_json, followed=wait)
    elif as_json:
        print_json({"deleted": name})
    else:
        console.print(f"{name} is deleted.")


client_commands: list[click.Command] = [sync, sources]


def _defined(
    client: Client, location: str, name: str | None, given: dict[str, Any], console: Console, *, dry_run: bool
) -> Source:
    """Return the source of a location, made or changed to what is given; a dry run changes none."""
    named = name or _name_of(location)
    try:
        known = client.source(named)
    except ApiError as error:
        if error.code != "source_not_found":
            raise
        if dry_run and (every := given.pop("every", None)):
            console.print(f"{named} gets its schedule, every {every}, by its first sync.")
        return client.put_source(named, location, **given)
    defined = {option: getattr(known, option) for option in _DEFINED}
    changed = {option: value for option, value in given.items() if defined[option] != value}
    if dry_run and changed:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in changed)
        raise click.UsageError(
            f"{named} is defined with another {options}, and a dry run changes nothing: leave that out, or "
            "sync without --dry-run"
        )
    if not changed and known.from_ == location:
        return known
    wanted = {option: value for option, value in {**defined, **given}.items() if value is not None}
    try:
        return client.put_source(named, location, **wanted)
    except ApiError as error:
        if error.code != "source_exists" or name is not None:
            raise
        raise click.UsageError(f"{error.detail} --name says what to call it.") from None


def _name_of(location: str) -> str:
    """Derive a source's name: the last part of its location that has any letters or digits."""
    url = urlsplit(location)
    for part in (*reversed(unquote(url.path).split("/")), url.netloc.rpartition("@")[2]):
        if name := _NOT_OF_NAMES.sub("-", part)[:MAX_NAME].strip("._-"):
            return name
    raise click.UsageError(f"{location}: say with --name what to call this source")


def _check_is_name(source: str, given: dict[str, Any]) -> None:
    """Raise UsageError for what can be no source's name, and for options that define one."""
    if not _NAME.fullmatch(source):
        raise _no_source(source)
    if named := [f"--{option.replace('_', '-')}" for option, value in given.items() if value is not None]:
        raise click.UsageError(
            f"{source} is the name of a source, and {', '.join(named)} how one is defined: give its location "
            "(s3://, https://, file:///) instead of its name"
        )


def _synced_by_name(client: Client, name: str, **options: Any) -> Job:
    try:
        return client.sync(name, **options)
    except ApiError as error:
        if error.code == "source_not_found" and Path(name).exists():
            raise _no_source(name) from None
        raise


def _no_source(place: str) -> click.UsageError:
    path = Path(place.removeprefix("file:")).absolute()
    return click.UsageError(
        f"{place}: a folder has to be one of the server's, as {path.as_uri()}; `image-search ingest` sends "
        "what this machine has"
    )


def _show_dry_run(job: Job, console: Console, *, as_json: bool) -> None:
    """Print what a dry run has found; exit with 3 where removals would be withheld, or it has failed."""
    result = job.result or {}
    counts = result["counts"]
    if as_json:
        print_json(job)
    else:
        console.print(result["detail"])
        _show_entries(result, console)
    if job.status != "succeeded" or counts.get("withheld"):
        sys.exit(EXIT_SOME_FAILED)


def _show_entries(result: dict[str, Any], console: Console) -> None:
    withheld = result["counts"].get("withheld")
    words = {"removed": Text("withheld", "yellow") if withheld else Text("removed", "red"),
             "added": Text("added", "green"), "changed": Text("changed", "cyan")}  # fmt: skip
    entries = [(word, one) for what, word in words.items() for one in result.get(what, [])[:MAX_SHOWN]]
    if not entries:
        return
    table = table_of("", "key", "source")
    for word, one in entries:
        table.add_row(word, one.get("key") or "", one["source"])
    console.print(table)
    if any(len(result.get(what, [])) > MAX_SHOWN for what in words):
        console.print(f"The first {MAX_SHOWN} of each: --json lists 100.")


def _ending(run: Run) -> Text:
    what = " (dry run)" if run.dry_run else ""
    return Text.assemble(status_text(run.status), f" {day_and_time(run.finished_at)}{what}")


def _changes(run: Run) -> str:
    """Say what a run did: `5 indexed, 20 updated, 10 removed, 1,965 unchanged`, and what was withheld."""
    said = [f"{count:,} {state}" for state, count in run.counts.items() if count]
    return ", ".join(said + ([f"{run.withheld:,} withheld"] if run.withheld else []))
