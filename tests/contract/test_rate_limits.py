"""Rate limits on a real Redis: counted for all servers together; none waits for one that hangs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.api_keys import create_key
from shared.ledger.scripts import PREFIX
from tests.unit.fakes import Api, make_api, make_services


@pytest.fixture
def hanging_redis() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def make_servers(folder: Path, url: str) -> tuple[list[Api], str]:
    services = make_services(folder, rate_limit="4/hour", redis_url=url)
    key = create_key(services.blobs, "", ["search"])
    return [make_api(folder, services) for _ in range(2)], key


def status(api: Api, key: str) -> int:
    return api.http.get("/v1/collections", headers={"Authorization": f"Bearer {key}"}).status_code


def test_all_servers_count_together(tmp_path: Path, real_redis: str) -> None:
    servers, key = make_servers(tmp_path, real_redis)
    assert [status(api, key) for api in servers * 3] == [200] * 4 + [429] * 2
    client = redis.Redis.from_url(real_redis)
    counters = list(client.scan_iter(f"{PREFIX}limit*"))
    assert counters
    assert all(client.ttl(counter) > 0 for counter in counters)


def test_a_redis_that_hangs_is_left_out(tmp_path: Path, hanging_redis: str) -> None:
    (api, _), key = make_servers(tmp_path, hanging_redis)
    assert [status(api, key) for _ in range(6)] == [200] * 4 + [429] * 2
