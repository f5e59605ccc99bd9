"""Reading a table from bytes, for the tests."""

from io import BytesIO
from typing import Any

from shared.models import Metadata
from shared.tables.table import Table, TableOptions, open_table

HEAD = "url,name\n"
A, B, C = (f"https://example.com/{name}.jpg" for name in "abc")


def table(
    content: str | bytes, name: str = "", media_type: str = "", *, partial: bool = False, **options: Any
) -> Table:
    data = content.encode() if isinstance(content, str) else content
    return open_table(
        BytesIO(data), TableOptions(**options), name=name, media_type=media_type, partial=partial
    )


def column(*cells: str, **options: Any) -> list[Any]:
    """The values that a CSV's column of these cells has."""
    lines = [f"{A},{cell}" for cell in cells]
    return values(table("\n".join(["url,x", *lines]), **options), "x")


def values(read: Table, name: str) -> list[Any]:
    return [row.metadata.get(name) for row in read.rows()]


def metadata(read: Table) -> list[Metadata]:
    return [row.metadata for row in read.rows()]


def notes(read: Table) -> list[tuple[str, int]]:
    return [(note.code, note.count) for note in read.notes]
