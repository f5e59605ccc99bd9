"""The ledger's view of processes: which workers are alive, what waits for them, what the API has loaded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX
from shared.models import ITEM_STATES, JsonObject, Stage

WORKER_SEEN_SECONDS = 20.0
API_SEEN_SECONDS = 10.0
ANNOUNCED_SECONDS = 600.0  # for which an announcement holds that nobody repeats


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process's latest heartbeat; `slots` is how many chunks it works on at once."""

    id: str
    host: str
    queues: list[str]
    slots: int
    seen_at: float


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """The chunks that wait at a stage, and those that are leased to a worker (`running`).

    `items` are those that wait for the stage: at fetch all that are pending, also where no message was sent
    for their chunk yet, but for those that a worker has and those that failed and are tried again later.
    `oldest_wait_s` is None while no chunk waits. `lag_s` is for how long the oldest chunk has been at the
    stage, with a worker or without; of those that were put back it counts none. `idle_s` is for how long no
    worker has had a chunk there although one waited; None, too, while a worker has one. `put_back` of the
    chunks were given back by the worker that had them last, the latest for `reason`, a sentence; the stage is
    `stuck` when nothing has got past since that chunk came back first, and no other is at work.
    """

    stage: Stage
    waiting: int = 0
    running: int = 0
    items: int = 0
    oldest_wait_s: float | None = None
    lag_s: float | None = None
    idle_s: float | None = None
    put_back: int = 0
    stuck: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: at each stage, in the order in which a chunk passes them, and besides.

    `retrying_items` failed and are tried again later; `held_items` are those of fetch's whose jobs wait for
    busy hosts, `lacking_items` those whose jobs wait for what a chunk of theirs came back for. `aside`
    of the chunks that fetch workers have take no slot (worker/aside.py).
    """

    queues: Sequence[QueueInfo]
    open_jobs: int = 0
    retrying_items: int = 0
    held_items: int = 0
    breakers_open: int = 0
    aside: int = 0
    lacking_items: int = 0


def slots_of(workers: Sequence[WorkerInfo]) -> dict[Stage, int]:
    """Return how many chunks the workers can work on at once, at each stage."""
    slots = dict.fromkeys(Stage, 0)
    for worker in workers:
        for queue in worker.queues:
            slots[Stage(queue)] += worker.slots
    return slots


class WorkerLedger:
    """The workers' heartbeats, what waits for them and what they have done."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def heartbeat(self, worker_id: str, host: str, queues: Sequence[str], slots: int) -> None:
        row = {"host": host, "queues": list(queues), "slots": slots, "seen_at": self._redis.now()}
        self._redis.call("hset", f"{PREFIX}workers", worker_id, json.dumps(row))

    def forget(self, worker_id: str) -> None:
        self._redis.call("hdel", f"{PREFIX}workers", worker_id)

    def seen(self) -> list[WorkerInfo]:
        """Return the workers that sent a heartbeat within WORKER_SEEN_SECONDS."""
        rows = self._redis.call("hgetall", f"{PREFIX}workers")
        workers = [WorkerInfo(id=worker_id, **json.loads(row)) for worker_id, row in rows.items()]
        oldest = self._redis.now() - WORKER_SEEN_SECONDS
        if stale := [worker.id for worker in workers if worker.seen_at < oldest - 600]:
            self._redis.call("hdel", f"{PREFIX}workers", *stale)
        return [worker for worker in workers if worker.seen_at >= oldest]

    def backlog(self) -> Backlog:
        """Return what waits, all as of one moment."""
        *stages, others = self._redis.run("backlog")
        return Backlog([_queue(stage, *said) for stage, said in zip(Stage, stages, strict=True)], *others)

    def add_encoder_seconds(self, *, busy: float, stalled: float) -> None:
        """Add seconds that an encoder computed, and idled while a chunk waited, to the totals of all."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hincrbyfloat(f"{PREFIX}totals", "encoder_busy_seconds", busy)
            pipeline.hincrbyfloat(f"{PREFIX}totals", "encoder_stalled_seconds", stalled)
            pipeline.execute()

    def totals(self) -> dict[str, float]:
        """Return what was counted since the beginning.

        Items by their terminal state's name, items that failed by `code:` and the error's code, and
        `encoder_busy_seconds` and `encoder_stalled_seconds`.
        """
        totals = self._redis.call("hgetall", f"{PREFIX}totals")
        return {ITEM_STATES[int(k)] if k.isdigit() else k: float(v) for k, v in totals.items()}


def _queue(stage: Stage, waiting: int, running: int, items: int, *others: str | int) -> QueueInfo:
    *ages, put_back, stuck, reason = others
    oldest, lag, idle = (float(age) if age else None for age in ages)
    return QueueInfo(
        stage, waiting, running, items, oldest, lag, idle, int(put_back), stuck == 1, str(reason)
    )


class LoadFailure(NamedTuple):
    """Why a model cannot be loaded; `passing` where that is tried again and may succeed."""

    detail: str
    passing: bool


@dataclass(frozen=True, slots=True)
class ApiInfo:
    """An API process's latest heartbeat: the fingerprints that it has loaded, and why others failed."""

    id: str
    loaded: list[str]
    failed: dict[str, LoadFailure]
    seen_at: float


