"""What one reading of all rows shows: how many there are, and what is in each column."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from shared.errors import InvalidRequest, NoRows, RequestTooLarge
from shared.models import Note
from shared.tables.cells import NO_NUMBER, NUMBER, TEXT, Cells, Keys, scalar_text
from shared.tables.columns import KEY_COLUMN, URL_COLUMN, Places, find_column, name_list, shown
from shared.tables.rows import MAX_ROWS, Row, Rows
from shared.validation import MAX_METADATA_BYTES, MAX_METADATA_LISTED

_BATCH_ROWS = 1_024
_BATCH_CHARS = 2**21
_BATCH_CELLS, _MOST_PADDING = 2**16, 4  # how many of a batch may be missing: so many, and so many for each
_DECIMAL = re.compile(r"[+-]?[0-9]*\.[0-9]+")  # a price, more often than a code


class Survey:
    """`cells` are what the columns hold; `keys` and `with_urls` are of those that may be these two."""

    def __init__(
        self, rows: Rows, url_column: str | None, key_column: str | None, number_columns: Sequence[str] = ()
    ) -> None:
        self._rows = rows
        self._url_column = url_column or URL_COLUMN
        self._key_column = key_column or KEY_COLUMN
        self._number_columns = Places(number_columns)
        self.cells: list[Cells] = []
        self.keys: dict[int, Keys] = {}
        self.with_urls: dict[int, bool] = {}
        self.total = self.largest = self._faulty = 0
        self._first_fault = ""

    def read(self) -> None:
        """Read all rows. Raises InvalidRequest where none can be used, RequestTooLarge for too many."""
        for batch in _batches(self._rows):
            self._add(batch)
        if not self.total:
            raise NoRows("The table has no rows.")
        if self._faulty == self.total:
            raise InvalidRequest(f"No row of the table can be used: {self._first_fault}.")

    def _add(self, batch: list[Row]) -> None:
        self.total += len(batch)
        if self.total > MAX_ROWS:
            raise RequestTooLarge(f"The table has more than {MAX_ROWS:,} rows: send it in parts.")
        self.largest = max(self.largest, *(row.size for row in batch))
        sound = [row for row in batch if row.fault is None]
        if len(sound) < len(batch):
            self._faulty += len(batch) - len(sound)
            first = next(row for row in batch if row.fault is not None)
            self._first_fault = self._first_fault or f"{self._rows.unit} {first.number:,} is {first.fault}"
        numbers = [row.number for row in sound]
        for place, cells in enumerate(zip_longest(*(row.cells for row in sound))):
            if place == len(self.cells):
                self._add_column(place)
            self.cells[place].add(cells, numbers)
            if place in self.keys:
                self.keys[place].add(cells)
            if self.with_urls.get(place) is False:
                self.with_urls[place] = any((scalar_text(cell) or "").strip() for cell in cells)

    def _add_column(self, place: int) -> None:
        name = [self._rows.names[place]]
        as_numbers = self._number_columns.find(name[0]) is not None
        self.cells.append(Cells(typed=self._rows.typed, as_numbers=as_numbers))
        if place in self._rows.inner:
            return
        if find_column(name, self._key_column) is not None:
            self.keys[place] = Keys()
        if find_column(name, self._url_column) is not None:
            self.with_urls[place] = False


def _batches(rows: Rows) -> Iterator[list[Row]]:
    batch: list[Row] = []
    chars = cells = widest = 0
    for row in rows:
        width = len(row.cells)
        cells += width
        widest = max(widest, width)
        # A batch costs as if each row were as wide as the widest, so a wide one is not joined by many others.
        if batch and (len(batch) + 1) * widest > _MOST_PADDING * cells + _BATCH_CELLS:
            yield batch
            batch, chars, cells, widest = [], 0, width, width
        batch.append(row)
        chars += row.size
        if len(batch) >= _BATCH_ROWS or chars >= _BATCH_CHARS:
            yield batch
            batch, chars, cells, widest = [], 0, 0, 0
    if batch:
        yield batch


def name_notes(names: Sequence[str], stored: Mapping[int, str]) -> Iterator[Note]:
    for place, name in stored.items():
        if name != names[place]:
            yield Note("column_renamed", f"The column `{shown(names[place])}` is stored as `{name}`.", 1)


def left_out_note(names: Sequence[str], reason: str) -> Note:
    return Note("columns_left_out", f"Left out ({reason}): {name_list(names)}.", len(names))


def value_notes(name: str, unit: str, cells: Cells) -> Iterator[Note]:
    """Yield what changed of the values of a column of metadata, once for each reason."""
    kinds, column = cells.kinds, f"`{shown(name)}`"
    for reason, count in cells.left_out.items():
        if count and (cells.typed or cells.kind == NUMBER or reason == NO_NUMBER):
            yield Note("values_left_out", f"Values of {column} are left out: {reason}.", count)
    if cells.kind != TEXT:
        return
    for reason, count in cells.as_text.items():
        if count:
            yield Note("values_as_text", f"{column}: {reason}.", count)
    others = sum(kinds.values()) - kinds[TEXT] if cells.typed else kinds[NUMBER]
    spelled = not cells.typed and cells.first_text and _DECIMAL.fullmatch(str(cells.first_text[1]))
    if not (spelled or (others if cells.typed else others > kinds[TEXT])):
        return
    why = "its cells are of several kinds"
    if cells.first_text:
        number, cell = cells.first_text
        why = f"`{shown(scalar_text(cell) or 'a nested value')}` in {unit.lower()} {number:,} " + (
            "would not keep its spelling as a number (`number_columns` takes it for one)"
            if spelled
            else "is of another kind"
        )
    yield Note("values_as_text", f"{column} is text as a whole, since {why}.", others or kinds[TEXT])


def row_notes(rows: Rows, halves: int) -> Iterator[Note]:
    """Yield what the rows as a whole lost or changed."""
    if count := rows.replaced + halves:
        yield Note("text_replaced", "What is no character became U+FFFD.", count)
    if rows.beyond:
        yield Note(
            "values_left_out", "Cells beyond the columns that the table names are left out.", rows.beyond
        )
    if rows.skipped:
        yield Note(
            "rows_skipped",
            "Rows that are empty, or before the names of the columns, are skipped.",
            rows.skipped,
        )


def limit_notes(lost: Mapping[str, int]) -> Iterator[Note]:
    for name, count in lost.items():
        limits = f"{MAX_METADATA_BYTES:,} bytes or {MAX_METADATA_LISTED:,} texts in lists"
        yield Note(
            "values_left_out", f"Values of `{name}` are left out where a row has over {limits}.", count
        )
