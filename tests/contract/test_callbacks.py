"""Hosts that hang, by the hundred, do not hold up the callback of one that answers."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from shared.config import Settings
from shared.errors import ItemError
from shared.services import Services, build_services
from tests.contract.test_ledger import make_job
from tests.image_server import ImageServer
from tests.stack import eventually
from worker.recovery.callbacks import send_callbacks_until

HANGING = 120
MAX_WAIT_SECONDS = 10.0


@pytest.fixture
def services(real_redis: str, tmp_path: Path) -> Services:
    redis.Redis.from_url(real_redis).flushall()
    return build_services(
        Settings(redis_url=real_redis, blob_url=f"file://{tmp_path}/blobs", allow_hosts=["127.0.0.0/8"])
    )


@pytest.fixture
def good() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture
def sending(services: Services) -> Iterator[None]:
    """A sweeper's callbacks are being sent."""
    stopped = threading.Event()
    thread = threading.Thread(target=send_callbacks_until, args=(services, stopped), daemon=True)
    thread.start()
    yield
    stopped.set()
    thread.join(10)


@pytest.fixture(scope="module")
def hanging() -> Iterator[list[int]]:
    """Ports at which connections are taken by the system and nobody ever answers."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in range(HANGING)
        ]
        yield [listener.getsockname()[1] for listener in listeners]


def end_job(services: Services, callback_url: str) -> None:
    services.ledger.cancel(make_job(services.ledger, total=1, callback_url=callback_url))


def called_after_s(services: Services, good: ImageServer, path: str) -> float:
    """How long after its job's end a receiver that answers is called."""
    end_job(services, good.url(path))
    ended = time.monotonic()
    eventually(lambda: any(to == path for to, _, _ in good.posts), 60)
    return time.monotonic() - ended


@pytest.mark.parametrize("answers", ["/hang", "/slow-headers"])
@pytest.mark.usefixtures("sending")
def test_one_host_that_hangs_in_many_jobs_has_few_calls_at_once(
    services: Services, good: ImageServer, answers: str
) -> None:
    with ImageServer() as bad:
        for _ in range(HANGING):
            end_job(services, bad.url(answers))
        assert called_after_s(services, good, "/text?1") < MAX_WAIT_SECONDS
        time.sleep(1)
        assert len(bad.posts) <= 4


@pytest.mark.usefixtures("sending")
def test_many_hosts_that_hang_do_not_hold_up_one_that_answers(
    services: Services, good: ImageServer, hanging: list[int]
) -> None:
    for port in hanging:
        end_job(services, f"http://127.0.0.1:{port}/")
    assert called_after_s(services, good, "/text?1") < MAX_WAIT_SECONDS
    for port in hanging:  # they have hung before
        end_job(services, f"http://127.0.0.1:{port}/")
    assert called_after_s(services, good, "/text?2") < MAX_WAIT_SECONDS, "known"
    with ImageServer() as new:
        assert called_after_s(services, new, "/text?3") < MAX_WAIT_SECONDS, "new"


@pytest.mark.usefixtures("sending")
def test_names_that_do_not_resolve_do_not_hold_up_one_that_answers(
    services: Services, good: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: str, *rest: object, **options: object) -> object:
        if host.endswith(".test"):
            release.wait(60)
            raise OSError
        return look_up(host, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        for number in range(2 * HANGING):
            end_job(services, f"http://hangs{number}.test/")
        assert called_after_s(services, good, "/text?1") < MAX_WAIT_SECONDS
    finally:
        release.set()


def test_nothing_is_asked_of_the_ledger_s_redis(services: Services, real_redis: str) -> None:
    url = real_redis.replace("redis://", "http://")
    for action in (services.downloader.get, lambda url: services.downloader.post(url, b"{}", {})):
        with pytest.raises(ItemError, match="this service itself") as refused:
            action(url)
        assert refused.value.code == "blocked_address"


@pytest.mark.usefixtures("sending")
def test_one_that_takes_longer_than_most_is_told_all_the_same(services: Services) -> None:
    with ImageServer() as late:
        for n in range(2):
            end_job(services, late.url(f"/photo/1.jpg?ms=5000&n={n}"))

        def taken() -> bool:
            left = services.ledger._redis.client.zcard(f"is:callbacks:127.0.0.1:{late.port}")
            calling = services.ledger._redis.client.zcard(f"is:calling:127.0.0.1:{late.port}")
            return bool(len(late.posts) >= 2 and not left + calling)

        eventually(taken, 60)
        tried = [path for path, _, _ in late.posts]
        assert len(tried) <= 4
        assert min(tried.count(path) for path in set(tried)) == 1, "once it is known to take its time"


@pytest.mark.usefixtures("sending")
def test_a_receiver_that_comes_back_is_told(services: Services, good: ImageServer) -> None:
    port = good.port
    good.__exit__()
    end_job(services, f"http://127.0.0.1:{port}/text?1")
    eventually(lambda: services.ledger._redis.client.zcard("is:receivers:failing"), 10)
    with ImageServer(port=port) as back:
        eventually(lambda: back.posts, 30)
        assert called_after_s(services, back, "/text?2") < MAX_WAIT_SECONDS
