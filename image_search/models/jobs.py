"""What the API says of jobs and their items."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from image_search.models.error_codes import worth_retrying
from image_search.models.images import IMAGE_ID
from image_search.models.times import Time

# What is known today: a server of a later version may say others, which are no errors.
JOB_KINDS = ("ingest", "export", "import", "reindex", "update", "delete", "sync")
JOB_STATUSES = ("queued", "running", "succeeded", "partial", "failed", "cancelled")
ITEM_STATES = (
    *("pending", "fetched", "indexed", "duplicate", "failed", "cancelled"),
    *("unchanged", "updated", "removed"),
)

JobKind = TypeAliasType("JobKind", Annotated[str, Field(json_schema_extra={"enum": [*JOB_KINDS]})])
JobStatus = TypeAliasType("JobStatus", Annotated[str, Field(json_schema_extra={"enum": [*JOB_STATUSES]})])
ItemState = TypeAliasType("ItemState", Annotated[str, Field(json_schema_extra={"enum": [*ITEM_STATES]})])

MAX_ERRORS = 20
MAX_NOTES = 100
MORE_NOTES, MORE_NOTES_DETAIL = "more_notes", "More notes than a job keeps."
JOB_ID = "4f0c2b7d9e81a6c35b0f1d24"
JOB_EXAMPLE: dict[str, Any] = {
    "job_id": JOB_ID,
    "kind": "ingest",
    "status": "running",
    "collection": "images",
    "name": "holiday-2026",
    "origin": "command_line",
    "made_of": "folder",
    "group": None,
    "total": 1000,
    "counts": {"pending": 600, "fetched": 100, "indexed": 298, "duplicate": 1, "failed": 1, "cancelled": 0},
    "progress": 0.3,
    "rate_per_s": 24.5,
    "eta_s": 28.6,
    "truncated": False,
    "created_at": "2026-11-24T13:20:51.002Z",
    "started_at": "2026-11-24T13:20:51.310Z",
    "finished_at": None,
    "retrying": {"items": 1, "attempt": 2, "attempts": 4, "in_s": 0.8},
    "notes": [{"code": "files_skipped", "detail": "No pictures: 3 .json.", "count": 3}],
    "failures": [{"code": "http_status", "count": 1, "worth_retrying": 0}],
    "errors": [
        {
            "index": 17,
            "source": "https://example.com/gone.jpg",
            "code": "http_status",
            "detail": "404 Not Found",
            "worth_retrying": False,
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
    "worth_retrying": False,
    "attempts": 1,
}


class _Explained(BaseModel):
    """What may have failed, which `code` and `detail` say. A server of an earlier version leaves the rest."""

    code: str | None
    detail: str | None
    worth_retrying: bool = Field(False, description="whether it may succeed when it is tried again")

    @model_validator(mode="after")
    def _explain(self) -> Self:
        self.worth_retrying = worth_retrying(self.code or "", self.detail or "")
        return self


class JobError(_Explained):
    """Why an item of a job failed."""

    index: int = Field(description="the item's place in the job, from 0")
    source: str = Field(description="the item's URL or file")
    code: str = Field(description="stable, for programs; /docs/errors explains it")
    detail: str = Field(description="for people")


class Failure(BaseModel):
    """How many items of a job failed for one reason."""

    code: str = Field(description="stable, for programs; /docs/errors explains it")
    count: int = Field(description="items that failed with it")
    worth_retrying: int = Field(description="those of them that may succeed when they are tried again")


class Note(BaseModel):
    """What was changed or left out of what a job was made of, once a reason and not once a row."""

    code: str = Field(
        description="stable, for programs: `column_renamed`, `columns_left_out`, `values_left_out`, "
        "`values_as_text`, `text_replaced`, `rows_skipped`, `files_skipped`, `links_skipped`, "
        "`sitemaps_skipped`, `archive_end`, `repeated`, `no_match`, `nothing_listed`, `too_many_deletions`, "
        "and `more_notes` where there are over 100; later versions may say others"
    )
    detail: str = Field(description="for people")
    count: int = Field(description="how many columns, values, rows or files it concerns")


class Retrying(BaseModel):
    """Items of a job that failed for now and are tried again by themselves."""

    items: int = Field(description="how many there are, until they have been tried")
    attempt: int = Field(description="which try it will be, of those that are tried next")
    attempts: int = Field(description="the most tries there are")
    in_s: float = Field(description="seconds until then; 0: now")


class Job(BaseModel):
    """A job. `counts` sums to `total`; `progress` is the finished share of it, in [0, 1].

    Whatever the `kind`, an item that is done is `indexed`, of an export a picture that was written; but of a
    deletion `removed` and of an update `updated`, or `unchanged`. A sync has all of these; its total is 0
    until its listing was read.
    What is listed `grouped` may stand for several jobs, added up; `parts` says how many.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    job_id: str
    kind: JobKind = "ingest"
    status: JobStatus
    collection: str
    name: str | None = Field(None, description="what it was called when it was made, for people")
    origin: str | None = Field(None, description="what made it")
    made_of: str | None = Field(None, description="what it was made of")
    group: str | None = Field(None, description="shared by the jobs of one upload or command")
    parts: int = Field(1, description="how many jobs this stands for; `job_id` is that of the first")
    total: int = Field(description="items")
    counts: dict[ItemState, int] = Field(description="items in each state")
    progress: float
    rate_per_s: float | None = Field(
        description="items finished a second; null also while all that is to be fetched waits for a retry"
    )
    eta_s: float | None = Field(description="seconds until it has finished, at that rate")
    truncated: bool = Field(description="whether the request's body broke off: the job is of what was read")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    retrying: Retrying | None = Field(None, description="what waits to be tried again; null: nothing")
    notes: list[Note] = Field([], description="what was changed or left out of what it was made of")
    failures: list[Failure] = Field([], description="why items failed, by code")
    errors: list[JobError] = Field(description=f"the first {MAX_ERRORS}")
    result: dict[str, Any] | None = Field(
        None,
        description="of a reindex: `switched` and a `detail`; of a dry run: `counts`, `ids` and a `detail`",
    )

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


