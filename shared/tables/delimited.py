"""Rows that are lines: CSV and its kin, whose first line names the columns, and lists of URLs."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.rows import MAX_COLUMNS, MAX_ROW_CHARS, Row
from shared.tables.text import Text

csv.field_size_limit(MAX_ROW_CHARS)  # of the process; nothing else in it reads CSV
_DELIMITERS = ",;\t|"
_SEP_LINE = re.compile(r"\"?sep=(.)\"?[,;\t|]*[\r\n]", re.IGNORECASE)
_ESCAPE = "\\"
_NULL = r"\N"  # as databases write one
_MOST_BEFORE_HEAD = 10  # rows, such as a title


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are delimited; `blanks` if one follows each delimiter, `said` if a `sep=` line says so.

    `escapes` if a quote within quotes is one after a backslash. `before` counts the rows before the head.
    """

    delimiter: str
    blanks: bool = False
    said: bool = False
    escapes: bool = False
    before: int = 0
    head: tuple[str, ...] = ()

    def reader(self, lines: Iterable[str], *, strict: bool = False) -> Iterator[list[str]]:
        escape = _ESCAPE if self.escapes else None
        return csv.reader(
            lines, delimiter=self.delimiter, skipinitialspace=self.blanks, escapechar=escape, strict=strict
        )

    def first_rows(self, text: str) -> list[list[str]]:
        """Return the first rows with anything in them."""
        rows: list[list[str]] = []
        with suppress(csv.Error):
            found = (row for row in self.reader(StringIO(text, newline="")) if not _is_blank(row))
            rows.extend(islice(found, _MOST_BEFORE_HEAD + 1))
        return rows


def find_dialect(text: str, has_url: Callable[[list[str]], bool]) -> Dialect:
    """Return the dialect by which the head of a table has a column of URLs, or else the most columns."""
    if (found := _SEP_LINE.match(text)) and found[1] not in "\"'":
        return _dialect(found[1], text[found.end() :], has_url, said=True)
    dialects = [_dialect(delimiter, text, has_url) for delimiter in _DELIMITERS]
    best = max(dialects, key=lambda one: (has_url(list(one.head)), len(one.head)))
    # Of a single column nothing is delimited: commas are its URLs' own.
    return best if len(best.head) > 1 else _dialect("\t", text, has_url)


def _dialect(
    delimiter: str, text: str, has_url: Callable[[list[str]], bool], *, said: bool = False
) -> Dialect:
    dialect = Dialect(delimiter, said=said)
    rows = dialect.first_rows(text)
    before = _rows_before_head(rows, has_url)
    head = rows[before] if rows else []
    if len(head) > 1 and all(cell.startswith(" ") for cell in head[1:]):
        dialect = replace(dialect, blanks=True)
    if _escapes(dialect, text):
        dialect = replace(dialect, escapes=True)
    rows = dialect.first_rows(text)
    return replace(dialect, before=before, head=tuple(rows[before]) if len(rows) > before else ())


def _rows_before_head(rows: list[list[str]], has_url: Callable[[list[str]], bool]) -> int:
    """Return how many rows, each shorter than the head, stand before it: a title, when it was made."""
    if rows and not has_url(rows[0]):
        filled = [sum(map(bool, row)) for row in rows]
        for place in range(1, len(rows)):
            if has_url(rows[place]) and max(filled[:place]) < filled[place]:
                return place
    return 0


def _escapes(dialect: Dialect, text: str) -> bool:
    """Tell whether quotes are escaped, as MySQL and Spark do: the text is sound that way alone."""
    return (
        _ESCAPE + '"' in text
        and not _is_sound(dialect, text, whole=True)
        and _is_sound(replace(dialect, escapes=True), text, whole=False)
    )


def _is_sound(dialect: Dialect, text: str, *, whole: bool) -> bool:
    """Tell whether each quote closes a cell; without `whole` the text may end within one."""
    lines = iter(StringIO(text, newline=""))
    try:
        for _ in dialect.reader(lines, strict=True):
            pass
    except csv.Error:
        return not whole and next(lines, None) is None
    return True


def _is_blank(cells: list[str]) -> bool:
    return not any(cells) or (cells[0].isspace() and not "".join(cells).strip())


class DelimitedRows:
    """The rows of a CSV; their number is that of the line in which one begins."""

    kind = "csv"
    unit = "Line"
    typed = False

    def __init__(self, text: Text, dialect: Dialect, *, cut: bool = False) -> None:
        self._text = text
        self._dialect = dialect
        self._cut = cut
        self._null = re.compile(
            rf"(?<![^{re.escape(dialect.delimiter)}])\\N(?![^{re.escape(dialect.delimiter)}\r\n])"
        )
        self.inner: set[int] = set()
        self.skipped = self.beyond = 0
        filled = (cells for _, cells, *_ in self._records() if not _is_blank(cells))
        self.names: list[str] = next(islice(filled, dialect.before, None), [])
        if len(self.names) > MAX_COLUMNS:
            raise InvalidRequest(
                f"The table has {len(self.names):,} columns, more than {MAX_COLUMNS:,}: leave some out."
            )

    @property
    def replaced(self) -> int:
        return self._text.replaced

    def __iter__(self) -> Iterator[Row]:
        self.skipped = self.beyond = blank = 0
        width, started, before = len(self.names), False, self._dialect.before
        for number, cells, size, fault in self._records():
            if _is_blank(cells):
                if cells:
                    self.skipped += started
                else:  # counts once something comes after it
                    blank += started
                continue
            if not started:  # the head, or what stands before it
                self.skipped += before > 0
                started, before = not before, before - 1
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
            self._row.append(self._null.sub("", line) if _NULL in line else line)
            if self._within > MAX_ROW_CHARS:
                raise RequestTooLarge(
                    f"The row that begins in line {self._began:,} is longer than {MAX_ROW_CHARS:,} "
                    "characters: a quote in it is not closed, or it is no row of a table."
                )
            yield self._row[-1]
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
