"""What goes into and comes out of the job routes."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.request_models import BodyModel, QueryModel
from shared.index.near_duplicates import COSINE, HAMMING
from shared.job_document import job_document
from shared.models import DEFAULT_COLLECTION, MAX_KEY, ItemResult, ItemState, Job, JobKind, JobStatus
from shared.validation import MAX_METADATA, METADATA_NAME

MAX_ITEMS = 100_000
MAX_ERRORS = 20
METADATA_VALUES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}},
]
_METADATA_SCHEMA = {
    "type": "object",
    "maxProperties": MAX_METADATA,
    "description": f"names match `{METADATA_NAME.pattern}` and are not those of built-in fields",
    "propertyNames": {"pattern": f"^{METADATA_NAME.pattern}$"},
    "additionalProperties": {"anyOf": METADATA_VALUES},
}
# Any: the values' own check is `metadata_faults`, whose pointers name the value and not a union's branch.
MetadataIn = Annotated[dict[str, Any] | None, WithJsonSchema({"anyOf": [_METADATA_SCHEMA, {"type": "null"}]})]
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY,
        description="the user's own name for the item, such as a SKU, unique in its collection",
    ),
]
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


class ItemIn(BodyModel):
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
    metadata: MetadataIn = None


OnNearDuplicate = Annotated[
    Literal["keep", "skip"],
    Field(
        description="`skip`: an item whose picture is a near-duplicate (cosine similarity at least "
        f"{COSINE}, Hamming distance of the perceptual hashes at most {HAMMING}) of one in the collection, "
        "or of an earlier item, ends as `duplicate` with that one's `image_id`, and adds nothing to it. "
        "[default: keep]"
    ),
]


class JobIn(BodyModel):
    """Exactly one of `items` and `urls`."""

    model_config = ConfigDict(json_schema_extra={"examples": _JOB_EXAMPLES})

    items: list[ItemIn] | None = Field(None, max_length=MAX_ITEMS)
    urls: list[str] | None = Field(None, max_length=MAX_ITEMS, description="short for items without metadata")
    collection: Collection | None = None
    callback_url: str | None = Field(None, max_length=2048, description=_CALLBACK)
    on_near_duplicate: OnNearDuplicate | None = None


class JobFormIn(BaseModel):
    """The parts of a multipart body (documentation only: the parts are read as a stream)."""

    files: list[Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]] = Field(
        description="pictures, or one zip, tar or tar.gz archive of pictures"
    )
    metadata: Annotated[
        Any, WithJsonSchema({"anyOf": [_METADATA_SCHEMA, {"type": "array", "items": _METADATA_SCHEMA}]})
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


class JobErrorOut(BaseModel):
    index: int
    source: str
    code: str
    detail: str


class JobOut(BaseModel):
    """A job. `counts` sums to `total`; `progress` is the finished share of it, in [0, 1].

    Whatever the `kind`, an item that is done is `indexed`: of an export, a picture that was written.
    """

    job_id: str
    kind: JobKind = JobKind.INGEST
    status: JobStatus
    collection: str
    total: int
    counts: dict[ItemState, int]
    progress: float
    rate_per_s: float | None
    eta_s: float | None
    truncated: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    errors: list[JobErrorOut]
    result: dict[str, Any] | None = Field(None, description="of a reindex: `switched` and a `detail`")

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls.model_validate(job_document(job))


class JobsOut(BaseModel):
    jobs: list[JobOut]
    next_cursor: str | None


class ItemOut(BaseModel):
    """One item of a job: `image_id` once it is indexed or duplicate, `code` and `detail` once it failed."""

    index: int
    source: str
    status: ItemState
    image_id: str | None = None
    code: str | None = None
    detail: str | None = None
    attempts: int = 0

    @classmethod
    def of(cls, index: int, state: ItemState, source: str, result: ItemResult | None) -> Self:
        # A result may be of an earlier generation (before a retry), so the state decides what of it holds.
        stored = state in (ItemState.INDEXED, ItemState.DUPLICATE)
        failed = state is ItemState.FAILED
        return cls(
            index=index,
            source=source,
            status=state,
            image_id=result.image_id if result and stored else None,
            code=result.code if result and failed else None,
            detail=result.detail if result and failed else None,
            attempts=result.attempts if result else 0,
        )


class ItemsOut(BaseModel):
    items: list[ItemOut]
    next_cursor: str | None
