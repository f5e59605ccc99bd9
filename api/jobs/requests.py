"""What goes into the routes of jobs."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, WithJsonSchema
from typing_extensions import TypeAliasType

from api.http.request_models import (
    MAX_ITEMS,
    BodyModel,
    CallbackUrl,
    CollectionName,
    Key,
    Metadata,
    QueryModel,
)
from image_search.models.jobs import JOB_ID
from shared.index.near_duplicates import COSINE, HAMMING
from shared.models import DEFAULT_COLLECTION, MAX_GROUP_JOBS, MAX_NAME, ItemState, JobStatus, Label

Collection = Annotated[
    str,
    Field(
        description="the collection: 1 to 63 of letters, digits, `.`, `_`, `-`; no punctuation at its ends",
        json_schema_extra={"example": "images"},
    ),
]
_JOB_EXAMPLES: list[Any] = [
    {
        "items": [{"url": "https://example.com/a.jpg", "key": "sku-1234", "metadata": {"shop": "north"}}],
        "on_near_duplicate": "skip",
    },
    {"urls": ["https://example.com/a.jpg", "https://example.com/b.jpg"], "collection": "cats"},
]


class ItemRequest(BodyModel):
    """One picture to fetch. A malformed `url` fails this item, not the request.

    A new picture under a `key` replaces the old one, which goes unless another key or an item without one has
    brought it too. Of two items with the same key the later one counts: of the later job, or further down in
    the same job, in whatever order they are worked on.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/a.jpg", "key": "sku-1234", "metadata": {"shop": "north"}}
            ]
        }
    )

    url: str = Field(description="http or https")
    key: Key | None = None
    metadata: Metadata | None = None


OnNearDuplicate = TypeAliasType(
    "OnNearDuplicate",
    Annotated[
        Literal["keep", "skip"],
        Field(
            description="`skip`: an item whose picture is a near-duplicate (cosine similarity at least "
            f"{COSINE}, Hamming distance of the perceptual hashes at most {HAMMING}) of one in the "
            "collection, or of an earlier item, ends as `duplicate` with that one's `image_id`, and adds "
            "nothing to it. [default: keep]"
        ),
    ],
)


Since = TypeAliasType(
    "Since",
    Annotated[
        str,
        Field(
            max_length=64,
            description="an earlier job of the same collection that has finished: a URL that stood there is "
            "asked with the ETag or Last-Modified that it had, and what has not changed ends as `unchanged`, "
            "without a download; for URLs, not for files",
            json_schema_extra={"example": JOB_ID},
        ),
    ],
)


class JobLabel(BaseModel):
    """What a job is called and where it comes from. It changes nothing that is done."""

    name: str | None = Field(
        None,
        max_length=MAX_NAME,
        description="what to call the job, for people: a folder, say; kept as one line, without credentials",
        json_schema_extra={"example": "holiday-2026"},
    )
    origin: Literal["page", "command_line", "client", "api"] | None = Field(
        None, description="what makes it  [default: api]", json_schema_extra={"example": "api"}
    )
    made_of: Literal["files", "folder", "archive", "list", "urls"] | None = Field(
        None, description="what it is made of", json_schema_extra={"example": "list"}
    )
    group: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="the same for the jobs of one upload, which are listed as one; "
        f"of at most {MAX_GROUP_JOBS:,} jobs",
        json_schema_extra={"example": "upload-7f3a"},
    )

    def over(self, others: Label) -> Label:
        """Return what this says, and `others` where it does not."""
        return replace(others, **self.model_dump(include={*JobLabel.model_fields}, exclude_none=True))


class TableQuery(BaseModel):
    """How a table is read. Names are as the table has them, several with commas between them."""

    url_column: str | None = Field(
        None,
        description="the column of the URLs  [default: `url`, in any case]",
        json_schema_extra={"example": "image_link"},
    )
    key_column: str | None = Field(
        None,
        description="the column of the keys  [default: `key`, in any case]",
        json_schema_extra={"example": "sku"},
    )
    columns: str | None = Field(
        None,
        description="only these become metadata, in this order",
        json_schema_extra={"example": "Product Name,price"},
    )
    skip_columns: str | None = Field(
        None, description="these become no metadata", json_schema_extra={"example": "internal_note"}
    )
    number_columns: str | None = Field(
        None,
        description="these hold numbers however they are spelled, as `19.90`, which else stays text; "
        "a cell that holds none is left out",
        json_schema_extra={"example": "price"},
    )
    preview: int | None = Field(
        None,
        ge=1,
        le=100,
        description="make no job, but say what the table's columns are, and this many of its first rows",
        json_schema_extra={"example": 20},
    )
    partial: bool = Field(
        False,
        description="the body is only the start of a text table, such as its first MiB, for a preview",
    )

    @property
    def given(self) -> list[str]:
        """Return the names of what was asked for."""
        return [name for name in TableQuery.model_fields if getattr(self, name) not in (None, False)]


