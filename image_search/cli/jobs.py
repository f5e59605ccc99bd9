"""`image-search ingest`, and what watches, stops and repeats jobs."""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from image_search import Client, Unsent
from image_search._bodies import MAX_BATCH_FILES
from image_search._progress import pace, sending, showing
from image_search._sources import collect, typed
from image_search.cli.common import (
    client_command,
    collection_option,
    console_for,
    counted,
    day_and_time,
    job_argument,
    print_job_notes,
    print_json,
    status_text,
    table_of,
)
from image_search.cli.errors import as_options, printable
from image_search.cli.tables import preview, table_options
from image_search.models.error_codes import CAUSES
from image_search.models.images import Metadata
from image_search.models.jobs import JOB_STATUSES, Job

JOB_ID_CHARS = 24
MIN_WIDE_COLUMNS = 100
MAX_SHOWN_FAILURES = 20
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
BROKEN_OFF = "What had arrived by then may be a job of its own, whose body broke off: image-search jobs"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@collection_option(help="Collection to ingest into.  [default: images]")
@click.option("--metadata", "-m", multiple=True, metavar="NAME=VALUE", help="Metadata for every picture.")
@click.option(
    "--on-near-duplicate",
    type=click.Choice(["keep", "skip"]),
    help="Skip: leave out what is nearly a picture in the collection.  [default: keep]",
)
@click.option(
    "--since", metavar="JOB", help="Leave out what has not changed at its URL since this job; not for files."
)
@table_options
@click.option("--preview", "only_preview", is_flag=True, help="Show what the tables have, and make no job.")
@click.option("--name", help="What to call it where jobs are listed.  [default: the first source's name]")
@click.option("--wait/--no-wait", default=False, help="Follow the job to its end.")
@client_command
def ingest(
    client: Client,
    *,
    sources: tuple[str, ...],
    collection: str | None,
    metadata: tuple[str, ...],
    on_near_duplicate: str | None,
    since: str | None,
    only_preview: bool,
    name: str | None,
    wait: bool,
    as_json: bool,
    **of_tables: str | None,
) -> None:
    """Ingest pictures.

    A SOURCE is a picture or an archive of pictures, a folder, a URL, a table with a column of URLs (.csv,
    .tsv, .json, .jsonl, .parquet; the other columns become metadata), a .txt of URLs, or - for URLs on
    standard input.

    A key is your own name for a picture, such as a SKU: a new picture under it replaces the old one.

    With --wait the exit status is 0 if every picture was indexed, 3 if some failed. It is 3 also if some file
    could not be sent or was refused, and 1 if no job could be made.
    """
    given = metadata_of(metadata)
    collected = collect(sources)
    console = console_for(as_json)
    if collected.left_out:
        console.print(f"Left out: {collected.left_out}.")
    of_given = {option: value for option, value in of_tables.items() if value is not None}
    if only_preview:
        preview(client, collected.tables, console, of_given, as_json=as_json)
        return
    if len(collected.files) > MAX_BATCH_FILES:
        console.print(f"{len(collected.files):,} files make several jobs, of {MAX_BATCH_FILES:,} at most.")
    jobs: list[Job] = []

    def show(job: Job) -> None:
        jobs.append(job)
        console.print(f"Job {job.job_id}: {counted(job.total, 'picture')}")
        print_job_notes(console, job.notes)

    try:
        with sending(console, collected.size) as on_sent:
            client.ingest(
                collected,
                collection=collection,
                metadata=given,
                on_near_duplicate=on_near_duplicate,
                since=since,
                name=name,
                origin="command_line",
                on_job=show,
                on_sent=on_sent,
                **of_given,
            )
    except KeyboardInterrupt:
        console.print(BROKEN_OFF)
        raise
    finally:
        if collected.broken_off:
            console.print("The connection broke off, and all was sent again. " + BROKEN_OFF)
        if jobs or len(collected.unsent) > 1:  # else the error says it
            _describe_unsent(collected.unsent, console)
    if wait:
        jobs = [follow(client, job.job_id, console) for job in jobs]
    told = [{"path": str(one.path), "source": one.source, "detail": one.detail} for one in collected.unsent]
    print_jobs(client, jobs, console, as_json=as_json, followed=wait, unsent=told)