class Item(_Explained):
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


def combined(jobs: Sequence[Job]) -> Job:
    """Add up jobs: counts, totals and rates, under the ids of all."""
    if len(jobs) == 1:
        return jobs[0]
    counts: Counter[str] = Counter()
    for job in jobs:
        counts.update(job.counts)
    total = sum(job.total for job in jobs)
    finished = all(job.finished for job in jobs)
    still_open = counts["pending"] + counts["fetched"]
    return jobs[0].model_copy(
        update={
            "job_id": ", ".join(job.job_id for job in jobs),
            "status": _status([job.status for job in jobs], finished=finished),
            "parts": sum(job.parts for job in jobs),
            "total": total,
            "counts": dict(counts),
            "progress": round(1 - still_open / total, 4) if total else 0.0,
            "rate_per_s": sum(job.rate_per_s or 0.0 for job in jobs) or None,
            "eta_s": max((job.eta_s for job in jobs if job.eta_s is not None), default=None),
            "truncated": any(job.truncated for job in jobs),
            "started_at": min((job.started_at for job in jobs if job.started_at), default=None),
            "finished_at": max(job.finished_at or "" for job in jobs) if finished else None,
            "retrying": _retrying([job.retrying for job in jobs if job.retrying]),
            "notes": _notes([note for job in jobs for note in job.notes]),
            "failures": _failures([failure for job in jobs for failure in job.failures]),
            "errors": [error for job in jobs for error in job.errors][:MAX_ERRORS],
        }
    )


def _status(statuses: Sequence[str], *, finished: bool) -> str:
    """Return `running` while one goes on, then the status that all have, else `partial`."""
    if not finished:
        return "running"
    return statuses[0] if len(set(statuses)) == 1 else "partial"


def _retrying(parts: Sequence[Retrying]) -> Retrying | None:
    """Add up what waits, as what of it comes first."""
    first = min(parts, key=lambda one: one.in_s, default=None)
    return first and first.model_copy(update={"items": sum(one.items for one in parts)})


def _failures(parts: Sequence[Failure]) -> list[Failure]:
    counts: Counter[str] = Counter()
    worth: Counter[str] = Counter()
    for one in parts:
        counts[one.code] += one.count
        worth[one.code] += one.worth_retrying
    return [Failure(code=code, count=counts[code], worth_retrying=worth[code]) for code in sorted(counts)]


def _notes(parts: Sequence[Note]) -> list[Note]:
    counts: Counter[tuple[str, str]] = Counter()
    for one in parts:
        counts[one.code, one.detail] += one.count
    notes = [Note(code=code, detail=detail, count=count) for (code, detail), count in counts.items()]
    if len(notes) <= MAX_NOTES:
        return notes
    # Those of a thousand jobs would be more than one answer may have.
    more = sum(note.count if note.code == MORE_NOTES else 1 for note in notes)
    kept = [note for note in notes if note.code != MORE_NOTES][: MAX_NOTES - 1]
    return [*kept, Note(code=MORE_NOTES, detail=MORE_NOTES_DETAIL, count=more - len(kept))]
