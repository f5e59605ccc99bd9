"""Reading a table: once for its columns' types, then as often as its rows are wanted."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Self

from shared.errors import InvalidRequest, NoUrlColumn
from shared.models import MAX_KEY, Metadata, Note
from shared.tables.cells import Cells, Convert, Keys, scalar_text
from shared.tables.columns import (
    KEY_COLUMN,
    Places,
    clean_name,
    find_column,
    find_url_column,
    is_index,
    metadata_names,
    shown,
)
from shared.tables.kinds import open_rows
from shared.tables.parquet import ParquetRows
from shared.tables.rows import Cell, Row, Rows
from shared.tables.survey import Survey, left_out_note, limit_notes, name_notes, row_notes, value_notes
from shared.validation import (
    MAX_METADATA,
    MAX_METADATA_BYTES,
    MAX_METADATA_LISTED,
    json_bytes,
    listed,
    whole_text,
)

_AS_JSON = " As JSON, a table is an array of objects, or an object a line (pandas: orient='records')."
_SAFE_CHARS = (
    MAX_METADATA_BYTES // 8
)  # a row of no more has metadata within the limit, with names and escapes


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Which column is what; names as the file has them. Without `columns` all are metadata.

    Those of `number_columns` hold numbers, however they are spelled.
    """

    url_column: str | None = None
    key_column: str | None = None
    columns: tuple[str, ...] = ()
    skip_columns: tuple[str, ...] = ()
    number_columns: tuple[str, ...] = ()

    def of(self, names: Sequence[str]) -> Self:
        """Return the options without the names that no column has."""
        places = Places(names)

        def known(wanted: Sequence[str]) -> tuple[str, ...]:
            return tuple(name for name in wanted if places.find(name) is not None)

        key = known((self.key_column,)) if self.key_column else ()
        return replace(
            self,
            key_column=key[0] if key else None,
            columns=known(self.columns),
            skip_columns=known(self.skip_columns),
            number_columns=known(self.number_columns),
        )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file: `use` is url, key, metadata or left_out; `type` text, number, boolean or list.

    Its `type` is None where no cell has a value that metadata can hold.
    """

    name: str
    metadata_name: str | None
    use: str
    type: str | None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as an item: `error` is "code: detail" where it cannot be one; `number` is its line or row."""

    url: str
    key: str | None
    metadata: Metadata
    error: str | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is made of the columns: `values` are place, name and conversion of those that are metadata."""

    url: int
    key: int | None
    keys: Keys
    values: list[tuple[int, str, Convert | None]]
    empty_is_missing: bool
    lists: bool  # whether those of a row may have more texts than metadata can


class Table:
    """A table that was read once: `kind` is csv, json, jsonl, parquet or list, `total` counts its rows.

    With `partial` it is only the start of a file, and all that is said is of that.
    """

    def __init__(self, rows: Rows, total: int, columns: list[Column], plan: _Plan, *, partial: bool) -> None:
        self.kind = rows.kind
        self.columns = columns
        self.notes: list[Note] = []
        self.total = total
        self.partial = partial
        self._rows = rows
        self._plan = plan

    def rows(self) -> Iterator[TableRow]:
        """Read the file again, row by row; one reading at a time."""
        return map(self._item, self._rows)

    def count_limited(self) -> Counter[str]:
        """Read large rows again; count the values of each name that they lose to metadata's limits."""
        large = (row for row in self._rows if self._plan.lists or row.size > _SAFE_CHARS)
        return Counter(name for row in large for name in _limit(self._metadata(row.cells)))

    def _item(self, row: Row) -> TableRow:
        number, cells, size, fault = row
        if fault is not None:
            return TableRow("", None, {}, self._error(number, fault), number)
        plan = self._plan
        cell = cells[plan.url] if plan.url < len(cells) else None
        url = (scalar_text(cell) or "").strip()
        if not url.isascii():
            url = clean_name(url)
        if not url:
            fault = "the URL is no text" if isinstance(cell, list | dict | bytes) else "the URL is empty"
        key = None
        if plan.key is not None and plan.key < len(cells) and (cell := cells[plan.key]) is not None:
            key = plan.keys.key(cell)
            if isinstance(cell, list | dict | bytes):
                fault = fault or "the key is no text"
            elif key is not None and len(key) > MAX_KEY:
                fault = fault or f"the key has {len(key):,} characters; at most {MAX_KEY} are allowed"
                key = None
        metadata = self._metadata(cells)
        if plan.lists or size > _SAFE_CHARS:
            _limit(metadata)
        error = None if fault is None else self._error(number, fault)
        return TableRow(whole_text(url), key, metadata, error, number)

    def _error(self, number: int, fault: str) -> str:
        return f"invalid_url: {self._rows.unit} {number} is malformed: {fault}."

    def _metadata(self, cells: list[Cell]) -> Metadata:
        metadata: dict[str, Any] = {}
        width, empty_is_missing = len(cells), self._plan.empty_is_missing
        for place, name, convert in self._plan.values:
            if place >= width:
                continue
            cell: Any = cells[place]
            if cell is None or (empty_is_missing and not cell):
                continue
            if convert is not None and (cell := convert(cell)) is None:
                continue
            metadata[name] = cell
        return metadata


def open_table(
    file: IO[bytes],
    options: TableOptions,
    *,
    name: str = "",
    media_type: str = "",
    partial: bool = False,
    most_columns: int = MAX_METADATA,
) -> Table:
    """Read a table once. Raises InvalidRequest (NoUrlColumn without one of URLs) or RequestTooLarge."""
    rows = open_rows(file, options.url_column, name=name, media_type=media_type, cut=partial)
    return read_table(rows, options, partial=partial, most_columns=most_columns)


