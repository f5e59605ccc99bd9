"""Several jobs as one: the page's module and the client's function answer the same."""

from typing import Any

import pytest
from playwright.sync_api import Page

from image_search._handles import combined
from image_search.models import Job

COMBINE = """async (jobs) => (await import("/static/jobs/combined.js")).combined(jobs)"""
STATES = ("pending", "fetched", "indexed", "duplicate", "failed", "cancelled")
START = "2026-01-01T00:00:0%d.000000Z"
ERROR = {
    "index": 0,
    "source": "https://example.com/a.jpg",
    "code": "timeout",
    "detail": "too slow",
    "worth_retrying": True,
}


def job(status: str, *counts: int, **fields: Any) -> dict[str, Any]:
    """A job's document; `counts` in the order of STATES."""
    known = dict(zip(STATES, (*counts, *[0] * (len(STATES) - len(counts))), strict=True))
    total = sum(known.values())
    is_open = status in ("queued", "running")
    return {
        "job_id": f"{status}-{total}",
        "kind": "ingest",
        "status": status,
        "collection": "images",
        "total": total,
        "counts": known,
        "progress": round(1 - (known["pending"] + known["fetched"]) / total, 4) if total else 0.0,
        "rate_per_s": None,
        "eta_s": None,
        "truncated": False,
        "created_at": START % 0,
        "started_at": None if status == "queued" else START % 1,
        "finished_at": None if is_open else START % 5,
        "name": "holiday",
        "origin": "page",
        "made_of": "folder",
        "group": "g-0",
        "parts": 1,
        "retrying": None,
        "notes": [],
        "failures": [],
        "errors": [],
        "result": None,
        **fields,
    }


QUEUED = job("queued", 3)
RUNNING = job("running", 2, 1, 3, rate_per_s=1.5, eta_s=2.0)
SUCCEEDED = job("succeeded", 0, 0, 4, 1, rate_per_s=2.25)
TIMEOUTS = {"code": "timeout", "count": 2, "worth_retrying": 2}
STATUSES = {"code": "http_status", "count": 2, "worth_retrying": 1}
PARTIAL = job("partial", 0, 0, 1, 0, 2, errors=[ERROR] * 15, failures=[TIMEOUTS])
FAILED = job(
    "failed", 0, 0, 0, 0, 2, errors=[ERROR] * 15, failures=[STATUSES, TIMEOUTS], finished_at=START % 8
)
WAITING = job("running", 2, 0, 1, retrying={"items": 2, "attempt": 2, "attempts": 4, "in_s": 3.5})
CANCELLED = job("cancelled", 0, 0, 1, 0, 0, 2)
EMPTY = job("failed", finished_at=START % 6, started_at=None)
MORE = {"code": "more_notes", "detail": "More notes than a job keeps.", "count": 0}
RENAMED = {"code": "column_renamed", "detail": "`Product Name` is `Product_Name`.", "count": 1}
SKIPPED = {"code": "files_skipped", "detail": "No pictures: 3 .json.", "count": 3}
CASES = {
    "one alone is itself": ([RUNNING], "running"),
    "one at work": ([SUCCEEDED, RUNNING], "running"),
    "one not begun, the others done": ([SUCCEEDED, QUEUED], "running"),
    "none begun": ([QUEUED, QUEUED], "running"),
    "one cancelled while another goes on": ([CANCELLED, RUNNING], "running"),
    "all well": ([SUCCEEDED, SUCCEEDED], "succeeded"),
    "all failed": ([FAILED, FAILED], "failed"),
    "all cancelled, although some of it is there": ([CANCELLED, CANCELLED], "cancelled"),
    "all in part": ([PARTIAL, PARTIAL], "partial"),
    "one well, one failed": ([SUCCEEDED, FAILED], "partial"),
    "one well, one cancelled": ([SUCCEEDED, CANCELLED], "partial"),
    "one failed, one cancelled": ([FAILED, CANCELLED], "partial"),
    "of every kind": ([SUCCEEDED, PARTIAL, FAILED, CANCELLED], "partial"),
    "one waits, another is at work": ([WAITING, RUNNING], "running"),
    "what comes first of what waits": (
        [WAITING, job("running", 1, retrying={"items": 1, "attempt": 4, "attempts": 4, "in_s": 0.5})],
        "running",
    ),
    "failures by code": ([PARTIAL, FAILED, SUCCEEDED], "partial"),
    "notes of one reason": (
        [
            job("succeeded", 0, 0, 1, notes=[SKIPPED, RENAMED]),
            job(
                "succeeded",
                0,
                0,
                1,
                notes=[RENAMED, {**SKIPPED, "detail": "No pictures: 2 .mov.", "count": 2}],
            ),
            job("succeeded", 0, 0, 1, notes=[SKIPPED]),
        ],
        "succeeded",
    ),
    "more notes than one job has": (
        [
            job(
                "succeeded",
                0,
                0,
                1,
                notes=[
                    *({**RENAMED, "detail": f"{first + n}"} for n in range(99)),
                    {**MORE, "count": first + 3},
                ],
            )
            for first in (0, 50, 500)
        ],
        "succeeded",
    ),
    "nothing in them": ([EMPTY, EMPTY], "failed"),
    "one broke off": ([SUCCEEDED, job("succeeded", 0, 0, 1, truncated=True)], "succeeded"),
    "a rate of none and an unknown time": ([RUNNING, job("running", 5)], "running"),
    "the longest of two times": ([RUNNING, job("running", 5, rate_per_s=0.5, eta_s=10.0)], "running"),
    "a share that does not end": ([job("running", 1, 0, 1), job("running", 0, 1, 0)], "running"),
}


@pytest.fixture(scope="module")
def _jobs_are_valid() -> None:
    for jobs, _ in CASES.values():
        for one in jobs:
            Job.model_validate(one)


@pytest.mark.usefixtures("_jobs_are_valid")
def test_the_page_and_the_client_combine_jobs_by_one_rule(page: Page) -> None:
    page.goto("/jobs")
    for name, (jobs, status) in CASES.items():
        ours = combined([Job.model_validate(one) for one in jobs]).model_dump(mode="json")
        shown = page.evaluate(COMBINE, jobs)
        assert {field: shown.get(field) for field in ours} == ours, name
        assert ours["status"] == status, name
        assert sum(ours["counts"].values()) == ours["total"], name
