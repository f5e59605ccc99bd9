"""Rows that are lines: CSV and its kin, whose first line names the columns, and lists of URLs."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import StringIO

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.rows import MAX_COLUMNS, MAX_ROW_CHARS, Row
from shared.tables.text import Text

csv.field_size_limit(MAX_ROW_CHARS)  # of the process; nothing else in it reads CSV
_DELIMITERS = ",;\t|"
_SEP_LINE = re.compile(r"\"?sep=(.)\"?[,;\t|]*[\r\n]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are delimited; `blanks` if one follows each delimiter, `said` if a `sep=` line says so."""

    delimiter: str
    blanks: bool = False
    said: bool = False
    head: tuple[str, ...] = ()

    def reader(self, lines: Iterable[str], *, strict: bool = False) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.blanks, strict=strict)

    def first_row(self, text: str) -> list[str]:
        try:
            return next((row for row in self.reader(StringIO(text, newline="")) if any(row)), [])
        except csv.Error:
            return []


def find_dialect(text: str, has_url: Callable[[list[str]], bool]) -> Dialect:
    """Return the dialect by which the head of a table has a column of URLs, or else the most columns."""
    if (found := _SEP_LINE.match(text)) and found[1] not in "\"'":
        return _dialect(found[1], text[found.end() :], said=True)
    dialects = [_dialect(delimiter, text) for delimiter in _DELIMITERS]
    best = max(dialects, key=lambda one: (has_url(list(one.head)), len(one.head)))
    # Of a single column nothing is delimited: commas are its URLs' own.
    return best if len(best.head) > 1 else _dialect("\t", text)


def _dialect(delimiter: str, text: str, *, said: bool = False) -> Dialect:
    bare = Dialect(delimiter, said=said)
    head = bare.first_row(text)
    if len(head) > 1 and all(cell.startswith(" ") for cell in head[1:]):
        bare = Dialect(delimiter, blanks=True, said=said)
    return replace(bare, head=tuple(bare.first_row(text)))


class DelimitedRows:
    """The rows of a CSV; their number is that of the line in which one begins."""

    kind = "csv"
    unit = "Line"
    typed = False

    def __init__(self, text: Text, dialect: Dialect, *, cut: bool = False) -> None:
        self._text = text
        self._dialect = dialect
        self._cut = cut
        self.inner: set[int] = set()
        self.skipped = self.beyond = 0
        self.names: list[str] = next((cells for _, cells, *_ in self._records() if any(cells)), [])
        if len(self.names) > MAX_COLUMNS:
            raise InvalidRequest(
                f"The table has {len(self.names):,} columns, more than {MAX_COLUMNS:,}: leave some out."
            )

    @property
    def replaced(self) -> int:
        return self._text.replaced

    def __iter__(self) -> Iterator[Row]:
        self.skipped = self.beyond = blank = 0
        width, started = len(self.names), False
        for number, cells, size, fault in self._records():
            if not any(cells) or (cells[0].isspace() and not "".join(cells).strip()):
                if cells:
                    self.skipped += started
                else:  # counts once something comes after it
                    blank += started
                continue
            if not started:  # the head
                started = True
                continue
            self.skipped += blank
            blank = 0
            if fault is not None:
                yield Row(number, [], size, fault)
                continue
            if len(cells) > width:
                self.beyond += len(cells) - width - cells[width:].count("")
                del cells[width:]
            yield Row(number, cells, size)  # type: ignore[arg-type]

    def _records(self) -> Iterator[tuple[int, list[str], int, str | None]]:
        """Yield each row's line, cells, size and fault."""
        self._within = self._began = 0
        self._row: list[str] = []  # its lines
        self._unclosed = False
        try:
            for cells in self._dialect.reader(self._lines()):
                if self._unclosed:
                    break
                fault = None if len(self._row) == 1 else self._fault()
                size, self._within = self._within, 0
                self._row.clear()
                yield self._began, cells, size, fault
        except csv.Error as error:
            raise InvalidRequest(f"Line {self._began:,} of the table is malformed: {error}.") from None

    def _fault(self) -> str | None:
        """Return what is wrong with a row of several lines; they may be rows, joined by a quote like 12"."""
        try:
            list(self._dialect.reader(self._row, strict=True))
        except csv.Error:
            last = self._began + len(self._row) - 1
            return f"a quote that is not closed, or not doubled, joins it with the lines to {last:,}"
        return None

    def _lines(self) -> Iterator[str]:
        """Yield the lines, and watch how many the reader takes for one row."""
        lines = self._text.lines()
        if self._dialect.said:
            next(lines, None)
        for line in lines:
            if not self._within:
                self._began = self._text.number
            self._within += len(line)
            self._row.append(line)
            if self._within > MAX_ROW_CHARS:
                raise RequestTooLarge(
                    f"The row that begins in line {self._began:,} is longer than {MAX_ROW_CHARS:,} "
                    "characters: a quote in it is not closed, or it is no row of a table."
                )
            yield line
        if self._within:  # the reader still wants more
            self._unclosed = True
            if not self._cut:
                raise InvalidRequest(
                    f"The row that begins in line {self._began:,} does not end: a quote in it is not closed."
                )


class UrlListRows:
    """The lines of a list as rows of one column; empty ones and `#` comments are none."""

    kind = "list"
    unit = "Line"
    typed = False

    def __init__(self, text: Text) -> None:
        self._text = text
        self.names = ["url"]
        self.inner: set[int] = set()
        self.skipped = self.beyond = 0

    @property
    def replaced(self) -> int:
        return self._text.replaced

    def __iter__(self) -> Iterator[Row]:
        for line in self._text.lines():
            if (url := line.strip()) and not url.startswith("#"):
                yield Row(self._text.number, [url], len(line))
