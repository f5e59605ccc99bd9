"""The ledger: the state of every job, item and chunk, in Redis. scripts.py lists the keys.

A chunk waits at a stage (`queued`) until a delivered message claims it (`running`, under a lease), and
`advance` moves it to the next stage. `sweep` finds chunks whose lease has expired and has their messages sent
again. So a message may be lost, doubled or late without an item being lost or counted twice.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from shared.errors import (
    IdempotencyMismatch,
    InvalidRequest,
    JobFinished,
    JobNotFound,
    JobRunning,
    NothingToRetry,
    SyncRunning,
    TooManyJobs,
)
from shared.ledger.callbacks import CallbackLedger
from shared.ledger.connection import Connection, retry_while_unavailable
from shared.ledger.hosts import HostLedger
from shared.ledger.job_fields import read_claim, read_job
from shared.ledger.leases import JoinLedger
from shared.ledger.processes import ModelLedger, WorkerLedger, slots_of
from shared.ledger.scripts import PREFIX
from shared.ledger.sources import NotDue, SourceLedger
from shared.ledger.writer import WriterLedger
from shared.models import (
    ITEM_STATES,
    MAX_GROUP_JOBS,
    MAX_NOTES,
    Cause,
    Chunk,
    Claim,
    ItemState,
    Job,
    JobError,
    JobKind,
    JobStatus,
    JsonObject,
    Label,
    Note,
    Stage,
)

CHUNK_LEASE_SECONDS = 30.0
ADVANCE_REPEAT_SECONDS = 120  # more than twice the time for which a worker repeats what was not answered
RESEND_SECONDS = 30.0  # a queued chunk's message is presumed lost after this long, doubling each time
SWEEP_HOLD_SECONDS = 5.0  # for which nobody else sends what a sweeper has been given
INDEX_RESEND_SECONDS = 5.0  # index messages are wake-ups: repeating one costs next to nothing
MAX_JOB_ITEMS = 5_000_000
READING_LEASE_SECONDS = 120.0
IDEMPOTENCY_TTL_SECONDS = 24 * 3600
MAX_ERRORS = 20
ADVANCE_RETRY_SECONDS = 8.0  # finished work is not redone because of a restart
INDEX_WINDOW = 256
BEGIN, FINAL = "begin", "finish"  # payloads: of the chunk before a job's items, of that beyond them
_SCAN_BYTES = 65_536
_SCAN_JOBS = 200
_UNNAMED, _UNCAUSED = Label(), Cause()


def new_job_id() -> str:
    return secrets.token_hex(12)


class Ledger:
    """The jobs and their chunks.

    Its other parts are `callbacks`, `hosts`, `joins`, `models`, `sources`, `workers` and `writer`.

    All methods raise LedgerUnavailable when Redis does not answer, JobNotFound for an unknown job, and
    NewerFormat when a newer version wrote what is in Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        job_ttl_s: float = 7 * 86_400,
        most_jobs: int = 10_000,
        most_bytes: int = 20 * 2**30,
        client: Any = None,
    ) -> None:
        """Keep up to `most_jobs` jobs of each API key, and `most_bytes` of their items and uploads."""
        self._job_ttl_s = job_ttl_s
        self._most_jobs = most_jobs
        self._most_bytes = most_bytes
        self._redis = Connection(url, client)
        self.callbacks = CallbackLedger(self._redis)
        self.hosts = HostLedger(self._redis)
        self.joins = JoinLedger(self._redis)
        self.models = ModelLedger(self._redis)
        self.sources = SourceLedger(self._redis)
        self.workers = WorkerLedger(self._redis)
        self.writer = WriterLedger(self._redis, removals_ttl_s=job_ttl_s)

    def ping(self) -> None:
        self._redis.call("ping")

    # Jobs

    def create(
        self,
        job_id: str,
        *,
        collection: str,
        total: int,
        chunk_size: int,
        callback_url: str | None = None,
        reading: bool = False,
        idempotency: tuple[str, str] | None = None,
        kind: JobKind = JobKind.INGEST,
        options: JsonObject | None = None,
        final_stage: Stage | None = None,
        made_by: str = "",
        size: int = 0,
        label: Label = _UNNAMED,
        notes: Sequence[Note] = (),
        begins: bool = False,
        source: str | None = None,
        due_at: float | None = None,
        next_due: float | None = None,
        cause: Cause = _UNCAUSED,
    ) -> str:
        """Make a job of `total` pending items and return its id.

        With `reading`, `extend` adds more until `close`. The job counts for the API key with the id
        `made_by`, with `size` bytes of items and uploads. To make room, the key's jobs that finished first
        are forgotten; raises TooManyJobs where none has finished.

        With `final_stage` the job has one more chunk, beyond its items and at that stage, once no item is
        open: its payload is FINAL, and the job is `partial` unless that chunk ends `complete`.

        With `begins` it has no items yet, `total` is 0, and one chunk at fetch, number 0 with the payload
        BEGIN, for which the caller sends the message: that chunk's worker calls `plan`.

        A job of `source` is its only one until it has ended: raises SyncRunning. With `due_at` it is the run
        that is due then: raises NotDue, an internal error, where the schedule says another time. `next_due`
        is when the next is.

        `idempotency` is (key, digest of the request). When the key repeats with the same digest, the id is
        that of the earlier job; with another, IdempotencyMismatch is raised. InvalidRequest is for a group
        that is full.
        """
        key, digest = idempotency or ("", "")
        versions = 2 * MAX_JOB_ITEMS if begins else MAX_JOB_ITEMS if reading else total
        job = {
            "id": job_id, "collection": collection, "total": total, "chunk_size": chunk_size,
            "callback": callback_url or "", "reading": reading, "reading_lease": READING_LEASE_SECONDS,
            "ttl": self._job_ttl_s, "idempotency_key": key, "digest": digest,
            "idempotency_ttl": IDEMPOTENCY_TTL_SECONDS, "versions": versions, "kind": kind,
            "options": json.dumps(options or {}), "final_stage": final_stage or "", "by": made_by,
            "bytes": size, "most_jobs": self._most_jobs, "most_bytes": self._most_bytes,
            "most_of_group": MAX_GROUP_JOBS, "notes": json.dumps([asdict(note) for note in _bounded(notes)]),
            "begins": begins, "resend": RESEND_SECONDS, "source": source or "",
            "due_at": "" if due_at is None else due_at, "next_due": "" if next_due is None else next_due,
            **{name: one or "" for name, one in (asdict(label) | asdict(cause)).items()},
        }  # fmt: skip
        answer = self._redis.run("create", json.dumps(job))
        match answer:
            case ["group"]:
                most = f"{MAX_GROUP_JOBS:,} jobs, the most there may be"
                raise InvalidRequest(f"The group {label.group} has {most}: begin another.").at("/group")
            case ["not_due"]:
                raise NotDue(source)
            case ["syncing", other]:
                what = f"Source {source} is being synced by job {other}"
                raise SyncRunning(f"{what}: wait until that has finished, or cancel it.")
            case [limit]:
                raise self._too_many(limit)
        return _same_request(answer, digest)

    def _too_many(self, limit: str) -> TooManyJobs:
        if limit == "jobs":
            what = f"jobs would be more than {self._most_jobs:,} (IMAGE_SEARCH_MAX_JOBS_PER_KEY)"
        else:
            what = (
                f"jobs would have more than {self._most_bytes:,} bytes of items and uploads "
                "(IMAGE_SEARCH_MAX_JOB_BYTES_PER_KEY)"
            )
        return TooManyJobs(f"The unfinished {what} for one API key: wait for some to finish, or cancel some.")

    def idempotent_job(self, key: str, digest: str) -> str | None:
        """Return the job that `key` made, if any. Raises IdempotencyMismatch for another request."""
        answer = self._redis.call("get", f"{PREFIX}idem:{key}")
        return None if answer is None else _same_request(answer, digest)

    def extend(self, job_id: str, count: int, size: int = 0) -> None:
        """Add `count` items (`size` bytes), already in the manifest, to a job whose body is still read.

        Raises JobFinished when the job was cancelled or its body timed out, and TooManyJobs.
        """
        answer = self._redis.run("extend", job_id, count, READING_LEASE_SECONDS, size, self._most_bytes)
        if answer == -2:
            raise self._too_many("bytes")
        if answer == 0:
            raise JobFinished(f"Job {job_id} takes no more items: it was cancelled or its body timed out.")
        _check_found(answer, job_id)

    def close(self, job_id: str, *, truncated: bool) -> None:
        """Mark the body of a streamed job as read to its end, or as broken off (`truncated`)."""
        _check_found(self._redis.run("close", job_id, int(truncated)), job_id)

    def get(self, job_id: str) -> Job:
        (job,) = self._get([job_id])
        if job is None:
            raise JobNotFound(f"There is no job {job_id!r}; finished jobs expire.")
        return job

    def _get(self, ids: Sequence[str]) -> list[Job | None]:
        with self._redis.pipeline(transaction=True) as pipeline:
            for job_id in ids:
                pipeline.hgetall(f"{PREFIX}job:{job_id}")
                pipeline.lrange(f"{PREFIX}errors:{job_id}", 0, MAX_ERRORS - 1)
                pipeline.hgetall(f"{PREFIX}failures:{job_id}")
                pipeline.zrange(f"{PREFIX}retrying:{job_id}", 0, 0, withscores=True)
            found = pipeline.execute()
        return [
            read_job(job_id, *found[at : at + 4]) if found[at] else None
            for job_id, at in zip(ids, range(0, len(found), 4), strict=True)
        ]

    def list_jobs(
        self,
        status: JobStatus | None,
        cursor: str | None,
        limit: int,
        *,
        collection: str | None = None,
        group: str | None = None,
        wanted: Callable[[Job], bool] = lambda _: True,
    ) -> tuple[list[Job], str | None]:
        """Return up to `limit` jobs made before `cursor` (a creation time), newest first, and a cursor."""
        key = f"{PREFIX}jobs" if group is None else f"{PREFIX}group:{group}"
        bound = f"({cursor}" if cursor else "+inf"
        jobs: list[Job] = []
        step = min(limit, _SCAN_JOBS)
        while True:
            ids = self._redis.call("zrevrangebyscore", key, bound, "-inf", start=0, num=step, withscores=True)
            for job, (_, created) in zip(self._get([one for one, _ in ids]), ids, strict=True):
                bound = f"({created!r}"
                if (
                    job is None
                    or status not in (None, job.status)
                    or collection not in (None, job.collection)
                ):
                    continue
                if wanted(job):
                    jobs.append(job)
                    if len(jobs) == limit:
                        return jobs, repr(created)
            if len(ids) < step:
                return jobs, None
            step = _SCAN_JOBS

    def cancel(self, job_id: str) -> Job:
        """Cancel every open item of a job. Raises JobFinished when there is nothing left to cancel."""
        answer = self._redis.run("cancel", job_id)
        _check_found(answer, job_id)
        job = self.get(job_id)
        if answer == 0 and job.status is not JobStatus.CANCELLED:
            raise JobFinished(f"Job {job_id} has already {job.status}.")
        return job

    def retry(self, job_id: str, cause: Cause = _UNCAUSED) -> Job:
        """Make the failed items of a finished job pending again. Raises JobRunning, NothingToRetry.

        A sync is not taken up again: the next one tries what it could not fetch.
        """
        job = self.get(job_id)
        if job.kind is JobKind.SYNC:
            again = f"POST /v1/sources/{job.label.made_of}/sync"
            raise NothingToRetry(f"What a sync could not fetch is tried again by the next: {again}.")
        answer = self._redis.run("retry", job_id, cause.request_id, cause.traceparent)
        _check_found(answer, job_id)
        if answer == -2:
            raise JobRunning(f"Job {job_id} is still running; retry it when it has finished.")
        if answer == 0:
            raise NothingToRetry(f"Job {job_id} has no failed items.")
        return self.get(job_id)

    def items(
        self, job_id: str, status: ItemState | None, start: int, limit: int
    ) -> tuple[list[tuple[int, ItemState]], int | None]:
        """Return up to `limit` (index, state) from item `start` on, and where to go on (None at the end)."""
        total = self.get(job_id).total
        found: list[tuple[int, ItemState]] = []
        at = start
        while at < total:
            block = self._redis.call("getrange", f"{PREFIX}states:{job_id}", at, at + _SCAN_BYTES - 1)
            for offset, digit in enumerate(block):
                state = ITEM_STATES[int(digit)]
                if status in (None, state):
                    if len(found) == limit:
                        return found, at + offset
                    found.append((at + offset, state))
            if not block:
                break
            at += len(block)
        return found, None

    # Chunks

    def dispatch(self) -> list[Chunk]:
        """Return the chunks, of every open job in turn, that may be fetched now; send each a fetch message.

        How many follows from the workers that are alive: two chunks per fetch slot, none while encode is four
        chunks per slot behind. So a new job waits behind seconds of work, whatever was queued before it.
        """
        slots = slots_of(self.workers.seen())
        fetch_window, encode_window = max(4, 2 * slots[Stage.FETCH]), max(8, 4 * slots[Stage.ENCODE])
        refs = self._redis.run("dispatch", fetch_window, encode_window, INDEX_WINDOW, 64, RESEND_SECONDS)
        return [Chunk.parse(ref) for ref in refs]

    def claim(self, chunk: Chunk, stage: Stage) -> Claim | None:
        """Lease a chunk that waits at `stage` for CHUNK_LEASE_SECONDS; None when there is nothing to do."""
        token = secrets.token_hex(8)
        answer = self._redis.run("claim", chunk.ref, stage, token, CHUNK_LEASE_SECONDS)
        return read_claim(answer, stage, token) if answer else None

    def claim_ready(self, stage: Stage, most_items: int) -> list[Claim]:
        """Lease, under one token, the chunks of one size that have waited longest, up to `most_items` items.

        At least one chunk is leased if any is ready, however large.
        """
        token = secrets.token_hex(8)
        answers = self._redis.run("claim_ready", stage, token, CHUNK_LEASE_SECONDS, most_items)
        return [read_claim(answer, stage, token) for answer in answers]

    def pending(self, claim: Claim) -> list[int]:
        """Return the indices of the claim's items that are still to be fetched."""
        block = self._redis.call(
            "getrange", f"{PREFIX}states:{claim.chunk.job_id}", claim.first_item, claim.last_item - 1
        )
        return [claim.first_item + offset for offset, digit in enumerate(block) if digit == "0"]

    def renew(self, claims: Sequence[Claim]) -> int:
        """Prolong leases that share one token; return how many are still held."""
        refs = [claim.chunk.ref for claim in claims]
        return int(self._redis.run("renew", claims[0].token, CHUNK_LEASE_SECONDS, *refs))

    def plan(self, claim: Claim, states: str, *, size: int = 0, notes: Sequence[Note] = ()) -> bool:
        """End the begin chunk: give its job the items that are in the manifest by now, and notes on them.

        All in one step. `states` has for each item the digit of its state in ITEM_STATES: those that are not
        pending are never fetched. `size` bytes of items count for the job's API key, past its limit too.

        Returns as `advance`; True says that the job is planned.
        """
        plan = {
            "ref": claim.chunk.ref, "token": claim.token, "repeat_s": ADVANCE_REPEAT_SECONDS, "bytes": size,
            "counts": [states.count(str(digit)) for digit in range(len(ITEM_STATES))],
            "notes": json.dumps([asdict(note) for note in _bounded(notes)]),
        }  # fmt: skip
        call = partial(self._redis.run, "plan", json.dumps(plan), states)
        return bool(retry_while_unavailable(call, ADVANCE_RETRY_SECONDS))

    def advance(
        self,
        claim: Claim,
        *,
        transitions: Sequence[tuple[int, ItemState]],
        errors: Sequence[JobError] = (),
        transient: Sequence[int] = (),
        next_stage: Stage | None = None,
        payload: str = "",
        retry_delay_s: float | None = None,
        waiting: tuple[int, int, int] | None = None,
        hold_s: float = 0.0,
        result: JsonObject | None = None,
        complete: bool = False,
    ) -> bool:
        """End a claim: set its items' states and pass the chunk and `payload`, a blob, to `next_stage`.

        All in one step. `transient` are the items whose errors may not come again. With `retry_delay_s` the
        items still pending are fetched again, as the chunk's next attempt; `waiting` says how many of them
        failed so far, which try that will be, and of how many. With `hold_s` this attempt was postponed, and
        the job sends no more chunks for that long. `result` becomes the job's; `complete` says that its final
        chunk did all that it was to do. A begin chunk that ends so has no plan: its job ends, `failed` unless
        `complete`.

        Returns False, having changed nothing, when the lease was lost or the job cancelled; True also when an
        earlier call, whose answer was lost, has ended this claim.
        """
        end = {
            "ref": claim.chunk.ref, "token": claim.token, "next_stage": next_stage or "", "payload": payload,
            "transitions": [(index, ITEM_STATES.index(state)) for index, state in transitions],
            "errors": [asdict(error) for error in errors], "most_errors": MAX_ERRORS, "transient": transient,
            "waiting": ":".join(map(str, waiting or ())),
            "retry_delay": -1 if retry_delay_s is None else retry_delay_s, "hold": hold_s,
            "resend": INDEX_RESEND_SECONDS if next_stage is Stage.INDEX else RESEND_SECONDS,
            "result": json.dumps(result) if result else "", "complete": complete,
            "repeat_s": ADVANCE_REPEAT_SECONDS,
        }  # fmt: skip
        call = partial(self._redis.run, "advance", json.dumps(end))
        return bool(retry_while_unavailable(call, ADVANCE_RETRY_SECONDS))

    def release(
        self,
        claims: Sequence[Claim],
        delay_s: float,
        *,
        count_delivery: bool,
        waits: bool = False,
        reason: str = "",
    ) -> None:
        """Give claims that share one token back, to be delivered again after `delay_s` seconds.

        With `waits`, for what perhaps only this job needs, others' chunks need not wait behind these, and the
        job sends no more until then. `reason`, a sentence, is for what limits ingestion meanwhile.
        """
        refs = [claim.chunk.ref for claim in claims]
        self._redis.run("release", claims[0].token, delay_s, int(count_delivery), int(waits), reason, *refs)

    def sweep(self) -> list[tuple[Stage, Chunk]]:
        """Return chunks whose lease, delay or message is over or lost: send each, then call `sent`."""
        answer = self._redis.run("sweep", 1000, SWEEP_HOLD_SECONDS)
        return [
            (Stage(stage), Chunk.parse(ref)) for stage, ref in zip(answer[::2], answer[1::2], strict=True)
        ]

    def sent(self, chunks: Sequence[Chunk]) -> None:
        """Note that the messages of the chunks from `sweep` were sent."""
        if chunks:
            self._redis.run("sent", RESEND_SECONDS, INDEX_RESEND_SECONDS, *(chunk.ref for chunk in chunks))

    # Housekeeping

    def abandoned_readers(self) -> list[str]:
        """Return the ids of jobs whose body has brought nothing for READING_LEASE_SECONDS."""
        return list(self._redis.call("zrangebyscore", f"{PREFIX}reading", "-inf", self._redis.now()))

    def expired_jobs(self) -> list[str]:
        return list(
            self._redis.call("zrangebyscore", f"{PREFIX}expiry", "-inf", self._redis.now(), start=0, num=100)
        )

    def forget_job(self, job_id: str) -> bool:
        """Forget an expired job; return False, having done nothing, when a retry revived it."""
        return bool(self._redis.run("forget_job", job_id))

    def exists(self, job_id: str) -> bool:
        return bool(self._redis.call("exists", f"{PREFIX}job:{job_id}"))


def _bounded(notes: Sequence[Note]) -> list[Note]:
    """Return the notes; instead of those past MAX_NOTES one that says how many they are."""
    if len(notes) <= MAX_NOTES:
        return list(notes)
    kept = MAX_NOTES - 1
    return [*notes[:kept], Note("more_notes", "More notes than a job keeps.", len(notes) - kept)]


def _same_request(answer: str, digest: str) -> str:
    before, _, job_id = answer.partition(" ")
    if before != digest:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used with another request; send a new key for a new request."
        )
    return job_id


def _check_found(answer: int, job_id: str) -> None:
    if answer == -1:
        raise JobNotFound(f"There is no job {job_id!r}; finished jobs expire.")
