"""What `ingest` gives back: the jobs that it has made, to be watched, stopped and repeated."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from image_search._progress import Progress, combined
from image_search.models.jobs import ItemOut, JobOut
from shared.models import ItemState


class Jobs(Protocol):
    """What a handle needs of its client."""

    def job(self, job_id: str, /) -> JobOut: ...
    def wait_for(self, ids: Sequence[str], progress: Progress, timeout: float | None, /) -> JobOut: ...
    def iter_items(self, job_id: str, status: str | None, /) -> Iterator[ItemOut]: ...
    def cancel(self, job_id: str, /) -> JobOut: ...
    def retry(self, job_id: str, /) -> JobOut: ...


class AsyncJobs(Protocol):
    """The same to await."""

    async def job(self, job_id: str, /) -> JobOut: ...
    async def wait_for(self, ids: Sequence[str], progress: Progress, timeout: float | None, /) -> JobOut: ...
    def iter_items(self, job_id: str, status: str | None, /) -> AsyncIterator[ItemOut]: ...
    async def cancel(self, job_id: str, /) -> JobOut: ...
    async def retry(self, job_id: str, /) -> JobOut: ...


class JobHandle:
    """What one `ingest` has made: one job, or several where there were more files than one request takes."""

    def __init__(self, client: Jobs, job_ids: Sequence[str]) -> None:
        self._client = client
        self.ids = tuple(job_ids)

    @property
    def id(self) -> str:
        """The first job's; `ids` has all."""
        return self.ids[0]

    def status(self) -> JobOut:
        """Of several jobs, they are added up."""
        return combined([self._client.job(job_id) for job_id in self.ids])

    def wait(self, progress: Progress = False, timeout: float | None = None) -> JobOut:
        """The status at the end. `progress`: True shows a bar; a function is given each status."""
        return self._client.wait_for(self.ids, progress, timeout)

    def items(self, status: str | None = None) -> Iterator[ItemOut]:
        """Every item with what became of it, or those in one state."""
        for job_id in self.ids:
            yield from self._client.iter_items(job_id, status)

    def cancel(self) -> JobOut:
        return combined([self._client.cancel(job_id) for job_id in self.ids])

    def retry(self) -> JobOut:
        """The failed items once more."""
        failed = [job_id for job_id in self.ids if self._client.job(job_id).counts[ItemState.FAILED]]
        return combined([self._client.retry(job_id) for job_id in failed or self.ids])


class AsyncJobHandle:
    """What one `ingest` has made: one job, or several where there were more files than one request takes."""

    def __init__(self, client: AsyncJobs, job_ids: Sequence[str]) -> None:
        self._client = client
        self.ids = tuple(job_ids)

    @property
    def id(self) -> str:
        """The first job's; `ids` has all."""
        return self.ids[0]

    async def status(self) -> JobOut:
        """Of several jobs, they are added up."""
        return combined([await self._client.job(job_id) for job_id in self.ids])

    async def wait(self, progress: Progress = False, timeout: float | None = None) -> JobOut:
        """The status at the end. `progress`: True shows a bar; a function is given each status."""
        return await self._client.wait_for(self.ids, progress, timeout)

    async def items(self, status: str | None = None) -> AsyncIterator[ItemOut]:
        """Every item with what became of it, or those in one state."""
        for job_id in self.ids:
            async for item in self._client.iter_items(job_id, status):
                yield item

    async def cancel(self) -> JobOut:
        return combined([await self._client.cancel(job_id) for job_id in self.ids])

    async def retry(self) -> JobOut:
        """The failed items once more."""
        failed = [job_id for job_id in self.ids if (await self._client.job(job_id)).counts[ItemState.FAILED]]
        return combined([await self._client.retry(job_id) for job_id in failed or self.ids])
