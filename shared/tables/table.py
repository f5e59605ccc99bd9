"""Reading a table: once for its columns' types, then as often as its rows are wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from shared.models import Metadata, Note
from shared.validation import MAX_METADATA


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Which column is what; names as the file has them. Without `columns` all are metadata."""

    url_column: str | None = None
    key_column: str | None = None
    columns: tuple[str, ...] = ()
    skip_columns: tuple[str, ...] = ()


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
class Table:
    kind: str
    columns: list[Column]
    notes: list[Note]
    total: int
    partial: bool = False

    def rows(self) -> Iterator[TableRow]:
        """Read the file again, row by row."""
        raise NotImplementedError


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
    raise NotImplementedError


def column_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option, quoted as in CSV where they have commas."""
    raise NotImplementedError
