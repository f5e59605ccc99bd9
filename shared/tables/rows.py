"""What a table's kinds have in common: rows of cells, read as often as one likes, and bounded."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

Cell = None | str | bool | int | float | list["Cell"] | dict[str, "Cell"] | bytes
MAX_ROWS = 5_000_000
MAX_ROW_CHARS = 2**20  # of a line, and of a row that goes over several
MAX_COLUMNS = 10_000


class Row(NamedTuple):
    """One row: its `cells` by the place of their column, fewer where the last ones are missing.

    `number` counts lines or rows, in the source's `unit`, from 1. `size` is at least the number of characters
    of all its texts, names of nested values included. `fault` says why the row cannot be used, as the end of
    a sentence ("not a JSON object"); its cells are then empty. Of bytes only the kind of the cell matters.
    """

    number: int
    cells: list[Cell]
    size: int
    fault: str | None = None


class Rows(Protocol):
    """A source of rows, the same for each kind of table.

    `names` are its columns as they appear, known when the first row is, or (JSON) growing while rows are
    read. `inner` has the places of columns that are metadata by their place, neither URL nor key. `typed` is
    False where each cell is text, whose type is a guess. What iterating counts starts again at 0 with each
    iteration: rows left out since they are empty (`skipped`), texts where what is no character became U+FFFD
    (`replaced`), cells without a column (`beyond`).
    """

    kind: str  # csv, json, jsonl, parquet, list
    unit: str  # Line, Row
    typed: bool
    names: list[str]
    inner: set[int]
    skipped: int
    beyond: int

    @property
    def replaced(self) -> int: ...

    def __iter__(self) -> Iterator[Row]:
        """Read the rows from the first on, none that is empty. Raises InvalidRequest, RequestTooLarge."""
        ...