class ModelLedger:
    """Announcements of the models that collections are about to switch to, and who is ready for them."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def announce(self, job_id: str, model: str, fingerprint: str) -> float:
        """Announce, until the job ends, that its collection will switch to a model.

        Returns for how many seconds that has been announced.
        """
        key, now = f"{PREFIX}announced", self._redis.now()
        since = json.loads(self._redis.call("hget", key, job_id) or "{}").get("since", now)
        row = {"model": model, "fingerprint": fingerprint, "since": since, "seen_at": now}
        self._redis.call("hset", key, job_id, json.dumps(row))
        return float(now - since)

    def announced(self) -> dict[str, str]:
        """Return the names of the models that are announced, by their fingerprints."""
        oldest = self._redis.now() - ANNOUNCED_SECONDS
        found = self._redis.call("hgetall", f"{PREFIX}announced")
        rows = {job_id: json.loads(row) for job_id, row in found.items()}
        # By a process that had been stopped and found its job ended.
        if stale := [job_id for job_id, row in rows.items() if row["seen_at"] < oldest]:
            self._redis.call("hdel", f"{PREFIX}announced", *stale)
        return {row["fingerprint"]: row["model"] for row in rows.values() if row["seen_at"] >= oldest}

    def heartbeat(self, api_id: str, loaded: Sequence[str], failed: Mapping[str, LoadFailure]) -> None:
        row = {"loaded": list(loaded), "failed": dict(failed), "seen_at": self._redis.now()}
        self._redis.call("hset", f"{PREFIX}apis", api_id, json.dumps(row))

    def forget(self, api_id: str) -> None:
        self._redis.call("hdel", f"{PREFIX}apis", api_id)

    def apis(self) -> list[ApiInfo]:
        """Return the API processes that sent a heartbeat within API_SEEN_SECONDS."""
        rows = self._redis.call("hgetall", f"{PREFIX}apis")
        apis = [_api_info(api_id, json.loads(row)) for api_id, row in rows.items()]
        oldest = self._redis.now() - API_SEEN_SECONDS
        if gone := [api.id for api in apis if api.seen_at < oldest - 600]:
            self._redis.call("hdel", f"{PREFIX}apis", *gone)
        return [api for api in apis if api.seen_at >= oldest]


def _api_info(api_id: str, row: JsonObject) -> ApiInfo:
    failed = {fingerprint: LoadFailure(*why) for fingerprint, why in row["failed"].items()}
    return ApiInfo(api_id, row["loaded"], failed, row["seen_at"])
