"""What the API says of jobs and their items."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from image_search.models.images import IMAGE_ID
from image_search.models.times import Time

# What is known today: a server of a later version may say others, which are no errors.
JOB_KINDS = ("ingest", "export", "import", "reindex")
JOB_STATUSES = ("queued", "running", "succeeded", "partial", "failed", "cancelled")
ITEM_STATES = ("pending", "fetched", "indexed", "duplicate", "failed", "cancelled")

JobKind = TypeAliasType("JobKind", Annotated[str, Field(json_schema_extra={"enum": [*JOB_KINDS]})])
JobStatus = TypeAliasType("JobStatus", Annotated[str, Field(json_schema_extra={"enum": [*JOB_STATUSES]})])
ItemState = TypeAliasType("ItemState", Annotated[str, Field(json_schema_extra={"enum": [*ITEM_STATES]})])

MAX_ERRORS = 20
JOB_ID = "4f0c2b7d9e81a6c35b0f1d24"
JOB_EXAMPLE: dict[str, Any] = {
    "job_id": JOB_ID,
    "kind": "ingest",
    "status": "running",
    "collection": "images",
    "total": 1000,
    "counts": {"pending": 600, "fetched": 100, "indexed": 298, "duplicate": 1, "failed": 1, "cancelled": 0},
    "progress": 0.3,
    "rate_per_s": 24.5,
    "eta_s": 28.6,
    "truncated": False,
    "created_at": "2026-11-24T13:20:51.002Z",
    "started_at": "2026-11-24T13:20:51.310Z",
    "finished_at": None,
    "errors": [
        {
            "index": 17,
            "source": "https://example.com/gone.jpg",
            "code": "http_status",
            "detail": "The server answered 404.",
        }
    ],
}
_ITEM_EXAMPLE: dict[str, Any] = {
    "index": 0,
    "source": "https://example.com/a.jpg",
    "status": "indexed",
    "image_id": IMAGE_ID,
    "code": None,
    "detail": None,
    "attempts": 1,
}


class JobError(BaseModel):
    """Why an item of a job failed."""

    index: int = Field(description="the item's place in the job, from 0")
    source: str = Field(description="the item's URL or file")
    code: str = Field(description="stable, for programs; /docs/errors explains it")
    detail: str = Field(description="for people")


class Job(BaseModel):
    """A job. `counts` sums to `total`; `progress` is the finished share of it, in [0, 1].

    Whatever the `kind`, an item that is done is `indexed`: of an export, a picture that was written.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    job_id: str
    kind: JobKind = "ingest"
    status: JobStatus
    collection: str
    total: int = Field(description="items")
    counts: dict[ItemState, int] = Field(description="items in each state")
    progress: float
    rate_per_s: float | None = Field(description="items finished a second")
    eta_s: float | None = Field(description="seconds until it has finished, at that rate")
    truncated: bool = Field(description="whether the request's body broke off: the job is of what was read")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    errors: list[JobError] = Field(description=f"the first {MAX_ERRORS}")
    result: dict[str, Any] | None = Field(None, description="of a reindex: `switched` and a `detail`")

    @property
    def finished(self) -> bool:
        """Tell whether the job has ended; of a status that is not known here the times say so."""
        if self.status in JOB_STATUSES:
            return self.status not in ("queued", "running")
        return self.finished_at is not None


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"jobs": [JOB_EXAMPLE], "next_cursor": None}]})

    jobs: list[Job]
    next_cursor: str | None = Field(description="null on the last page")


class Item(BaseModel):
    """One item of a job: `image_id` once it is indexed or duplicate, `code` and `detail` once it failed."""

    index: int
    source: str
    status: ItemState
    image_id: str | None = None
    code: str | None = None
    detail: str | None = None
    attempts: int = Field(0, description="how often it was tried")


class ItemPage(BaseModel):
    """A page of a job's items, in order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_ITEM_EXAMPLE], "next_cursor": "1"}]}
    )

    items: list[Item]
    next_cursor: str | None = Field(description="null on the last page")
