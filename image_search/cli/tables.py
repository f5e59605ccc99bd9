"""How a table is read, said on the command line: the options of `ingest`, and what `--preview` shows."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from image_search import Client, InvalidSource, TablePreview
from image_search._bodies import LocalFile
from image_search._sources import shortened
from image_search.cli.common import counted, print_job_notes, print_json, table_of

_SHOWN_ROWS = 5
_SHOWN_CHARS = 60
_OPTIONS = (
    ("--url-column", "Column of a table that has the URLs.  [default: url, in any case]"),
    ("--key-column", "Column of a table that has the pictures' keys.  [default: key, in any case]"),
    ("--columns", "Columns of a table that become metadata, with commas between.  [default: all others]"),
    ("--skip-columns", "Columns of a table that do not become metadata."),
    ("--number-columns", "Columns of a table that hold numbers however they are spelled, as 19.90."),
)


def table_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, help in reversed(_OPTIONS):
        command = click.option(name, metavar="NAMES" if name.endswith("s") else "NAME", help=help)(command)
    return command


def preview(
    client: Client, tables: Sequence[LocalFile], console: Console, options: dict[str, Any], *, as_json: bool
) -> None:
    """Print what each table's columns become, its first rows and the notes. Raises InvalidSource for none."""
    if not tables:
        raise InvalidSource("--preview is for tables (.csv, .tsv, .json, .jsonl, .parquet) and lists of URLs")
    found = {str(table.path): client.preview_table(table.path, **options) for table in tables}
    if as_json:
        print_json({"tables": {path: one.model_dump(mode="json") for path, one in found.items()}})
        return
    for path, one in found.items():
        _show(path, one, console)


def _show(path: str, table: TablePreview, console: Console) -> None:
    rows = f"the first {counted(table.total, 'row')}" if table.partial else counted(table.total, "row")
    console.print(f"{path}: {table.kind}, {rows}", style="bold")
    if table.columns:
        columns = table_of("column", "becomes", "type")
        for column in table.columns:
            use = {"url": "the URL", "key": "the key", "left_out": "nothing"}.get(column.use, column.use)
            columns.add_row(column.name, column.metadata_name or Text(use, "dim"), column.type or "")
        console.print(columns)
    shown = table.rows[:_SHOWN_ROWS]
    keys = [row.key or "" for row in shown]
    firsts = table_of("url", *(["key"] if any(keys) else []), "metadata")
    for row, key in zip(shown, keys, strict=True):
        metadata = json.dumps(row.metadata, ensure_ascii=False) if row.metadata else ""
        told = Text(row.error, "red") if row.error else shortened(metadata, 3 * _SHOWN_CHARS)
        firsts.add_row(shortened(row.url, _SHOWN_CHARS), *([key] if any(keys) else []), told)
    if table.rows:
        console.print(firsts)
    print_job_notes(console, table.notes)
    if table.partial:
        console.print("This is of its first MiB: further rows may make a column of numbers one of text.")
