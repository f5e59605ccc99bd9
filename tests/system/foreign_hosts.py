"""Hosts at public addresses, asked by real workers without ALLOW_HOSTS: politeness, breakers, addresses, TLS.

test_foreign_hosts.py runs this in a network of its own, where one server stands at every address.
"""

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.ledger.hosts import FAILURES_TO_OPEN
from tests.image_server import make_photo
from tests.stack import Stack, eventually, finished

PUBLIC, TRUSTED, UNTRUSTED = "93.184.216.34", "93.184.216.35", "93.184.216.36"
RATE = 10
NAMES = Path(os.environ.get("FOREIGN_NAMES", "/nowhere"))


@dataclass(frozen=True)
class Request:
    at: float
    address: str  # that the client connected to
    host: str
    path: str


class World(ThreadingHTTPServer):
    """Answers for every host, at whatever address; `answers` are what one answers with instead of a photo.

    `requests` are those so far, `connections` counts them by the address that was connected to.
    """

    daemon_threads = True
    request_queue_size = 256
    address_family = socket.AF_INET

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections: list[str] = []
        self.answers: dict[str, bytes] = {}
        super().__init__((address, port), Handler)
        self.tls = tls
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        self.connections.append(connection.getsockname()[0])
        if self.tls is not None:
            connection.settimeout(10)
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not trust a certificate break off; that is no error here."""

    def asked(self, host: str) -> list[Request]:
        return [one for one in self.requests if one.host == host]


class Handler(BaseHTTPRequestHandler):
    server: World
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        host = self.headers["Host"]
        address = self.connection.getsockname()[0]
        self.server.requests.append(Request(time.monotonic(), address, host, self.path))
        answer = self.server.answers.get(host + self.path) or self.server.answers.get(host)
        if answer is None:
            photo = make_photo(abs(hash(host + self.path)) % 2**31, 64, 48)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo
        self.wfile.write(answer)


def redirect(url: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    running = World("0.0.0.0", 80)
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a private authority, a certificate of its own for TRUSTED, and one of nobody's."""
    folder = tmp_path_factory.mktemp("authority")
    new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    (folder / "names").write_text(f"subjectAltName=IP:{TRUSTED},DNS:shop.example\n", encoding="utf-8")
    for command in (
        f"{new} -x509 -keyout ca.key -out ca.pem",
        f"{new} -keyout trusted.key -out trusted.csr",
        "x509 -req -in trusted.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names "
        "-out trusted.pem",
        f"{new} -x509 -keyout untrusted.key -out untrusted.pem -addext subjectAltName=DNS:untrusted.example",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder


def tls(authority: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")
    return context


@pytest.fixture(scope="module")
def secure(authority: Path) -> World:
    return World(TRUSTED, 443, tls(authority, "trusted"))


@pytest.fixture(scope="module")
def insecure(authority: Path) -> World:
    return World(UNTRUSTED, 443, tls(authority, "untrusted"))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, authority: Path, world: World) -> Iterator[httpx.Client]:
    """A client of a stack of two fetch workers, and `failing.example` meanwhile already in trouble."""
    settings = {"HOST_RATE": str(RATE), "CHUNK_SIZE": "4", "FETCH_TIMEOUT_S": "2", "ALLOW_HOSTS": ""}
    settings |= {"CA_BUNDLE": str(authority / "ca.pem")}
    with (
        Stack(tmp_path_factory.mktemp("foreign"), fetch_workers=2, **settings) as stack,
        httpx.Client(base_url=stack.url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def failing(http: httpx.Client, world: World) -> httpx.Response:
    """The job of a host that fails, which goes on while the other tests run."""
    named("failing.example", PUBLIC)
    world.answers["failing.example"] = status("503 Service Unavailable")
    return ingest(http, [f"http://failing.example/{number}" for number in range(16)])


def named(name: str, *addresses: str) -> None:
    """From now on a name has these addresses."""
    lines = [one for one in NAMES.read_text(encoding="utf-8").splitlines() if name not in one.split()]
    lines += [f"{address} {name}" for address in addresses]
    NAMES.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ingest(http: httpx.Client, urls: list[str]) -> httpx.Response:
    return http.post("/v1/jobs", json={"urls": urls, "collection": "foreign"})


def items(http: httpx.Client, urls: list[str]) -> list[dict[str, Any]]:
    job = finished(http, ingest(http, urls))
    found: list[dict[str, Any]] = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return found


def statuses(found: list[dict[str, Any]]) -> set[str]:
    return {one["status"] for one in found}


@pytest.mark.usefixtures("failing")
def test_two_workers_together_keep_to_a_host_s_rate(http: httpx.Client, world: World) -> None:
    named("polite.example", PUBLIC)
    found = items(http, [f"http://polite.example/{number}" for number in range(50)])
    assert statuses(found) == {"indexed"}
    times = [one.at for one in world.asked("polite.example")]
    assert len(times) == 50
    for number, at in enumerate(times):
        within = sum(at <= other < at + 1 for other in times[number:])
        assert within <= 2 * RATE + 2, "a burst of one second's worth, and what came to be meanwhile"
    assert times[-1] - times[0] > (50 - RATE) / RATE - 0.5


@pytest.mark.usefixtures("failing")
def test_no_address_inside_is_ever_connected_to(http: httpx.Client, world: World) -> None:
    named("inside.example", "10.0.0.7")
    named("half.example", PUBLIC, "192.168.1.1")
    named("open.example", PUBLIC)
    inside = ["http://127.0.0.1/", "http://10.0.0.7/", "http://169.254.169.254/latest", "http://[::1]/"]
    inside += ["http://inside.example/", "http://half.example/", "http://0x7f.1/", "//inside.example/"]
    for number, target in enumerate(inside):
        world.answers[f"open.example/{number}"] = redirect(target)
    direct = [one for one in inside if one.startswith("http")]
    found = items(http, direct + [f"http://open.example/{number}" for number in range(len(inside))])
    assert {(one["status"], one["code"]) for one in found} == {("failed", "blocked_address")}
    assert len(world.asked("open.example")) == len(inside)
    assert set(world.connections) <= {PUBLIC, TRUSTED, UNTRUSTED}


@pytest.mark.usefixtures("failing")
def test_a_name_that_moves_inside_after_its_check_is_not_followed_there(
    http: httpx.Client, world: World
) -> None:
    named("moving.example", PUBLIC)
    world.answers["moving.example/0"] = redirect("http://moving.example/1")
    assert statuses(items(http, ["http://moving.example/0"])) == {"indexed"}
    named("moving.example", "127.0.0.1")
    time.sleep(6)  # the connection is not kept any longer
    found = items(http, ["http://moving.example/2", "http://moving.example/3"])
    assert {(one["status"], one["code"]) for one in found} <= {
        ("indexed", None),
        ("failed", "blocked_address"),
    }
    assert {one.address for one in world.asked("moving.example")} == {PUBLIC}
    assert "127.0.0.1" not in world.connections


@pytest.mark.usefixtures("failing")
def test_what_retry_after_asks_for_is_waited_for(http: httpx.Client, world: World) -> None:
    named("later.example", PUBLIC)
    world.answers["later.example"] = status("429 Too Many Requests", "Retry-After: 4")
    accepted = ingest(http, ["http://later.example/0"])
    eventually(lambda: world.asked("later.example"))
    del world.answers["later.example"]
    assert finished(http, accepted)["counts"]["indexed"] == 1
    first, second = world.asked("later.example")
    assert 4 <= second.at - first.at < 12


@pytest.mark.usefixtures("failing")
def test_a_private_authority_is_trusted_by_name_and_address(http: httpx.Client, secure: World) -> None:
    named("shop.example", TRUSTED)
    found = items(http, ["https://shop.example/a", f"https://{TRUSTED}/b"])
    assert statuses(found) == {"indexed"}
    assert len(secure.requests) == 2


@pytest.mark.usefixtures("failing")
def test_a_certificate_that_is_not_trusted_costs_one_connection_a_picture_and_no_breaker(
    http: httpx.Client, insecure: World
) -> None:
    named("untrusted.example", UNTRUSTED)
    found = items(http, [f"https://untrusted.example/{number}" for number in range(30)])
    assert {(one["code"], one["attempts"]) for one in found} == {("connect_error", 1)}
    assert {one["detail"] for one in found} == {
        "the server's certificate is not trusted: no authority that is trusted here has signed it "
        "(IMAGE_SEARCH_CA_BUNDLE names others)"
    }
    assert (len(insecure.connections), insecure.requests) == (30, [])
    assert statuses(items(http, ["http://untrusted.example/plain"])) == {"indexed"}


@pytest.mark.usefixtures("failing")
def test_a_faulty_answer_is_asked_for_once_and_opens_no_breaker(http: httpx.Client, world: World) -> None:
    named("faulty.example", PUBLIC)
    number = 2 * FAILURES_TO_OPEN
    for one in range(number):
        world.answers[f"faulty.example/{one}"] = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
        )
    found = items(http, [f"http://faulty.example/{one}" for one in range(number)])
    assert {(one["code"], one["detail"]) for one in found} == {
        ("connect_error", "the answer is not valid HTTP")
    }
    assert len(world.asked("faulty.example")) == number
    assert statuses(items(http, ["http://faulty.example/sound"])) == {"indexed"}


def test_a_failing_host_is_left_alone_and_asked_again_once_it_answers(
    http: httpx.Client, world: World, failing: httpx.Response
) -> None:
    eventually(lambda: len(world.asked("failing.example")) >= FAILURES_TO_OPEN)
    time.sleep(3)
    before = world.asked("failing.example")
    # Those that were under way when the breaker opened come besides, but no more.
    assert FAILURES_TO_OPEN <= len(before) <= FAILURES_TO_OPEN + 8
    del world.answers["failing.example"]
    job = finished(http, failing)
    after = world.asked("failing.example")[len(before) :]
    assert after[0].at - before[-1].at > 20, "30 s from when the breaker opened"
    assert job["counts"]["indexed"] >= 8, "the breaker has closed"