def read_table(
    rows: Rows, options: TableOptions, *, partial: bool = False, most_columns: int = MAX_METADATA
) -> Table:
    """Read rows of any kind once; as open_table."""
    if rows.names:  # known before the first row is: no need to read all to refuse them
        find_url_column(rows.names, options.url_column)
        if isinstance(rows, ParquetRows):
            rows.unread = _unwanted(rows.names, options)
    survey = Survey(rows, options.url_column, options.key_column, options.number_columns)
    survey.read()
    names = [clean_name(whole_text(name)) for name in rows.names]
    cells = [*survey.cells, *(Cells(typed=rows.typed) for _ in names[len(survey.cells) :])]
    outer = ["" if place in rows.inner else name for place, name in enumerate(names)]
    try:
        url = find_url_column(outer, options.url_column)
    except NoUrlColumn as error:
        of_json = _AS_JSON if rows.kind == "jsonl" and survey.total == 1 else ""
        raise NoUrlColumn(error.detail + of_json, error.columns) from None
    if not survey.with_urls.get(url) and not partial:
        of_json = _AS_JSON if rows.kind in ("json", "jsonl") else ""
        raise InvalidRequest(f"The column `{shown(names[url])}` has no URL in any row.{of_json}").at(
            "/url_column"
        )
    if partial and rows.kind in ("json", "jsonl"):  # where the rest may have other columns
        options = options.of(names)
    if options.key_column:
        Places(outer).named("key_column", [options.key_column])
    Places(names).named("number_columns", options.number_columns)
    key = find_column(outer, options.key_column or KEY_COLUMN)
    if not options.key_column and key in Places(outer).named("skip_columns", options.skip_columns):
        key = None  # it would only have been taken for one by its name
    chosen, notes = _choose(names, cells, {url, key}, options, most_columns)
    others = {outer[place] for place in (url, key) if place is not None}
    stored = metadata_names(names, chosen, others, rows.inner)
    plan = _Plan(
        url,
        key,
        Keys() if key is None else survey.keys.get(key, Keys()),
        [(place, stored[place], cells[place].convert()) for place in chosen],
        empty_is_missing=not rows.typed,
        lists=sum(cells[place].most_listed for place in chosen) > MAX_METADATA_LISTED,
    )
    uses = {key: "key", url: "url"} | dict.fromkeys(chosen, "metadata")
    columns = [
        Column(name, stored.get(place), uses.get(place, "left_out"), cells[place].kind)
        for place, name in enumerate(names)
    ]
    table = Table(rows, survey.total, columns, plan, partial=partial)
    table.notes += name_notes(names, stored)
    table.notes += notes
    for place in chosen:
        table.notes += value_notes(names[place] or f"column {place + 1}", rows.unit, cells[place])
    table.notes += row_notes(rows, sum(cells[place].halves for place in chosen))
    if survey.largest > _SAFE_CHARS or plan.lists:
        table.notes += limit_notes(table.count_limited())
    return table


def column_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option, quoted as in CSV where they have commas."""
    try:
        cells = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:
        cells = [text]
    return tuple(name for cell in cells if (name := cell.strip()))


def _unwanted(names: list[str], options: TableOptions) -> set[int]:
    """Return the places of columns that the options leave out."""
    asked, skipped = _named(names, options)
    needed = (options.url_column, options.key_column or KEY_COLUMN)
    others = {find_column(names, name) for name in needed}
    return (skipped | (set(range(len(names))) - asked if asked else set())) - others


def _named(names: list[str], options: TableOptions) -> tuple[set[int], set[int]]:
    """Return the places of the columns that the options ask for, and that they skip."""
    places = Places(names)
    return places.named("columns", options.columns), places.named("skip_columns", options.skip_columns)


def _choose(
    names: list[str], cells: list[Cells], others: set[int | None], options: TableOptions, most: int
) -> tuple[list[int], list[Note]]:
    """Return the places of the columns that become metadata, and the notes about those that do not."""
    asked, skipped = _named(names, options)
    chosen: list[int] = []
    index: list[int] = []
    bare: list[int] = []
    beyond: list[int] = []
    for place, name in enumerate(names):
        if place in others or place in skipped or (asked and place not in asked):
            continue
        if cells[place].kind is None:
            if cells[place].left_out:
                bare.append(place)
        elif is_index(name) and place not in asked:
            index.append(place)
        elif len(chosen) < most:
            chosen.append(place)
        else:
            beyond.append(place)
    notes = [
        left_out_note([names[place] for place in places], reason)
        for places, reason in (
            (index, "the index of a data frame, or a column without a name"),
            (bare, "no cell of it can be metadata"),
            (beyond, f"an image has at most {most} values"),
        )
        if places
    ]
    return chosen, notes


def _limit(metadata: Metadata) -> list[str]:
    """Drop the largest values until the limits of metadata hold; return their names."""
    lost: list[str] = []
    while listed(metadata) > MAX_METADATA_LISTED:
        lists = {name: len(value) for name, value in metadata.items() if isinstance(value, list)}
        lost.append(max(lists, key=lists.__getitem__))
        del metadata[lost[-1]]
    sizes = {name: json_bytes({name: value}) - 1 for name, value in metadata.items()}  # each with a comma
    while sum(sizes.values()) + 1 > MAX_METADATA_BYTES:
        lost.append(max(sizes, key=sizes.__getitem__))
        del metadata[lost[-1]], sizes[lost[-1]]
    return lost
