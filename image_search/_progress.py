"""How far jobs are, on a terminal and elsewhere."""

from collections.abc import Callable, Iterator
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

from image_search.models.jobs import Job

NOW_SECONDS = 0.5  # what is sooner than this is now

Show = Callable[[Job], None]


@contextmanager
def sending(console: Console, count: int) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the bytes that were sent, of `count`: a bar on a terminal, else nothing."""
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
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield what to call with how many of `total` are done: a bar on a terminal, else a line per tenth."""
    if not console.is_terminal:
        shown = 0

        def tell(count: int) -> None:
            nonlocal shown
            if (tenth := count * 10 // total) > shown:
                shown = tenth
                console.print(f"{what} {count * 100 // total:3d} % ({count:,} of {total:,})")

        yield tell
        return
    columns = (
        TextColumn(what), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.update(task, completed=count)


@contextmanager
def showing(console: Console | None = None) -> Iterator[Show]:
    """Yield what to call with each status: a bar on a terminal, a line per tenth of the way elsewhere."""
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

        def show(job: Job) -> None:
            name = f"Job {job.job_id[:8]}"
            bar.update(task, description=name, total=job.total or None, completed=done(job), pace=pace(job))

        yield show


class _LinePrinter:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1

    def __call__(self, job: Job) -> None:
        if job.total and int(job.progress * 10) > self._shown:
            self._shown = int(job.progress * 10)
            share = f"{int(job.progress * 100):3d} % ({done(job):,} of {job.total:,})"
            line = f"Job {job.job_id}: {share} {pace(job)}"
            self._console.print(line.rstrip())


def done(job: Job) -> int:
    """Count the items that have reached their last state."""
    return job.total - job.counts.get("pending", 0) - job.counts.get("fetched", 0)


def pace(job: Job) -> str:
    """Say how fast a job goes and how long it will take, or what it waits for, as far as the server knows."""
    rate = f"{job.rate_per_s:.1f}/s" if job.rate_per_s else ""
    if job.retrying and not job.finished:
        waits = job.retrying
        what = f"{waits.items:,}, attempt {waits.attempt} of {waits.attempts}"
        said = (
            f"waiting to retry {what}, in {waits.in_s:.0f} s"
            if waits.in_s >= NOW_SECONDS
            else f"retrying {what}"
        )
        return ", ".join(filter(None, (rate, said)))
    if job.eta_s is None or job.finished:
        return rate
    minutes, seconds = divmod(round(job.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate}, {hours}:{minutes:02d}:{seconds:02d} left"
