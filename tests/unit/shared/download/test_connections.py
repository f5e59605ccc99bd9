"""Handles of libcurl: lent, kept, closed, and sound after whatever happened."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import certifi
import pytest

from shared.download import connections
from shared.download.connections import Connections
from shared.download.downloader import Downloader
from shared.errors import ItemError
from tests.image_server import ImageServer
from tests.raw_server import raw_server

FILES = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    made = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.0/8"])
    yield made
    made.close()


def open_files() -> int:
    return sum(1 for _ in FILES.iterdir())


@pytest.mark.skipif(not FILES.is_dir(), reason="counts Linux's open files")
def test_many_hosts_leave_a_bounded_number_of_open_files(
    server: ImageServer, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MAX_IDLE", 10)
    downloader = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1"])
    names.update({f"h{number}.test": ["127.0.0.1"] for number in range(300)})
    before = open_files()
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda n: downloader.get(server.url("/text", f"h{n % 300}.test")), range(600)):
            assert open_files() - before < 8 * 10 + 18 * 5 * 2 + 20  # sockets of both ends, and handles' own
    downloader.close()
    assert open_files() - before < 80, "the server's ends are not at their end yet"


def test_a_host_gets_the_handle_that_is_connected_to_it_else_a_spare_one_else_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_SPARE", 3)
    pool = Connections(certifi.where())
    lent = together(pool, *"abc")
    assert together(pool, *"cba") == lent[::-1]
    (spare,) = together(pool, "d")
    assert spare is lent[0], "the longest idle"
    assert together(pool, "a") == together(pool, "d") == [spare], "it is still connected to both"
    *known, new = together(pool, *"abcx")
    assert known == lent
    assert new not in lent
    pool.close()


def test_stale_handles_are_closed_but_for_the_spare_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(connections, "_SPARE", 2)
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    pool = Connections(certifi.where())
    together(pool, *"abcd")
    assert len(pool._idle) == 4
    now[0] += connections.KEEPALIVE_SECONDS + 1
    for _ in range(5):
        together(pool, "d")
    assert len(pool._idle) == 2
    pool.close()


def together(pool: Connections, *hosts: str) -> list[Any]:
    """Have a handle for each host at the same time."""
    with ExitStack() as lent:
        return [lent.enter_context(pool.lent(host, 80)) for host in hosts]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, SystemExit, ZeroDivisionError])
def test_what_is_raised_meanwhile_comes_out_and_spoils_no_later_download(
    failure: type[BaseException], downloader: Downloader, server: ImageServer
) -> None:
    def hold(_: int) -> None:
        raise failure

    for _ in range(3):
        with pytest.raises(failure):
            downloader.get(server.url("/photo/1.jpg"), hold=hold)
        assert downloader.get(server.url("/photo/1.jpg"))[:2] == b"\xff\xd8"
        assert downloader.post(server.url("/text"), b"{}", {}) == 200


def test_a_post_is_sent_once_whatever_becomes_of_it(downloader: Downloader) -> None:
    with ImageServer() as fresh:
        downloader.get(fresh.url("/photo/1.jpg"))
        assert downloader.post(fresh.url("/text"), b"{}", {}) == 200
        assert fresh.connections == 2, "not over the kept connection"
    with raw_server(b"") as silent:
        with pytest.raises(ItemError, match="without an answer"):
            downloader.post(silent.url(), b"{}", {})
        assert len(silent.heads) == 1


def test_a_long_body_is_posted_without_being_announced_first(downloader: Downloader) -> None:
    with ImageServer() as fresh:
        body = b"x" * (3 * 2**20)
        assert downloader.post(fresh.url("/text"), body, {"Content-Type": "text/plain"}) == 200
        ((_, headers, sent),) = fresh.posts
        assert (sent, "Expect" in headers, headers["Content-Type"]) == (body, False, "text/plain")


def test_threads_that_fail_and_threads_that_do_not_share_a_downloader(
    downloader: Downloader, server: ImageServer
) -> None:
    paths = ["/photo/1.jpg", "/truncated.jpg", "/status/404", "/redirect/2", "/garbage", "/huge"]
    started = threading.Barrier(12)

    def ask(number: int) -> str:
        if number < 12:
            started.wait(10)
        try:
            return str(len(downloader.get(server.url(paths[number % 6]))))
        except ItemError as error:
            return error.code

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(ask, range(240)))
    assert found == found[:6] * 40
    assert found[1:3] + found[4:6] == ["connect_error", "http_status", "connect_error", "too_large"]


def test_an_idle_handle_keeps_no_content(downloader: Downloader, server: ImageServer) -> None:
    class Held:
        def __call__(self, _: int) -> None:
            """Take as much as comes."""

    for path in ("/photo/1.jpg", "/truncated.jpg", "/huge", "/status/404"):
        held = Held()
        gone = weakref.ref(held)
        with suppress(ItemError):
            downloader.get(server.url(path), hold=held)
        del held
        gc.collect()
        assert gone() is None
