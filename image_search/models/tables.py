"""What the API says of a table before a job is made of it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.images import Metadata
from image_search.models.jobs import Note

_EXAMPLE: dict[str, Any] = {
    "kind": "csv",
    "columns": [
        {"name": "URL", "metadata_name": None, "use": "url", "type": "text"},
        {"name": "Product Name", "metadata_name": "Product_Name", "use": "metadata", "type": "text"},
    ],
    "rows": [
        {
            "url": "https://example.com/a.jpg",
            "key": None,
            "metadata": {"Product_Name": "Boat"},
            "error": None,
        }
    ],
    "notes": [{"code": "column_renamed", "detail": "`Product Name` is `Product_Name`.", "count": 1}],
    "total": 1,
    "partial": False,
}


class TableColumn(BaseModel):
    """A column of a table."""

    name: str = Field(description="as the table has it")
    metadata_name: str | None = Field(description="the name that its values get; null: they are no metadata")
    use: str = Field(
        description="what it is taken for", json_schema_extra={"enum": ["url", "key", "metadata", "left_out"]}
    )
    type: str | None = Field(
        description="of its values: text as soon as one of them is; null where it has none",
        json_schema_extra={"enum": ["text", "number", "boolean", "list", None]},
    )


class TableRow(BaseModel):
    """A row of a table as the item that it becomes."""

    url: str
    key: str | None
    metadata: Metadata
    error: str | None = Field(description="why it fails, `code: detail`, where the row shows that already")


class TablePreview(BaseModel):
    """What a table has, and what becomes of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    kind: str = Field(
        description="the file's", json_schema_extra={"enum": ["csv", "json", "jsonl", "parquet", "list"]}
    )
    columns: list[TableColumn]
    rows: list[TableRow] = Field(description="the first")
    notes: list[Note] = Field(description="what is changed or left out")
    total: int = Field(description="rows; of a part of a table, those that it has")
    partial: bool = Field(description="whether this is only the start of a table: types are guesses then")
