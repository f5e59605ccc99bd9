"""What `ingest` returns: the jobs that it has made, to be watched, stopped and repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from image_search._bodies import Unsent
from image_search._runners import readable
from image_search.models.jobs import Item, Job, combined

# True: a bar on a terminal, lines elsewhere; or what is called with each status.
Progress = bool | Callable[[Job], None]


class Jobs(Protocol):
    """What a handle needs of its client."""

    def job(self, job_id: str, /) -> Job: ...
    def wait_for(self, ids: Sequence[str], progress: Progress, timeout: float | None, /) -> Job: ...
    def iter_items(self, job_id: str, status: str | None, /) -> Iterator[Item]: ...
    def cancel(self, job_id: str, /) -> Job: ...
    def retry(self, job_id: str, /) -> Job: ...


class AsyncJobs(Protocol):
    """What a handle needs of its asynchronous client."""

    async def job(self, job_id: str, /) -> Job: ...
    async def wait_for(self, ids: Sequence[str], progress: Progress, timeout: float | None, /) -> Job: ...
    def iter_items(self, job_id: str, status: str | None, /) -> AsyncIterator[Item]: ...
    async def cancel(self, job_id: str, /) -> Job: ...
    async def retry(self, job_id: str, /) -> Job: ...


@readable
class JobHandle:
    """The job that one `ingest` has made, or several where there were more files than one request takes.

    Attributes:
        ids: the ids of all its jobs.
        unsent: the files that are in no job, each with the reason: they could not be read, were gone, changed
            while files were sent, or are tables or archives that were refused.
        left_out: what of folders was left out, by suffix, for people.
    """

    def __init__(
        self, client: Jobs, job_ids: Sequence[str], unsent: Sequence[Unsent] = (), left_out: str = ""
    ) -> None:
        self._client = client
        self.ids = tuple(job_ids)
        self.unsent = tuple(unsent)
        self.left_out = left_out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.ids)})"

    @property
    def id(self) -> str:
        """Return the id of the first job; `ids` has all."""
        return self.ids[0]

    def status(self) -> Job:
        """Return how far the job is; several jobs are added up."""
        return combined([self._client.job(job_id) for job_id in self.ids])

    def wait(self, progress: Progress = False, timeout: float | None = None) -> Job:
        """Wait for the end and return the last status; `progress` and `timeout` are those of Client.wait."""
        return self._client.wait_for(self.ids, progress, timeout)

    def items(self, status: str | None = None) -> Iterator[Item]:
        """Yield every item with what became of it, or those in one state."""
        for job_id in self.ids:
            yield from self._client.iter_items(job_id, status)

    def cancel(self) -> Job:
        """Cancel what has not finished; what is indexed already stays."""
        return combined([self._client.cancel(job_id) for job_id in self.ids])

    def retry(self) -> Job:
        """Take the failed items once more, in the same job."""
        failed = [job_id for job_id in self.ids if self._client.job(job_id).counts.get("failed")]
        return combined([self._client.retry(job_id) for job_id in failed or self.ids])


@readable
class AsyncJobHandle:
    """The job that one `ingest` has made, or several where there were more files than one request takes.

    Attributes:
        ids: the ids of all its jobs.
        unsent: the files that are in no job, each with the reason: they could not be read, were gone, changed
            while files were sent, or are tables or archives that were refused.
        left_out: what of folders was left out, by suffix, for people.
    """

    def __init__(
        self, client: AsyncJobs, job_ids: Sequence[str], unsent: Sequence[Unsent] = (), left_out: str = ""
    ) -> None:
        self._client = client
        self.ids = tuple(job_ids)
        self.unsent = tuple(unsent)
        self.left_out = left_out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.ids)})"

    @property
    def id(self) -> str:
        """Return the id of the first job; `ids` has all."""
        return self.ids[0]

    async def status(self) -> Job:
        """Return how far the job is; several jobs are added up."""
        return combined([await self._client.job(job_id) for job_id in self.ids])

    async def wait(self, progress: Progress = False, timeout: float | None = None) -> Job:
        """Wait for the end and return the last status; `progress` and `timeout` are those of Client.wait."""
        return await self._client.wait_for(self.ids, progress, timeout)

    async def items(self, status: str | None = None) -> AsyncIterator[Item]:
        """Yield every item with what became of it, or those in one state."""
        for job_id in self.ids:
            async for item in self._client.iter_items(job_id, status):
                yield item

    async def cancel(self) -> Job:
        """Cancel what has not finished; what is indexed already stays."""
        return combined([await self._client.cancel(job_id) for job_id in self.ids])

    async def retry(self) -> Job:
        """Take the failed items once more, in the same job."""
        failed = [job_id for job_id in self.ids if (await self._client.job(job_id)).counts.get("failed")]
        return combined([await self._client.retry(job_id) for job_id in failed or self.ids])
