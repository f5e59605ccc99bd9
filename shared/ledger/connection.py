"""The one module that speaks to Redis, and turns its exceptions into ours."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import LedgerUnavailable
from shared.ledger import scripts
from shared.ledger.upgrade import bring_up_to_date

FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 2.0
T = TypeVar("T")


class Connection:
    """A client of Redis, connected at its first call.

    Every method raises LedgerUnavailable when Redis does not answer, and NewerFormat when a newer version
    wrote the ledger there.
    """

    def __init__(self, url: str, client: Any = None) -> None:
        self._url = url
        self._given_client = client
        self._scripts: dict[str, Any] = {}

    @cached_property
    def client(self) -> Any:
        client = self._given_client or redis.Redis.from_url(
            self._url,
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=2,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
        )
        with _translated():
            bring_up_to_date(client)
        return client

    def run(self, script: str, *args: str | float) -> Any:
        """Run `lua/<script>.lua` and return its answer."""
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(scripts.source(script))
        with _translated():
            return self._scripts[script](keys=[], args=args)

    def call(self, command: str, *args: Any, **options: Any) -> Any:
        with _translated():
            return getattr(self.client, command)(*args, **options)

    @contextmanager
    def pipeline(self, *, transaction: bool) -> Iterator[Any]:
        with _translated():
            yield self.client.pipeline(transaction=transaction)

    def now(self) -> float:
        """Return Redis's time in epoch seconds: the clocks of the workers' machines may differ."""
        seconds, microseconds = self.call("time")
        return float(seconds) + float(microseconds) / 1e6


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise LedgerUnavailable("The job ledger (Redis) does not answer.") from error


def retry_while_unavailable(call: Callable[[], T], timeout_s: float) -> T:
    """Repeat an idempotent call until it succeeds. Raises LedgerUnavailable after `timeout_s` seconds."""
    deadline, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_SECONDS)
