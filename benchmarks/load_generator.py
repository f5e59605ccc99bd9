"""Many users of the API at once, in a process of their own: the interpreter under test only serves.

Pollers do what the command line does: ask for the job's status, and again POLL_SECONDS after each answer.
Streamers ask for its event stream, and poll when that is refused. Searchers ask for two words that
hardly anybody has asked for together, and again `pause_s` after each answer.
"""

import asyncio
import multiprocessing
import random
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from image_search._operations.jobs import POLL_SECONDS
from shared.embedding.tagging import read_vocabulary

TIMEOUT_SECONDS = 30.0
NO_ANSWER = 0

Behaviour = Callable[[httpx.AsyncClient], Awaitable[None]]
POLL, SEARCH, STREAM = "poll", "search", "event stream"


@dataclass(frozen=True, slots=True)
class Users:
    """How many of each kind, and the job that they watch.

    Searchers put two of `words` words into a text, or ask for what is like one of the first `ids` pictures.
    """

    job_id: str = ""
    pollers: int = 0
    streamers: int = 0
    searchers: int = 0
    pause_s: float = 1.0
    words: int | None = None
    ids: int = 0


@dataclass(slots=True)
class Tally:
    """`answers` by kind and status, NO_ANSWER among them; `times` in seconds, of answers 200, by kind.

    `core_share` is what the users' own process took of one core: near 1, its times are its own.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    times: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    core_share: float = 0.0

    def percentile(self, kind: str, percent: float) -> float:
        """Milliseconds."""
        return 1000 * float(np.percentile(self.times[kind], percent))


def simulate(url: str, users: Users, seconds: float) -> Tally:
    """Lets the users work for `seconds`, and the last requests end."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_simulate, url, users, seconds).result()


def _simulate(url: str, users: Users, seconds: float) -> Tally:
    words = read_vocabulary(None)
    started, own = time.perf_counter(), time.process_time()
    tally = asyncio.run(_Crowd(url, users, words, seconds).run())
    tally.core_share = (time.process_time() - own) / (time.perf_counter() - started)
    return tally


class _Crowd:
    def __init__(self, url: str, users: Users, words: Sequence[str], seconds: float) -> None:
        self._url = url
        self._users = users
        self._job = f"/v1/jobs/{users.job_id}"
        self._words = words
        self._until = time.perf_counter() + seconds
        self._tls = ssl.create_default_context()  # one for all: making it takes longer than a request
        self._tally = Tally()

    async def run(self) -> Tally:
        users = self._users
        kinds = [
            (users.pollers, self._poll),
            (users.streamers, self._stream),
            (users.searchers, self._search),
        ]
        async with asyncio.TaskGroup() as group:
            for count, behave in kinds:
                for _ in range(count):
                    group.create_task(self._be(behave))
        return self._tally

    async def _be(self, behave: Behaviour) -> None:
        """One user: a connection of their own, at a moment of their own."""
        await asyncio.sleep(random.random())
        async with httpx.AsyncClient(
            base_url=self._url, verify=self._tls, timeout=TIMEOUT_SECONDS, trust_env=False
        ) as http:
            await behave(http)

    async def _poll(self, http: httpx.AsyncClient) -> None:
        while time.perf_counter() < self._until:
            await self._ask(POLL, http, self._job)
            await asyncio.sleep(POLL_SECONDS)

    async def _search(self, http: httpx.AsyncClient) -> None:
        while time.perf_counter() < self._until:
            if self._users.ids:
                picture = f"{random.randrange(self._users.ids):064x}"
                await self._ask(SEARCH, http, "/v1/search", "POST", json={"image_id": picture})
            else:
                one, other = random.sample(self._words[: self._users.words], 2)
                await self._ask(SEARCH, http, "/v1/search", params={"text": f"a {one} beside a {other}"})
            await asyncio.sleep(self._users.pause_s)

    async def _ask(
        self, kind: str, http: httpx.AsyncClient, path: str, method: str = "GET", **request: Any
    ) -> None:
        started = time.perf_counter()
        try:
            status = (await http.request(method, path, **request)).status_code
        except httpx.TransportError:
            status = NO_ANSWER
        self._tally.answers[kind, status] += 1
        if status == 200:
            self._tally.times[kind].append(time.perf_counter() - started)

    async def _stream(self, http: httpx.AsyncClient) -> None:
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self._until - time.perf_counter()),
                http.stream("GET", f"{self._job}/events") as answer,
            ):
                self._tally.answers[STREAM, answer.status_code] += 1
                async for _ in answer.aiter_lines():
                    pass
        await self._poll(http)
