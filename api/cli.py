"""The client commands of `image-search`. deploy/cli.py adds `client_commands` to its group."""

import functools
import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from api.client import BATCH_FILES, ApiError, Client
from api.job_schemas import JobOut
from api.sources import collect, typed
from shared.errors import ImageSearchError
from shared.models import DEFAULT_COLLECTION, ItemState, JobStatus, JsonObject, Metadata

SHOWN_FAILURES = 20
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
_OPERATORS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_FILTER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
_WIDE = 200


def _client_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command its client as first argument; what goes wrong is one line on stderr and exit 1."""

    @click.option("--url", envvar="IMAGE_SEARCH_URL", default="http://127.0.0.1:8000", show_default=True,
                  help="The server; also IMAGE_SEARCH_URL.")  # fmt: skip
    @click.option(
        "--api-key", envvar="IMAGE_SEARCH_API_KEY", help="Also IMAGE_SEARCH_API_KEY, which is safer."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(function)
    def command(url: str, api_key: str | None, **options: Any) -> None:
        try:
            with Client(url, api_key) as client:
                function(client, **options)
        except ApiError as error:
            faults = "; ".join(f"{fault['pointer']}: {fault['message']}" for fault in error.errors[:5])
            _fail(f"{error.detail} ({faults})" if faults else error.detail)
        except ImageSearchError as error:
            _fail(error.detail)
        except OSError as error:
            _fail(f"{error.filename or 'input'}: {error.strerror or error}")

    return command


def _fail(detail: str) -> NoReturn:
    click.echo(f"error: {' '.join(detail.split())}", err=True)
    sys.exit(1)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--collection", "-c", help="Collection to ingest into.  [default: images]")
@click.option("--metadata", "-m", multiple=True, metavar="NAME=VALUE", help="Metadata for every picture.")
@click.option(
    "--on-near-duplicate",
    type=click.Choice(["keep", "skip"]),
    help="Skip: leave out what is nearly a picture in the collection.  [default: keep]",
)
@click.option(
    "--key-column", metavar="NAME", help="Column of a table that has the pictures' keys.  [default: key]"
)
@click.option("--wait/--no-wait", default=False, help="Follow the job to its end.")
@_client_command
def ingest(
    client: Client,
    *,
    sources: tuple[str, ...],
    collection: str | None,
    metadata: tuple[str, ...],
    on_near_duplicate: str | None,
    key_column: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Bring pictures in.

    A SOURCE is a picture or an archive of pictures, a folder, a URL, a .txt of URLs, a .csv, .jsonl or
    .parquet with a url column (the other columns become metadata), or - for URLs on standard input.

    A key is your own name for a picture, such as a SKU: a new picture under it replaces the old one.

    With --wait the exit status is 0 if every picture was indexed, 3 if some failed. It is 1 if the job could
    not be made.
    """
    given = _metadata(metadata)
    collected = collect(sources, key_column)
    collected.check()
    console = _console(as_json)
    if collected.skipped:
        console.print(f"Skipping {collected.skipped:,} files that are no pictures by their names.")
    if len(collected.files) > BATCH_FILES:
        console.print(f"{len(collected.files):,} files make several jobs, of {BATCH_FILES:,} at most.")
    jobs: list[JobOut] = []
    with console.status("Sending...") if console.is_terminal else nullcontext():
        options = {"collection": collection, "on_near_duplicate": on_near_duplicate}
        for job in client.ingest_files(collected.files, metadata=given, **options):
            jobs.append(job)
            console.print(f"Job {job.job_id}: {job.total:,} files")
        if collected.has_urls:
            jobs.append(client.ingest_urls(collected.items(given), **options))
            console.print(f"Job {jobs[-1].job_id}: {jobs[-1].total:,} URLs")
    if wait:
        jobs = [_watch(client, job.job_id, console) for job in jobs]
    _print_jobs(client, jobs, console, as_json=as_json, followed=wait)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--watch", is_flag=True, help="Follow the job to its end.")
@_client_command
def status(client: Client, job_id: str, watch: bool, as_json: bool) -> None:
    """Show a job."""
    console = _console(as_json)
    job = _watch(client, job_id, console) if watch else client.job(job_id)
    if as_json:
        click.echo(job.model_dump_json())
    else:
        _describe(client, job, console)
    if watch:
        sys.exit(_exit_code([job]))


