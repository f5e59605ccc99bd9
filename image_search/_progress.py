"""How far jobs are, on a terminal and elsewhere."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from image_search.models.jobs import MAX_ERRORS, JobOut
from shared.models import ItemState, JobStatus

Show = Callable[[JobOut], None]
Progress = bool | Show


@contextmanager
def sending(console: Console, count: int) -> Iterator[Callable[[int], None]]:
    """What to call with the bytes that were sent, of `count`: a bar on a terminal, and nothing elsewhere."""
    if not console.is_terminal:
        yield lambda sent: None
        return
    columns = (
        TextColumn("Sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=count or None)
        yield lambda sent: bar.advance(task, sent)


@contextmanager
def showing(progress: Progress, console: Console | None = None) -> Iterator[Show]:
    """What to call with each status: a bar on a terminal, and a line each tenth of the way elsewhere."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda job: None
        return
    console = console or Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _LinePrinter(console)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )  # fmt: skip
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None, pace="")

        def show(job: JobOut) -> None:
            name = f"Job {job.job_id[:8]}"
            bar.update(task, description=name, total=job.total, completed=done(job), pace=pace(job))

        yield show


class _LinePrinter:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1

    def __call__(self, job: JobOut) -> None:
        tenth = int(job.progress * 10)
        if tenth > self._shown:
            self._shown = tenth
            line = f"Job {job.job_id}: {tenth * 10:3d} % ({done(job):,} of {job.total:,}) {pace(job)}"
            self._console.print(line.rstrip())


def combined(jobs: Sequence[JobOut]) -> JobOut:
    """Several jobs as one: counts and rates added up, under the ids of all."""
    if len(jobs) == 1:
        return jobs[0]
    counts: Counter[ItemState] = Counter()
    for job in jobs:
        counts.update(job.counts)
    total = sum(job.total for job in jobs)
    status = _status([job.status for job in jobs])
    still_open = counts[ItemState.PENDING] + counts[ItemState.FETCHED]
    return jobs[0].model_copy(
        update={
            "job_id": ", ".join(job.job_id for job in jobs),
            "status": status,
            "total": total,
            "counts": dict(counts),
            "progress": round(1 - still_open / total, 4) if total else 0.0,
            "rate_per_s": sum(job.rate_per_s or 0.0 for job in jobs) or None,
            "eta_s": max((job.eta_s for job in jobs if job.eta_s is not None), default=None),
            "truncated": any(job.truncated for job in jobs),
            "started_at": min((job.started_at for job in jobs if job.started_at), default=None),
            "finished_at": max(job.finished_at or "" for job in jobs) if status.finished else None,
            "errors": [error for job in jobs for error in job.errors][:MAX_ERRORS],
        }
    )


def _status(states: Sequence[JobStatus]) -> JobStatus:
    if not all(state.finished for state in states):
        return JobStatus.RUNNING
    return states[0] if len(set(states)) == 1 else JobStatus.PARTIAL


def done(job: JobOut) -> int:
    return job.total - job.counts[ItemState.PENDING] - job.counts[ItemState.FETCHED]


def pace(job: JobOut) -> str:
    rate = f"{job.rate_per_s:.1f}/s" if job.rate_per_s else ""
    if job.eta_s is None or job.status.finished:
        return rate
    minutes, seconds = divmod(round(job.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate}, {hours}:{minutes:02d}:{seconds:02d} left"
