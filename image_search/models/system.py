"""What /v1/system says."""

from typing import Annotated

from pydantic import BaseModel, Field

from image_search.models.collections import Collection
from image_search.models.health import Readiness
from image_search.models.jobs import JobError

Stage = Annotated[str, Field(json_schema_extra={"enum": ["fetch", "encode", "index"]})]

NEWEST_JOBS = 20  # that are looked through for errors
MAX_ERRORS = 20
MAX_ERRORS_PER_JOB = 5  # so that one bad job does not hide the others'


class LoadedModel(BaseModel):
    name: str
    fingerprint: str
    dimension: int
    device: str = Field(description="of this API process, which encodes the queries")
    device_name: str
    precision: str


class Queue(BaseModel):
    """Chunks of a job's items at one stage."""

    stage: Stage
    waiting: int
    running: int = Field(description="held by a worker")


class Worker(BaseModel):
    id: str
    host: str
    queues: list[str]
    slots: int = Field(description="how many chunks it works on at once")
    seen_at: str


class JobsState(BaseModel):
    open: int = Field(description="jobs that have not finished")
    queues: list[Queue]
    workers: list[Worker] = Field(description="seen in the last 20 s")


class LastError(JobError):
    job_id: str
    created_at: str = Field(description="of the job")


class System(BaseModel):
    """What cannot be told now is null, and `missing` has the reason under its name."""

    readiness: Readiness
    model: LoadedModel | None
    collections: list[Collection] | None
    jobs: JobsState | None
    errors: list[LastError] | None = Field(
        description=f"the first {MAX_ERRORS_PER_JOB} of each of the {NEWEST_JOBS} newest jobs, newest first"
    )
    versions: dict[str, str]
    missing: dict[str, str]
