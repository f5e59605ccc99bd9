"""What goes into the routes of jobs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.request_models import MAX_ITEMS, METADATA_SCHEMA, BodyModel, Key, Metadata, QueryModel
from shared.index.near_duplicates import COSINE, HAMMING
from shared.models import DEFAULT_COLLECTION, ItemState, JobStatus

Collection = Annotated[
    str, Field(description="1 to 63 of letters, digits, `.`, `_`, `-`; the first and last a letter or digit")
]
_CALLBACK = (
    "gets the final status by POST: answer 2xx within 3 s; what is not taken is sent again, 8 times in all"
)
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

    url: str
    key: Key | None = None
    metadata: Metadata = None


OnNearDuplicate = Annotated[
    Literal["keep", "skip"],
    Field(
        description="`skip`: an item whose picture is a near-duplicate (cosine similarity at least "
        f"{COSINE}, Hamming distance of the perceptual hashes at most {HAMMING}) of one in the collection, "
        "or of an earlier item, ends as `duplicate` with that one's `image_id`, and adds nothing to it. "
        "[default: keep]"
    ),
]


class JobRequest(BodyModel):
    """Exactly one of `items` and `urls`."""

    model_config = ConfigDict(json_schema_extra={"examples": _JOB_EXAMPLES})

    items: list[ItemRequest] | None = Field(None, max_length=MAX_ITEMS)
    urls: list[str] | None = Field(None, max_length=MAX_ITEMS, description="short for items without metadata")
    collection: Collection | None = None
    callback_url: str | None = Field(None, max_length=2048, description=_CALLBACK)
    on_near_duplicate: OnNearDuplicate | None = None


class JobForm(BaseModel):
    """The parts of a multipart body (documentation only: the parts are read as a stream)."""

    files: list[Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]] = Field(
        description="pictures, or one zip, tar or tar.gz archive of pictures"
    )
    metadata: Annotated[
        Any, WithJsonSchema({"anyOf": [METADATA_SCHEMA, {"type": "array", "items": METADATA_SCHEMA}]})
    ] = Field({}, description="a JSON object for all pictures, or a list in the order of the files")
    keys: list[Key | None] = Field(
        [], description="JSON: a key, or null, for each picture in the order of the files (`key` of an item)"
    )
    collection: Collection = DEFAULT_COLLECTION
    callback_url: str | None = None
    on_near_duplicate: OnNearDuplicate = "keep"


class JobQuery(QueryModel):
    """Options of a streamed body; of another one where the body itself does not say."""

    collection: Collection | None = None
    callback_url: str | None = Field(None, max_length=2048, description=_CALLBACK)
    on_near_duplicate: OnNearDuplicate | None = None


class JobHeaders(BaseModel):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="repeats of this request within 24 h answer with the same job",
    )


class JobPath(BaseModel):
    job_id: str


class ItemsQuery(QueryModel):
    status: ItemState | None = None
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, pattern=r"^[0-9]{1,9}$", description="`next_cursor` of the page before")


class JobsQuery(QueryModel):
    status: JobStatus | None = None
    limit: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(
        None, pattern=r"^[0-9]{1,12}(\.[0-9]{1,20})?$", description="`next_cursor` of the page before"
    )