@click.command()
@click.option("--status", type=click.Choice([str(status) for status in JobStatus]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_client_command
def jobs(client: Client, status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    page = client.jobs(JobStatus(status) if status else None, limit=limit)
    if as_json:
        click.echo(page.model_dump_json())
        return
    table = _table("job", "status", "collection", "total", "done", "failed", "created")
    for job in page.jobs:
        failed = f"{job.counts[ItemState.FAILED]:,}"
        done = f"{job.progress:.0%}"
        table.add_row(job.job_id, job.status, job.collection, f"{job.total:,}", done, failed, job.created_at)
    _console().print(table)


@click.command()
@click.argument("job_id", metavar="JOB")
@_client_command
def cancel(client: Client, job_id: str, as_json: bool) -> None:
    """Stop a job; what is indexed already stays."""
    job = client.cancel(job_id)
    click.echo(job.model_dump_json() if as_json else f"Job {job.job_id}: {job.status}. {_counts(job)}")


@click.command()
@click.argument("job_id", metavar="JOB")
@_client_command
def retry(client: Client, job_id: str, as_json: bool) -> None:
    """Take a finished job's failed pictures once more."""
    job = client.retry(job_id)
    if as_json:
        click.echo(job.model_dump_json())
    else:
        click.echo(
            f"Job {job.job_id}: {job.status}. {_counts(job)}\nWatch it: image-search status {job_id} --watch"
        )


@click.command()
@click.argument("text", required=False)
@click.option("--image", "images", multiple=True, metavar="FILE_OR_URL", help="An example picture.")
@click.option("--not", "negative", multiple=True, metavar="TEXT", help="What the pictures should not show.")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help="Also !=, <, <=, >, >=.")
@click.option("--limit", type=click.IntRange(1, 500), default=10, show_default=True)
@click.option("--collection", "-c", help="Collection to search.  [default: images]")
@_client_command
def search(
    client: Client,
    *,
    text: str | None,
    images: tuple[str, ...],
    negative: tuple[str, ...],
    filters: tuple[str, ...],
    limit: int,
    collection: str | None,
    as_json: bool,
) -> None:
    """Find pictures by TEXT, by example pictures, or both."""
    urls = [image for image in images if "://" in image]
    query: JsonObject = {
        "text": text,
        "positive": [{"image_url": url} for url in urls],
        "negative": [{"text": unwanted} for unwanted in negative],
        "filters": _filters(filters),
        "collection": collection,
        "limit": limit,
    }
    files = [Path(image) for image in images if "://" not in image]
    answer = client.search({name: value for name, value in query.items() if value}, files)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    table = _table("score", "id", "source")
    for hit in answer["results"]:
        table.add_row(f"{hit['score']:.4f}", hit["id"], hit["source"])
    _console().print(table if answer["results"] else "Nothing found.")


@click.command()
@click.option("--collection", "-c", help="Collection to look through.  [default: images]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Least cosine similarity.  [default: 0.95]",
)
@click.option(
    "--max-distance", type=click.IntRange(0, 32), help="Most bits in which the hashes differ.  [default: 8]"
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Groups to show.")
@_client_command
def duplicates(
    client: Client,
    *,
    collection: str | None,
    threshold: float | None,
    max_distance: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show groups of near-duplicates; the first of each is the one to keep."""
    options = {"collection": collection, "threshold": threshold, "max_distance": max_distance}
    answer = client.duplicates(options, limit)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    table = _table("group", "", "id", "size", "bytes", "score", "source")
    for number, group in enumerate(answer["groups"], 1):
        for one in group["images"]:
            mark = "keep" if one["id"] == group["keeper"] else ""
            size = f"{one['width']}x{one['height']}"
            row = (
                str(number),
                mark,
                one["id"],
                size,
                f"{one['bytes']:,}",
                f"{one['score']:.4f}",
                one["source"],
            )
            table.add_row(*row)
    console = _console()
    console.print(table if answer["groups"] else "No near-duplicates.")
    if answer["total"] > len(answer["groups"]):
        console.print(f"{answer['total'] - len(answer['groups']):,} more groups: --limit")
    if answer["not_compared"]:
        console.print(f"{answer['not_compared']:,} pictures have no perceptual hash and were not compared.")


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--collection", "-c", default=DEFAULT_COLLECTION, show_default=True)
@click.option("--include", multiple=True, type=click.Choice(["thumbnail", "rendition"]), help="Pictures too.")
@_client_command
def export_(
    client: Client, *, folder: Path, collection: str, include: tuple[str, ...], as_json: bool
) -> None:
    """Write a collection to DIR/COLLECTION.parquet.

    The exit status is 0 if every picture was written, 3 if some failed, 1 if the job could not be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    console = _console(as_json)
    job = _watch(client, client.export(collection, include).job_id, console)
    if job.counts[ItemState.INDEXED]:
        path = folder / f"{collection}.parquet"
        client.download_export(job.job_id, path)
        console.print(f"{path}: {job.counts[ItemState.INDEXED]:,} pictures")
    _print_jobs(client, [job], console, as_json=as_json, followed=True)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="DIR")
@click.option("--collection", "-c", help="Collection to import into.  [default: the file's name]")
@_client_command
def import_(client: Client, *, source: Path, collection: str | None, as_json: bool) -> None:
    """Bring in what `export` wrote: every .parquet file of DIR, or one file.

    The exit status is 0 if every row was taken, 3 if some failed, 1 if a file was refused.
    """
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise click.UsageError(f"{source} has no .parquet file")
    console = _console(as_json)
    jobs = [client.import_file(path, collection or path.stem) for path in files]
    jobs = [_watch(client, job.job_id, console) for job in jobs]
    _print_jobs(client, jobs, console, as_json=as_json, followed=True)


@click.command()
@click.option("--model", required=True, metavar="M", help="Hugging Face id, folder, or `starter`.")
@click.option("--collection", "-c", default=DEFAULT_COLLECTION, show_default=True)
@click.option("--allow-missing", is_flag=True, help="Leave out pictures that cannot be encoded again.")
@_client_command
def reindex(client: Client, *, model: str, collection: str, allow_missing: bool, as_json: bool) -> None:
    """Encode a collection again with another model, and switch it to that.

    The exit status is 0 after the switch, 3 if some pictures failed or there was none.
    """
    console = _console(as_json)
    job = _watch(client, client.reindex(collection, model, allow_missing=allow_missing).job_id, console)
    if job.result:
        console.print(job.result["detail"])
    _print_jobs(client, [job], console, as_json=as_json, followed=True)


client_commands: list[click.Command] = [
    ingest, search, duplicates, status, jobs, cancel, retry, export_, import_, reindex,
]  # fmt: skip


def _metadata(pairs: tuple[str, ...]) -> Metadata:
    parsed: Metadata = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise click.UsageError(f"--metadata {pair!r} is not NAME=VALUE")
        parsed[name] = typed(value)
    return parsed


def _filters(conditions: tuple[str, ...]) -> dict[str, JsonObject]:
    """`width>=100 width<500` as {"width": {"gte": 100, "lt": 500}}."""
    parsed: dict[str, JsonObject] = {}
    for condition in conditions:
        match = _FILTER.fullmatch(condition.strip())
        if match is None:
            raise click.UsageError(f"--filter {condition!r} is not NAME=VALUE (or !=, <, <=, >, >=)")
        name, operator, value = match.groups()
        parsed.setdefault(name, {})[_OPERATORS[operator]] = typed(value.strip())
    return parsed


def _watch(client: Client, job_id: str, console: Console) -> JobOut:
    """Follows a job to its end, with a bar on a terminal and a line for each 10 % elsewhere."""
    try:
        if not console.is_terminal:
            return client.wait(job_id, _LinePrinter(console))
        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
        )  # fmt: skip
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"Job {job_id[:8]}", total=None, pace="")

            def show(job: JobOut) -> None:
                bar.update(task, total=job.total, completed=_done(job), pace=_pace(job))

            return client.wait(job_id, show)
    except KeyboardInterrupt:
        console.print(f"The job goes on. Watch it: image-search status {job_id} --watch")
        sys.exit(EXIT_INTERRUPTED)


class _LinePrinter:
    """Prints a line whenever a job has come another tenth of its way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1

    def __call__(self, job: JobOut) -> None:
        tenth = int(job.progress * 10)
        if tenth > self._shown:
            self._shown = tenth
            line = f"Job {job.job_id}: {tenth * 10:3d} % ({_done(job):,} of {job.total:,}) {_pace(job)}"
            self._console.print(line.rstrip())


def _print_jobs(
    client: Client, jobs: list[JobOut], console: Console, *, as_json: bool, followed: bool
) -> None:
    """The end of `ingest`: what was made, or after waiting what became of it, and the exit status."""
    if as_json:
        click.echo(json.dumps({"jobs": [job.model_dump(mode="json") for job in jobs]}, ensure_ascii=False))
    elif followed:
        for job in jobs:
            _describe(client, job, console)
    else:
        for job in jobs:
            console.print(f"Watch it: image-search status {job.job_id} --watch")
    if followed:
        sys.exit(_exit_code(jobs))


def _describe(client: Client, job: JobOut, console: Console) -> None:
    cut = " The body broke off before its end." if job.truncated else ""
    console.print(f"Job {job.job_id}: {job.status}, {job.progress:.0%} of {job.total:,}.{cut} {_counts(job)}")
    if not job.status.finished and (pace := _pace(job)):
        console.print(pace)
    failed = job.counts[ItemState.FAILED]
    if not failed:
        return
    table = _table("item", "source", "code", "why")
    for item in client.items(job.job_id, ItemState.FAILED, limit=SHOWN_FAILURES).items:
        table.add_row(str(item.index), item.source, item.code, item.detail)
    console.print(table)
    if failed > SHOWN_FAILURES:
        console.print(f"{failed - SHOWN_FAILURES:,} more: GET /v1/jobs/{job.job_id}/items?status=failed")
    if job.status.finished:
        console.print(f"Try them again: image-search retry {job.job_id}")


def _exit_code(jobs: list[JobOut]) -> int:
    return 0 if all(job.status is JobStatus.SUCCEEDED for job in jobs) else EXIT_SOME_FAILED


def _done(job: JobOut) -> int:
    return job.total - job.counts[ItemState.PENDING] - job.counts[ItemState.FETCHED]


def _pace(job: JobOut) -> str:
    rate = f"{job.rate_per_s:.1f}/s" if job.rate_per_s else ""
    if job.eta_s is None or job.status.finished:
        return rate
    minutes, seconds = divmod(round(job.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate}, {hours}:{minutes:02d}:{seconds:02d} left"


def _counts(job: JobOut) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in job.counts.items() if count)


def _console(as_json: bool = False) -> Console:
    """Where people read: standard output, or standard error where that is for JSON."""
    console = Console(stderr=as_json, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDE  # a table in a log or a pipe is not to be folded at 80
    return console


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("job", "id"))
    return table
