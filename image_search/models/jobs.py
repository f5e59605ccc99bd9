"""What the API says of jobs and their items."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

# What is known today: a server of a later version may say others, which are no errors.
JOB_KINDS = ("ingest", "export", "import", "reindex")
JOB_STATUSES = ("queued", "running", "succeeded", "partial", "failed", "cancelled")
ITEM_STATES = ("pending", "fetched", "indexed", "duplicate", "failed", "cancelled")

JobKind = Annotated[str, Field(json_schema_extra={"enum": [*JOB_KINDS]})]
JobStatus = Annotated[str, Field(json_schema_extra={"enum": [*JOB_STATUSES]})]
ItemState = Annotated[str, Field(json_schema_extra={"enum": [*ITEM_STATES]})]

MAX_ERRORS = 20


class JobError(BaseModel):
    index: int
    source: str
    code: str
    detail: str


class Job(BaseModel):
    """A job. `counts` sums to `total`; `progress` is the finished share of it, in [0, 1].

    Whatever the `kind`, an item that is done is `indexed`: of an export, a picture that was written.
    """

    job_id: str
    kind: JobKind = "ingest"
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
    errors: list[JobError]
    result: dict[str, Any] | None = Field(None, description="of a reindex: `switched` and a `detail`")

    @property
    def finished(self) -> bool:
        """Tell whether the job has ended; of a status that is not known here the times say so."""
        if self.status in JOB_STATUSES:
            return self.status not in ("queued", "running")
        return self.finished_at is not None


class JobPage(BaseModel):
    jobs: list[Job]
    next_cursor: str | None


class Item(BaseModel):
    """One item of a job: `image_id` once it is indexed or duplicate, `code` and `detail` once it failed."""

    index: int
    source: str
    status: ItemState
    image_id: str | None = None
    code: str | None = None
    detail: str | None = None
    attempts: int = 0


class ItemPage(BaseModel):
    items: list[Item]
    next_cursor: str | None
