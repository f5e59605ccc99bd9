"""What the client's commands share: the server's options, completion, tables."""

import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from image_search import Client, ClientError
from image_search._client import URL
from image_search._sources import typed
from image_search.cli.errors import as_options, json_text, printable
from image_search.models.jobs import Note
from image_search.models.search import FacetCount

_OF_NAMES = re.compile(r"^/(filters|facets): ")
NUMBERS = frozenset(
    {"pictures", "vector", "total", "done", "failed", "bytes", "score", "item", "group", "size", "#"}
)
WHOLE = NUMBERS | {"job", "id", "code", "created (UTC)", "last syncs (UTC)", "next (UTC)"}  # never folded
STATUS_STYLES = {"succeeded": "green", "partial": "yellow", "failed": "red", "cancelled": "dim"}
_COUNTED = {"columns": "column", "values": "value", "text": "value", "rows": "row", "files": "file"}
_COMPLETION_SECONDS = 1.0
PIPE_COLUMNS = 200
MIN_WIDE_COLUMNS = 120


def client_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its client as first argument, and the options that say which."""

    @click.option("--url", envvar="IMAGE_SEARCH_URL", default=URL, show_default=True,
                  help="The server; also IMAGE_SEARCH_URL.")  # fmt: skip
    @click.option(
        "--api-key", envvar="IMAGE_SEARCH_API_KEY", help="Also IMAGE_SEARCH_API_KEY, which is safer."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(function)
    def command(url: str, api_key: str | None, **options: Any) -> None:
        with Client(url, api_key) as client:
            function(client, **options)

    return command


def collection_option(default: str | None = None, *, help: str | None = None) -> Callable[..., Any]:
    return click.option(
        "--collection",
        "-c",
        default=default,
        show_default=True,
        help=help,
        shell_complete=complete_collections,
    )


def job_argument(function: Callable[..., None]) -> Callable[..., None]:
    return click.argument("job_id", metavar="JOB", shell_complete=complete_jobs)(function)


def complete_collections(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = _asked(ctx, lambda client: client.collections())
    return [
        CompletionItem(one.name, help=counted(one.count, "picture"))
        for one in found
        if one.name.startswith(typed)
    ]


def complete_jobs(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = _asked(ctx, lambda client: client.jobs().jobs)
    return [
        CompletionItem(job.job_id, help=f"{job.status}, {job.collection}, {job.created_at}")
        for job in found
        if job.job_id.startswith(typed)
    ]


def complete_sources(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = _asked(ctx, lambda client: client.sources())
    return [CompletionItem(one.name, help=one.from_) for one in found if one.name.startswith(typed)]


def complete_models(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    found = _asked(ctx, lambda client: client.models())
    return [
        CompletionItem(one.name, help=f"{one.languages or one.kind or ''}, {one.state}".lstrip(", "))
        for one in found
        if one.name.startswith(typed)
    ]


def _asked(ctx: click.Context, ask: Callable[[Client], list[Any]]) -> list[Any]:
    """Ask the server; return nothing where it does not answer at once: who types must not wait."""
    url, api_key = ctx.params.get("url") or URL, ctx.params.get("api_key")
    try:
        with Client(url, api_key, timeout=_COMPLETION_SECONDS, retries=0) as client:
            return ask(client)
    except ClientError:
        return []


def print_json(document: BaseModel | dict[str, Any]) -> None:
    if isinstance(document, BaseModel):
        document = document.model_dump(mode="json", exclude_unset=True, by_alias=True)
    click.echo(json_text(document))


def _printable(cell: RenderableType | None) -> RenderableType | None:
    return "\n".join(map(printable, cell.split("\n"))) if isinstance(cell, str) else cell


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(_printable, objects), **options)


class _Table(Table):
    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*map(_printable, cells), **options)


def console_for(as_json: bool = False) -> Console:
    """Return where people read: standard output, or standard error where that is for JSON."""
    console = _Console(stderr=as_json, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS  # a table in a log or a pipe is not to be folded at 80
    return console


def table_of(*headings: str) -> Table:
    table = _Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=heading in WHOLE,
            justify="right" if heading in NUMBERS else "left",
        )
    return table


def image_table(console: Console, *headings: str) -> tuple[Table, Callable[..., None]]:
    """Make a table that ends with each image's id and source, and what adds a row to it.

    Where it is narrow the long id is under the source, so that the others are not folded to a few letters.
    """
    if console.width >= MIN_WIDE_COLUMNS:
        table = table_of(*headings, "id", "source")
        return table, table.add_row
    table = table_of(*headings, "picture")

    def add(*cells: RenderableType) -> None:
        *others, image_id, source = cells
        image = Text(printable(str(source))).append(f"\n{image_id}", "dim")
        table.add_row(*others, image)

    return table, add


def values_text(counts: Iterable[FacetCount]) -> str:
    """Return values as `--filter` takes them, with how many pictures have each: `north (61), "7" (2)`."""
    return ", ".join(f"{value_text(one.value)} ({one.count:,})" for one in counts)


def value_text(value: object) -> str:
    """Return a value as `--filter` takes it; of none nothing."""
    if value is None:
        return ""
    if isinstance(value, str) and typed(value) == value and value.strip() == value != "":
        return value
    return json.dumps(value, ensure_ascii=False)


def print_notes(warnings: Iterable[str] | None) -> None:
    """Print an answer's warnings to standard error, without a pointer whose name the sentence has."""
    for warning in warnings or ():
        console_for(as_json=True).print(f"Note: {_OF_NAMES.sub('', warning)}")


def print_job_notes(console: Console, notes: Iterable[Note]) -> None:
    """Print what was changed or left out of what a job is made of, with how much of it where that is open."""
    for note in notes:
        of_what = _COUNTED.get(note.code.partition("_")[0], "time")
        is_said = note.count == 1 or f"{note.count:,}" in note.detail
        how_many = "" if is_said else f" ({counted(note.count, of_what)})."
        detail = as_options(note.detail)
        console.print(f"Note: {detail if is_said else detail.removesuffix('.')}{how_many}")


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def day_and_time(rfc3339: str) -> str:
    return rfc3339[:16].replace("T", " ")


def status_text(status: str) -> Text:
    return Text(status, STATUS_STYLES.get(status, "cyan"))
