"""Many users of the API at once, in a process of their own: the interpreter under test only serves.

Pollers do what the command line does: ask for the job's status, and again POLL_SECONDS after each answer.
Streamers ask for its event stream, and poll when that is refused. Searchers ask for two words that
hardly anybody has asked for together, and again `pause_s` after each answer; they take as little of the
cores that they share with the server as they can.
"""

import asyncio
import json
import multiprocessing
import random
import re
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

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
    seconds: float = 0.0  # from the first question to the last answer

    @property
    def searches_per_second(self) -> float:
        return len(self.times[SEARCH]) / self.seconds

    def percentile(self, kind: str, percent: float) -> float:
        """Milliseconds."""
        return 1000 * float(np.percentile(self.times[kind], percent))


def simulate(url: str, users: Users, seconds: float) -> Tally:
    """Lets the users work for `seconds`, and the last requests end."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_simulate, url, users, seconds).result()


def _simulate(url: str, users: Users, seconds: float) -> Tally:
    words = read_vocabulary(None)
    crowd = _Crowd(url, users, words, seconds)
    started, own = time.perf_counter(), time.process_time()
    tally = asyncio.run(crowd.run())
    tally.seconds = time.perf_counter() - started
    tally.core_share = (time.process_time() - own) / tally.seconds
    return tally


class _Connection:
    """HTTP/1.1 over one connection, for a fifth of what httpx takes of a core."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str, document: object = None) -> int:
        """Return the answer's status."""
        body = b"" if document is None else json.dumps(document).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n"
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if self._streams is None:
                    host, _, port = self._host.partition(":")
                    self._streams = await asyncio.open_connection(host, int(port))
                reader, writer = self._streams
                writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.findall(rb"(?i)\r\ncontent-length: *(\d+)", answer)[0]))
        except (OSError, EOFError):  # TimeoutError among them
            self.close()
            return NO_ANSWER
        if re.search(rb"(?i)\r\nconnection: *close", answer):
            self.close()
        return int(answer.split(b" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


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
        """One user: a connection of their own, and at a moment of their own who waits after each answer."""
        await asyncio.sleep(random.random() * min(1.0, self._users.pause_s))
        async with httpx.AsyncClient(
            base_url=self._url, verify=self._tls, timeout=TIMEOUT_SECONDS, trust_env=False
        ) as http:
            await behave(http)

    async def _poll(self, http: httpx.AsyncClient) -> None:
        while time.perf_counter() < self._until:
            await self._count(POLL, self._poll_once(http))
            await asyncio.sleep(POLL_SECONDS)

    async def _search(self, _: httpx.AsyncClient) -> None:
        with closing(_Connection(self._url)) as connection:
            while time.perf_counter() < self._until:
                if self._users.ids:
                    picture = f"{random.randrange(self._users.ids):064x}"
                    asking = connection.ask("POST", "/v1/search", {"image_id": picture})
                else:
                    one, other = random.sample(self._words[: self._users.words], 2)
                    text = urlencode({"text": f"a {one} beside a {other}"})
                    asking = connection.ask("GET", f"/v1/search?{text}")
                await self._count(SEARCH, asking)
                await asyncio.sleep(self._users.pause_s)

    async def _poll_once(self, http: httpx.AsyncClient) -> int:
        try:
            return (await http.get(self._job)).status_code
        except httpx.TransportError:
            return NO_ANSWER

    async def _count(self, kind: str, asking: Awaitable[int]) -> None:
        started = time.perf_counter()
        status = await asking
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
