"""Rows that are JSON objects: one a line, or the elements of an array, read one after the other."""

import json
import re
from collections.abc import Iterator
from typing import Any

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.columns import URL, URL_COLUMN
from shared.tables.rows import MAX_ROW_CHARS, Cell, Row
from shared.tables.text import Text

METADATA = "metadata"  # an object of this name is its members
_INK = re.compile(r"[^ \t\n\r]")
_LONGEST_WORD = 16  # characters before the end, where a fault may be only that the rest is not read yet
_LONG_INTEGER = 20  # digits and sign of one that may fit in 64 bits
_MOST_COLUMNS = 1_000  # each row is as wide as all together
_LONGEST_NAME = 1_000  # characters; a longer one is no column
_SHAPES = 1_000  # sets of names whose columns are kept in mind
_NESTED = "nested too deeply"


class _Reader:
    """JSON of which no number is too long to be read."""

    def __init__(self) -> None:
        self._fast = json.JSONDecoder()
        self._slow = json.JSONDecoder(
            parse_int=lambda text: int(text) if len(text) <= _LONG_INTEGER else text
        )

    def read(self, text: str, start: int = 0) -> tuple[Any, int]:
        """Return a value and where it ends. Raises JSONDecodeError, RecursionError."""
        try:
            return self._fast.raw_decode(text, start)
        except json.JSONDecodeError:
            raise
        except ValueError:  # an integer of more digits than Python reads
            return self._slow.raw_decode(text, start)


class _JsonRows:
    """What lines and arrays of objects share: their columns are found while they are read."""

    typed = True

    def __init__(self, text: Text, *, cut: bool = False) -> None:
        self._text = text
        self._cut = cut
        self._json = _Reader()
        self.names: list[str] = []
        self.inner: set[int] = set()
        self.skipped = self.beyond = 0
        self._places: dict[tuple[str, bool], int] = {}
        self._shapes: dict[tuple[str, ...], list[int]] = {}

    @property
    def replaced(self) -> int:
        return self._text.replaced

    def _row(self, number: int, value: Any, size: int) -> Row | None:
        """Return a value as a row, as a URL alone is; None, counted, of an object without anything in it."""
        if isinstance(value, str) and URL.match(value):
            value = {URL_COLUMN: value}
        if not isinstance(value, dict):
            return Row(number, [], size, "not a JSON object")
        nested = (
            value.pop(METADATA)
            if isinstance(value.get(METADATA), dict | None) and METADATA in value
            else None
        )
        cells: list[Cell] = [None] * len(self.names)
        for inner, members in ((False, value), (True, nested or {})):
            if not members:
                continue
            for place, cell in zip(self._columns(members, inner=inner), members.values(), strict=True):
                if place >= len(cells):
                    cells += [None] * (len(self.names) - len(cells))
                if place >= 0:
                    cells[place] = cell
                else:
                    self.beyond += 1
        if value or nested:
            return Row(number, cells, size)
        self.skipped += 1
        return None

    def _columns(self, members: dict[str, Any], *, inner: bool) -> list[int]:
        """Return the places of the columns of these names; -1 where there is none."""
        shape = (str(inner), *members)
        if (places := self._shapes.get(shape)) is None:
            places = [self._place(name, inner=inner) for name in members]
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            if -1 not in places:
                self._shapes[str(inner), *(self.names[place] for place in places)] = places
        return places

    def _place(self, name: str, *, inner: bool) -> int:
        place = self._places.get((name, inner))
        if place is None:
            if len(self.names) >= _MOST_COLUMNS or len(name) > _LONGEST_NAME:
                return -1
            place = self._places[name, inner] = len(self.names)
            self.names.append(name)
            if inner:
                self.inner.add(place)
        return place


class JsonLinesRows(_JsonRows):
    kind = "jsonl"
    unit = "Line"

    def __iter__(self) -> Iterator[Row]:
        self.skipped = self.beyond = blank = 0
        for line in self._text.lines():
            if line.isspace():
                blank += 1
                continue
            self.skipped += blank
            blank = 0
            if row := self._read(line):
                yield row

    def _read(self, line: str) -> Row | None:
        number, stripped = self._text.number, line.strip()
        try:
            value, end = self._json.read(stripped)
            fault = "" if end == len(stripped) else "not JSON: something comes after its end"
        except json.JSONDecodeError as error:
            fault = f"not JSON: {error.msg} at character {error.pos + 1:,}"
        except RecursionError:
            fault = _NESTED
        return Row(number, [], len(line), fault) if fault else self._row(number, value, len(line))


class JsonArrayRows(_JsonRows):
    """The elements of an array, of which a window is in memory."""

    kind = "json"
    unit = "Row"

    def __iter__(self) -> Iterator[Row]:
        self.skipped = self.beyond = number = 0
        self._pieces = self._text.pieces()
        self._window, self._at, self._ended = "", 0, False
        mark = self._next_mark()
        while mark in ("[", ","):
            self._at += 1
            if self._next_mark() == "]" and mark == "[":
                mark = "]"
                break
            number += 1
            element = self._element(number)
            if element is None:
                return
            if row := self._row(number, *element):
                yield row
            mark = self._next_mark()
        if mark != "]":
            if not mark and self._cut:
                return
            raise InvalidRequest(
                f"The array of the table is malformed after row {number:,}: `,` or `]` expected."
            )
        self._at += 1
        if self._next_mark():
            raise InvalidRequest(f"Something comes after the end of the array, behind row {number:,}.")

    def _element(self, number: int) -> tuple[Any, int] | None:
        """Return the value that begins here, and its length; None where it is cut."""
        while True:
            fault = ""
            try:
                value, end = self._json.read(self._window, self._at)
                # What goes to the end of the window may go on where it is a number or a word.
                if end < len(self._window) or self._ended or isinstance(value, dict):
                    size, self._at = end - self._at, end
                    return value, size
            except json.JSONDecodeError as error:
                fault = error.msg
                if error.pos < len(self._window) - _LONGEST_WORD and not fault.startswith("Unterminated"):
                    break
            except RecursionError:
                fault = _NESTED
                break
            if len(self._window) - self._at > MAX_ROW_CHARS:
                raise RequestTooLarge(
                    f"Row {number:,} of the array has more than {MAX_ROW_CHARS:,} characters: "
                    "it is no row of a table, or does not end."
                )
            if not self._fill() and fault:
                if self._cut:
                    return None
                if not self._window[self._at :].rstrip().endswith("]"):
                    fault = "it does not end"
                break
        raise InvalidRequest(f"Row {number:,} of the array is not JSON: {fault}.")

    def _next_mark(self) -> str:
        """Go to the next character that is not blank, and return it; "" at the end."""
        while True:
            if found := _INK.search(self._window, self._at):
                self._at = found.start()
                return found[0]
            self._at = len(self._window)
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Read on; return False at the end of the text."""
        piece = next(self._pieces, "")
        self._ended = not piece
        self._window, self._at = self._window[self._at :] + piece, 0
        return not self._ended
