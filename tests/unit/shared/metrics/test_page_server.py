import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from deploy.ports import free_port, is_free
from shared.download.own_services import FETCH_HEADER
from shared.errors import ConfigError
from shared.metrics import page_server
from shared.metrics.page_server import MAX_CLIENTS, PageServer, serve
from tests.stack import eventually

HOST = "127.0.0.1"
# A parent that serves, with a child that it forked, which lives on.
PARENT = """
import os, sys, time
from shared.metrics.page_server import serve
serve(lambda: b"", "127.0.0.1", int(sys.argv[1]))
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = serve(lambda: b"image_search_build_info 1\n", HOST, free_port())
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def url(server: PageServer) -> str:
    return f"http://{HOST}:{server.server_address[1]}"


def connection_to(server: PageServer, sent: bytes) -> socket.socket:
    client = socket.create_connection((HOST, server.server_address[1]), timeout=30)
    client.sendall(sent)
    return client


def test_the_page_and_nothing_else_is_shown(url: str) -> None:
    shown = httpx.get(f"{url}/metrics?name=any")
    assert (shown.status_code, shown.text) == (200, "image_search_build_info 1\n")
    assert shown.headers["Content-Type"] == page_server.CONTENT_TYPE
    assert [httpx.get(url + path).status_code for path in ("/", "/metrics/x", "/../etc/passwd")] == [404] * 3
    methods = ("DELETE", "HEAD", "OPTIONS", "POST", "PUT")
    assert {httpx.request(method, f"{url}/metrics").status_code for method in methods} == {501}


def test_what_is_no_url_is_not_found_without_a_word_in_the_log(
    server: PageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection_to(server, b"GET http://[::1/metrics HTTP/1.1\r\n\r\n") as client:
        assert client.makefile("rb").readline().split()[1] == b"404"
    assert capfd.readouterr() == ("", "")


def test_a_probe_asks_for_nothing_that_could_be_slow(server: PageServer, url: str) -> None:
    def render() -> bytes:
        raise AssertionError("read for a probe")

    server.render = render
    probed = httpx.get(f"{url}/healthz")
    assert (probed.status_code, probed.text) == (200, "ok\n")


def test_a_downloader_of_the_service_itself_is_refused(url: str) -> None:
    assert httpx.get(f"{url}/metrics", headers={FETCH_HEADER: "1"}).status_code == 403


def test_more_slow_clients_than_are_served_at_once_stop_nobody_else(server: PageServer, url: str) -> None:
    slow = [connection_to(server, b"GET /metrics HT") for _ in range(MAX_CLIENTS + 3)]
    assert [httpx.get(f"{url}/metrics").status_code for _ in range(2)] == [200] * 2
    assert [client.recv(1) for client in slow[:3]] == [b""] * 3, "those that came first were dropped"
    for client in slow:
        client.close()


def test_a_client_whose_time_is_over_is_dropped(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection_to(server, b"GET /metrics HTTP/1.1\r\nX-Slow: ") as client:
        monkeypatch.setattr(page_server, "CLIENT_SECONDS", 0)
        assert client.recv(1) == b""
    eventually(lambda: not server._clients)


def test_a_page_that_cannot_be_made_costs_its_scrape_alone(server: PageServer, url: str) -> None:
    whole = server.render
    server.render = lambda: 1 // 0  # type: ignore[assignment, return-value]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/metrics")
    server.render = whole
    assert httpx.get(f"{url}/metrics").status_code == 200


def test_a_port_that_is_taken_is_named(server: PageServer) -> None:
    port = server.server_address[1]
    with pytest.raises(ConfigError, match=f"{HOST}:{port}: the port is taken .* IMAGE_SEARCH_METRICS_PORT"):
        serve(lambda: b"", HOST, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "[::1]"])
def test_a_host_that_is_not_this_machine_s_is_named(host: str) -> None:
    with pytest.raises(ConfigError) as told:
        serve(lambda: b"", host, free_port())
    assert f"on {host}:" in str(told.value)
    assert "IMAGE_SEARCH_METRICS_HOST" in str(told.value)
    assert "\n" not in str(told.value)


def test_what_a_killed_process_had_forked_does_not_hold_its_port() -> None:
    port = free_port()
    command = [sys.executable, "-c", PARENT, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            assert not is_free(HOST, port)
            parent.kill()
            eventually(lambda: is_free(HOST, port))
        finally:
            os.kill(child, signal.SIGKILL)
