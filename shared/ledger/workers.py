"""The ledger's view of the workers: which are alive, and what waits for them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX
from shared.models import Stage

WORKER_SEEN_SECONDS = 20.0


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
    """How many chunks wait at a stage, and how many are leased to a worker."""

    stage: Stage
    waiting: int
    running: int


class WorkerLedger:
    """The workers' heartbeats and the queues' lengths."""

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

    def open_jobs(self) -> int:
        """Return how many jobs have not finished."""
        return int(self._redis.call("zcard", f"{PREFIX}jobs")) - int(
            self._redis.call("zcard", f"{PREFIX}expiry")
        )

    def queues(self) -> list[QueueInfo]:
        """Return the queues in the order in which a chunk passes them."""
        counts = (self._redis.run("queue", stage) for stage in Stage)
        return [
            QueueInfo(stage, waiting, running)
            for stage, (waiting, running) in zip(Stage, counts, strict=True)
        ]