@click.command()
@job_argument
@click.option("--watch", is_flag=True, help="Follow the job to its end.")
@client_command
def status(client: Client, job_id: str, watch: bool, as_json: bool) -> None:
    """Show a job."""
    console = console_for(as_json)
    job = follow(client, job_id, console) if watch else client.job(job_id)
    if as_json:
        print_json(job)
    else:
        _describe(client, job, console)
        print_job_notes(console, job.notes)
    if watch:
        sys.exit(_exit_code([job]))


@click.command()
@click.option("--status", type=click.Choice(JOB_STATUSES), help="Only these.")
@collection_option(help="Only those of this collection.")
@click.option("--group", help="The jobs of one upload or command, each by itself.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@client_command
def jobs(
    client: Client,
    *,
    status: str | None,
    collection: str | None,
    group: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    Those of one upload or command are one, added up; --group shows each.
    """
    page = client.jobs(status, collection=collection, group=group, grouped=group is None, limit=limit)
    if as_json:
        print_json(page)
        return
    console = console_for()
    wide = console.width >= MIN_WIDE_COLUMNS  # else kind and time are below the id, and no word is folded
    headings = ("job", "kind", "status", "collection", "total", "done", "failed", "created (UTC)")
    table = table_of(*(headings if wide else (headings[0], *headings[2:-1])))
    table.columns[0].no_wrap = False  # a name is folded below the id, which stays whole
    table.columns[0].width = JOB_ID_CHARS
    for job in page.jobs:
        failed = job.counts.get("failed", 0)
        kind, created = [job.kind], [day_and_time(job.created_at)]
        table.add_row(
            _id_and_name(job, *(() if wide else kind + created)),
            *(kind if wide else ()),
            status_text(job.status),
            job.collection,
            f"{job.total:,}",
            f"{job.progress:.0%}",
            Text(f"{failed:,}", "red" if failed else ""),
            *(created if wide else ()),
        )
    console.print(table if page.jobs else "There are no jobs.")


@click.command()
@job_argument
@client_command
def cancel(client: Client, job_id: str, as_json: bool) -> None:
    """Stop a job; what is indexed already stays."""
    job = client.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        console_for().print(_line(job))


@click.command()
@job_argument
@client_command
def retry(client: Client, job_id: str, as_json: bool) -> None:
    """Take a finished job's failed pictures once more."""
    job = client.retry(job_id)
    if as_json:
        print_json(job)
        return
    console = console_for()
    console.print(_line(job))
    console.print(f"Watch it: image-search status {job_id} --watch")


client_commands: list[click.Command] = [ingest, status, jobs, cancel, retry]


def metadata_of(pairs: tuple[str, ...]) -> Metadata:
    parsed: Metadata = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise click.UsageError(f"--metadata {pair!r} is not NAME=VALUE")
        parsed[name] = typed(value)
    return parsed


def follow(client: Client, job_id: str, console: Console) -> Job:
    """Follow a job to its end, with a bar on a terminal and a line for each 10 % elsewhere."""
    try:
        with showing(console) as show:
            return client.wait(job_id, show)
    except KeyboardInterrupt:
        console.print(f"The job goes on. Watch it: image-search status {job_id} --watch")
        sys.exit(EXIT_INTERRUPTED)


def print_jobs(
    client: Client,
    jobs: Sequence[Job],
    console: Console,
    *,
    as_json: bool,
    followed: bool,
    unsent: Sequence[dict[str, str]] = (),
) -> None:
    """Print what was made or, after following it, what became of it; exit with the status of that."""
    if as_json:
        document = {"jobs": [job.model_dump(mode="json", exclude_unset=True) for job in jobs]}
        print_json(document | ({"unsent": [*unsent]} if unsent else {}))
    elif followed:
        for job in jobs:
            _describe(client, job, console)
    else:
        for job in jobs:
            console.print(f"Watch it: image-search status {job.job_id} --watch")
    if followed or unsent:
        sys.exit(EXIT_SOME_FAILED if unsent else _exit_code(jobs))


def _describe_unsent(unsent: Sequence[Unsent], console: Console) -> None:
    if not unsent:
        return
    console.print(Text(f"In no job: {counted(len(unsent), 'file')}", "bold"))
    table = table_of("file", "why")
    for one in unsent[:MAX_SHOWN_FAILURES]:
        table.add_row(printable(str(one.path)), as_options(one.detail))
    console.print(table)
    if len(unsent) > MAX_SHOWN_FAILURES:
        console.print(f"{len(unsent) - MAX_SHOWN_FAILURES:,} more: --json lists all")


def _describe(client: Client, job: Job, console: Console) -> None:
    cut = " The body broke off before its end." if job.truncated else ""
    done = f", {job.progress:.0%} of {job.total:,}.{cut} {_counts(job)}" if job.total else f".{cut}"
    console.print(Text.assemble(f"Job {job.job_id}: ", status_text(job.status), done))
    if detail := (job.result or {}).get("detail"):
        console.print(detail)
    if not job.finished and (rate := pace(job)):
        console.print(rate)
    if job.counts.get("failed"):
        _describe_failures(client, job, console)


def _describe_failures(client: Client, job: Job, console: Console) -> None:
    """Print what failed, what is worth retrying apart from the rest, and what to do about each code."""
    failed = job.counts["failed"]
    items = client.items(job.job_id, "failed", limit=MAX_SHOWN_FAILURES).items
    is_counted = sum(one.count for one in job.failures) == failed  # by a server of this version
    worth = sum(one.worth_retrying for one in job.failures)
    for title, retried, count in (("Worth retrying", True, worth), ("Permanent", False, failed - worth)):
        shown = [item for item in items if item.worth_retrying is retried]
        if not (count if is_counted else shown):
            continue
        console.print(Text(f"{title}: {count:,}" if is_counted else title, "bold"))
        table = table_of("item", "source", "code", "why")
        for item in shown:
            table.add_row(str(item.index), item.source, Text(item.code or "", "red"), item.detail)
        if shown:
            console.print(table)
    if failed > MAX_SHOWN_FAILURES:
        console.print(f"{failed - MAX_SHOWN_FAILURES:,} more: GET /v1/jobs/{job.job_id}/items?status=failed")
    for code in sorted({one.code for one in job.failures} | {item.code for item in items if item.code}):
        if known := CAUSES.get(code):
            console.print(Text.assemble((code, "red"), f": {known.cause} {known.next_step}"))
    if job.kind == "sync":
        console.print(f"The next sync tries them again: image-search sync {job.made_of}")
    elif job.finished and (worth or not is_counted):
        how_many = (
            f" ({worth:,} of {failed:,} {'is' if worth == 1 else 'are'} worth it)" if is_counted else ""
        )
        console.print(f"Try them again: image-search retry {job.job_id}{how_many}")


def _id_and_name(job: Job, *more: str) -> Text:
    """Return a job's id and, below it, its name, what it was made of and by, and how to see its parts."""
    made_of = None if job.made_of == job.name else job.made_of  # which a sync's are
    of = [(one or "").replace("_", " ") for one in (made_of, job.origin)]
    parts = f"{job.parts:,} jobs: --group {job.group}" if job.parts > 1 else ""
    about = ", ".join(filter(None, (*more, *of, parts)))
    lines = [Text(job.job_id), Text(printable(job.name or "")), Text(about, "dim")]
    return Text("\n").join(line for line in lines if line)


def _exit_code(jobs: Sequence[Job]) -> int:
    return 0 if all(job.status == "succeeded" for job in jobs) else EXIT_SOME_FAILED


def _counts(job: Job) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in job.counts.items() if count)


def _line(job: Job) -> Text:
    return Text.assemble(f"Job {job.job_id}: ", status_text(job.status), f". {_counts(job)}")