class JobRequest(JobLabel, BodyModel):
    """Exactly one of `items` and `urls`."""

    model_config = ConfigDict(json_schema_extra={"examples": _JOB_EXAMPLES})

    items: list[ItemRequest] | None = Field(
        None, max_length=MAX_ITEMS, description="pictures to fetch, with keys and metadata"
    )
    urls: list[str] | None = Field(None, max_length=MAX_ITEMS, description="short for items without metadata")
    collection: Collection | None = None
    callback_url: CallbackUrl = None
    on_near_duplicate: OnNearDuplicate | None = None
    since: Since | None = None


class JobForm(JobLabel, TableQuery):
    """The parts of a multipart body: `files`, or one `table` with the options of tables."""

    # For the description only: the parts are read as a stream.
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "files": ["(bytes)", "(bytes)"],
                    "metadata": '{"shop": "north"}',
                    "keys": '["sku-1234", null]',
                    "collection": "cats",
                }
            ]
        }
    )

    files: list[Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]] = Field(
        [], description="pictures, or one zip, tar or tar.gz archive of pictures"
    )
    table: Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})] | None = Field(
        None, description="a table, or a list of one URL a line"
    )
    metadata: Json[Metadata | list[Metadata]] = Field(
        {},
        description="JSON: an object for all pictures, or, of `files`, a list in their order",
        json_schema_extra={"default": "{}"},
    )
    keys: Json[list[Key | None]] = Field(
        [],
        description="JSON: a key, or null, for each picture in the order of the files (`key` of an item)",
        json_schema_extra={"default": "[]"},
    )
    collection: Collection = DEFAULT_COLLECTION
    callback_url: CallbackUrl = None
    on_near_duplicate: OnNearDuplicate = "keep"
    since: Since | None = None


class JobQuery(JobLabel, TableQuery, QueryModel):
    """Options of a body that is a stream or a table; of another one where the body itself does not say."""

    collection: Collection | None = None
    callback_url: CallbackUrl = None
    on_near_duplicate: OnNearDuplicate | None = Field(
        None,
        description="`skip` leaves out pictures that are nearly one in the collection already",
        json_schema_extra={"example": "skip"},
    )
    since: str | None = Field(
        None,
        max_length=64,
        description="an earlier job of the same collection: what has not changed at its URL since is not "
        "downloaded, and ends as `unchanged`",
        json_schema_extra={"example": JOB_ID},
    )
    metadata: str | None = Field(
        None,
        description="a JSON object for all pictures, under what an item says itself",
        json_schema_extra={"example": '{"shop": "north"}'},
    )


class JobHeaders(BaseModel):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="repeats of this request within 24 h answer with the same job",
        json_schema_extra={"example": "nightly-2026-11-24"},
    )


class JobPath(BaseModel):
    job_id: str = Field(description="the job's id", json_schema_extra={"example": JOB_ID})


class ItemsQuery(QueryModel):
    status: ItemState | None = Field(
        None, description="only items in this state", json_schema_extra={"example": "failed"}
    )
    limit: int = Field(100, ge=1, le=1000, description="the most items in one answer")
    cursor: str | None = Field(
        None,
        pattern=r"^[0-9]{1,9}$",
        description="`next_cursor` of the page before",
        json_schema_extra={"example": "100"},
    )


class JobsQuery(QueryModel):
    status: JobStatus | None = Field(
        None, description="only jobs of this status", json_schema_extra={"example": "running"}
    )
    collection: CollectionName | None = Field(None, description="only jobs of this collection")
    group: str | None = Field(
        None, description="only the jobs of this group", json_schema_extra={"example": "upload-7f3a"}
    )
    grouped: bool = Field(
        False, description="the jobs of a group as one, added up, at the place of the newest"
    )
    limit: int = Field(50, ge=1, le=1000, description="the most jobs in one answer")
    cursor: str | None = Field(
        None,
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,20})?$",
        description="`next_cursor` of the page before",
        json_schema_extra={"example": "1764000000.25"},
    )
