"""What the contract suites run against: two kinds of Redis, two of Chroma."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from shared.index.index import Index
from shared.ledger.ledger import Ledger
from tests.chroma_server import ChromaServer
from tests.redis_server import fake_ledger, redis_server
from tests.unit.fakes import index_in

NewIndex = Callable[[], Index]


@pytest.fixture(params=["in_process", "served"])
def backends(request: pytest.FixtureRequest) -> str:
    """Where Redis and Chroma are: neither knows of the other, so both change together."""
    return str(request.param)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ChromaServer(tmp_path_factory.mktemp("served") / "chroma") as server:
        yield server.url


@pytest.fixture
def new_index(backends: str, request: pytest.FixtureRequest, tmp_path: Path) -> NewIndex:
    """Makes indexes as other processes have them: same data, nothing else shared."""
    if backends == "in_process":
        return lambda: index_in(tmp_path)
    url = request.getfixturevalue("served")
    return lambda: Index(url)


@pytest.fixture
def index(backends: str, new_index: NewIndex) -> Iterator[Index]:
    index = new_index()
    yield index
    for info in index.collections() if backends == "served" else ():
        index.delete(info.name)


@pytest.fixture(scope="session")
def real_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def ledger(backends: str, request: pytest.FixtureRequest) -> Ledger:
    if backends == "in_process":
        return fake_ledger()
    url = request.getfixturevalue("real_redis")
    redis.Redis.from_url(url).flushall()
    return Ledger(url)
