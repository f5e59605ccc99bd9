"""Downloads: which addresses may be reached, what ends a download, and what each ending is called."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import pytest

from image_search.models.error_codes import worth_retrying
from shared.download.addresses import AddressPolicy
from shared.download.downloader import Downloader
from shared.errors import ConfigError, ItemError, Unavailable
from tests.image_server import ImageServer
from tests.raw_server import raw_server

REFUSED_ADDRESSES = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1
198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:10::1 2001:db8::1
2002:7f00:1:: 2002:a9fe:a9fe::1 2002:c0a8:101::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254
fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 not-an-address
""".split()  # noqa: SIM905 - a list would take a line each
PUBLIC_ADDRESSES = """
1.1.1.1 8.8.8.8 172.32.0.1 193.0.0.1 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001:82b::200e
::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1
""".split()  # noqa: SIM905 - a list would take a line each
LOOPBACK_SPELLINGS = """
127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 0177.1 127.0.0.1.
0x7F.0x0.0x0.0x1 [::1] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:0:0:1] [::127.0.0.1] localhost LOCALHOST
localhost. 0.0.0.0 0 [::] [64:ff9b::127.0.0.1] [2002:7f00:1::]
""".split()  # noqa: SIM905 - a list would take a line each
MALFORMED_ENTRIES = """
10.0.0.0/99 http://minio minio/8 minio: minio:0 minio:65536 minio:http minio:80:80 minio:80/x :80 [::1]:
[::1]80 [::1 ::1] [minio] [minio]:80 fd00::/8:443 [fd00::]/8 [10.0.0.1]:80 10.0.0.0/8: 999.1.1.1 -:-
*.example.com example..com user@minio
""".split()  # noqa: SIM905 - a list would take a line each
INVALID_URLS = [
    "",
    "   ",
    "not a url",
    "photo.jpg",
    "/photo.jpg",
    "//host/photo.jpg",
    "http:",
    "http://",
    "http:///photo.jpg",
    "http://:80/",
    "ftp://example.com/a.jpg",
    "file:///etc/passwd",
    "gopher://example.com/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "http://user@example.com/",
    "http://user:secret@example.com/",
    "http://:secret@example.com/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:port/",
    "http://exa mple.com/",
    "http://example..com/",
    "http://.example.com/",
    f"http://{'a' * 64}.com/",
    f"http://{'a.' * 130}com/",
    "http://[::1/",
    "http://[::g]/",
    "http://999.1.1.1/",
    "http://exa\nmple.com/",
    "http://example.com/\0",
    "http://\u2603\u0301.\ud800/",
]


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.fixture
def make() -> Iterator[Callable[..., Downloader]]:
    made: list[Downloader] = []

    def build(
        timeout_s: float = 20,
        whole_s: float | None = None,
        max_bytes: int = 2**20,
        allow_hosts: Sequence[str] = ("127.0.0.1",),
        **options: Any,
    ) -> Downloader:
        made.append(
            Downloader(
                timeout_s=timeout_s,
                whole_s=whole_s or 10 * timeout_s,
                max_bytes=max_bytes,
                allow_hosts=allow_hosts,
                **options,
            )
        )
        return made[-1]

    yield build
    for downloader in made:
        downloader.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listens on every address of the loopback network; `_was_reached` says whether anyone ever connected."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        listening.setblocking(False)
        yield listening


def _was_reached(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _failure(action: Callable[[], object]) -> ItemError:
    with pytest.raises(ItemError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not AddressPolicy([]).permits("example.com", 80, address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_permitted(address: str) -> None:
    assert AddressPolicy([]).permits("example.com", 80, address)


@pytest.mark.parametrize(
    ("entry", "host", "address"),
    [
        ("10.1.2.3", "example.com", "10.1.2.3"),
        ("10.0.0.0/8", "example.com", "10.9.9.9"),
        ("10.0.0.7/8", "example.com", "10.9.9.9"),
        ("10.0.0.0/8", "example.com", "::ffff:10.9.9.9"),
        ("fd00::/8", "example.com", "fd12::1"),
        ("[::1]", "example.com", "::1"),
        ("Minio.Internal.", "minio.internal", "10.9.9.9"),
    ],
)
def test_an_allowed_host_or_network_is_permitted(entry: str, host: str, address: str) -> None:
    assert AddressPolicy([entry]).permits(host, 80, address)


@pytest.mark.parametrize(
    ("entry", "host", "address"),
    [
        ("10.1.2.3", "example.com", "10.1.2.4"),
        ("minio", "minio.evil.com", "10.9.9.9"),
        ("minio", "evilminio", "10.9.9.9"),
        ("0.0.0.0/0", "example.com", "::1"),
    ],
)
def test_allowing_one_host_allows_no_other(entry: str, host: str, address: str) -> None:
    assert not AddressPolicy([entry]).permits(host, 80, address)


@pytest.mark.parametrize(
    ("entry", "host", "address"),
    [
        ("10.1.2.3:8080", "example.com", "10.1.2.3"),
        ("10.0.0.0/8:8080", "example.com", "10.9.9.9"),
        ("0x7f.1:8080", "example.com", "127.0.0.1"),
        ("[::1]:8080", "example.com", "::1"),
        ("[fd00::/8]:8080", "example.com", "fd12::1"),
        ("minio:8080", "MINIO", "10.9.9.9"),
        ("Minio.Internal.:8080", "minio.internal", "fd12::1"),
    ],
)
def test_an_entry_with_a_port_opens_that_one_alone(entry: str, host: str, address: str) -> None:
    policy = AddressPolicy([entry, "10.9.9.8"])
    ports = (80, 443, 808, 8080, 8081, 18080)
    assert [port for port in ports if policy.permits(host, port, address)] == [8080]
    assert [port for port in ports if policy.exempts(host, port, [address])] == [8080]


def test_several_entries_open_several_ports() -> None:
    policy = AddressPolicy(["10.0.0.1:80", "10.0.0.1:8080", "10.0.0.2", "10.0.0.2:80"])
    assert [port for port in (80, 81, 8080) if policy.permits("x", port, "10.0.0.1")] == [80, 8080]
    assert policy.permits("x", 81, "10.0.0.2")


@pytest.mark.parametrize("entry", ["", "a b", *MALFORMED_ENTRIES])
def test_a_malformed_allow_list_stops_the_start_with_a_line_that_names_the_entry(entry: str) -> None:
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_ALLOW_HOSTS") as refused:
        AddressPolicy(["example.com", entry])
    assert repr(entry) in refused.value.detail
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_no_spelling_of_a_local_address_is_ever_connected_to(
    host: str, make: Callable[..., Downloader], listener: socket.socket
) -> None:
    url = f"http://{host}:{listener.getsockname()[1]}/a.jpg"
    downloader = make(allow_hosts=())
    for action in (downloader.get, downloader.check, lambda url: downloader.post(url, b"", {})):
        assert _failure(lambda action=action: action(url)).code in ("blocked_address", "invalid_url")
    assert not _was_reached(listener)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost"]
)
def test_odd_spellings_are_blocked_rather_than_called_malformed(
    host: str, make: Callable[..., Downloader]
) -> None:
    assert _failure(lambda: make(allow_hosts=()).check(f"http://{host}/")).code == "blocked_address"


@pytest.mark.parametrize("url", INVALID_URLS)
def test_a_malformed_url_is_invalid(url: str, make: Callable[..., Downloader], names: dict[str, Any]) -> None:
    downloader = make()
    assert _failure(lambda: downloader.get(url)).code == "invalid_url"
    assert _failure(lambda: downloader.check(url)).code == "invalid_url"
    assert names["lookups"] == []


def test_one_private_address_among_public_ones_blocks_the_name(
    make: Callable[..., Downloader], names: dict[str, Any]
) -> None:
    names["mixed.test"] = ["93.184.216.34", "10.0.0.1"]
    error = _failure(lambda: make().get("http://mixed.test/a.jpg"))
    assert error.code == "blocked_address"
    assert "10.0.0.1" not in error.detail


def test_the_address_that_was_checked_is_the_one_connected_to(
    make: Callable[..., Downloader], server: ImageServer, names: dict[str, Any]
) -> None:
    names["rebound.test"] = ["127.0.0.1"]
    downloader = make()
    downloader.check(server.url("/photo/1.jpg", "rebound.test"))
    names["rebound.test"] = ["127.0.0.2"]  # not allowed, and nobody may ask again to find out
    assert downloader.get(server.url("/photo/1.jpg", "rebound.test"))[:2] == b"\xff\xd8"
    assert names["lookups"] == ["rebound.test"]


def test_an_unreachable_address_gives_way_to_the_next(
    make: Callable[..., Downloader], server: ImageServer, names: dict[str, Any]
) -> None:
    names["two.test"] = ["127.0.0.3", "127.0.0.1"]
    downloader = make(allow_hosts=("127.0.0.0/8",))
    assert downloader.get(server.url("/photo/1.jpg", "two.test"))


def test_an_unknown_name_is_a_dns_error_and_is_not_asked_for_again_at_once(
    make: Callable[..., Downloader], names: dict[str, Any]
) -> None:
    downloader = make()
    for _ in range(3):
        error = _failure(lambda: downloader.get("http://nowhere.test/"))
        assert (error.code, error.transient) == ("dns_error", True)
    assert names["lookups"] == ["nowhere.test"]


def test_a_look_up_that_hangs_ends_with_the_deadline(
    make: Callable[..., Downloader], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    assert _failure(lambda: make(timeout_s=0.2).get("http://hanging.test/")).code == "dns_error"
    release.set()


@pytest.mark.parametrize("where", ["/redirect-to?url={}", "/redirect-to?status=308&url={}"])
@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/a.jpg", "//127.0.0.2:{port}/a.jpg", "http://0:{port}/"]
)
def test_a_redirect_to_a_private_address_is_blocked(
    where: str, target: str, make: Callable[..., Downloader], server: ImageServer, listener: socket.socket
) -> None:
    url = target.format(port=listener.getsockname()[1])
    error = _failure(lambda: make().get(server.url(where.format(quote(url)))))
    assert error.code == "blocked_address"
    assert not _was_reached(listener)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user:x@127.0.0.1/", "http://a b/"]
)
def test_a_redirect_to_an_invalid_url_is_invalid(
    target: str, make: Callable[..., Downloader], server: ImageServer
) -> None:
    assert _failure(lambda: make().get(server.url(f"/redirect-to?url={quote(target)}"))).code == "invalid_url"


@pytest.mark.parametrize(
    "host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:127.0.0.1]", "127.1"]
)
def test_an_address_is_reached_in_every_notation(host: str, make: Callable[..., Downloader]) -> None:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    if family is socket.AF_INET and host != "127.1":
        pytest.skip("needs IPv6")
    with socket.create_server(("", 0), family=family, dualstack_ipv6=family is socket.AF_INET6) as listening:
        listening.settimeout(10)
        with ThreadPoolExecutor(1) as threads:
            url = f"http://{host}:{listening.getsockname()[1]}/"
            content = threads.submit(make(allow_hosts=("127.0.0.1", "::1")).get, url)
            with listening.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                assert content.result(10) == b"ok"


def test_a_redirect_to_a_port_that_is_not_allowed_is_blocked(
    make: Callable[..., Downloader], server: ImageServer, listener: socket.socket
) -> None:
    downloader = make(allow_hosts=[f"127.0.0.1:{server.port}"])
    assert downloader.get(server.url("/redirect/1"))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    for action in (
        lambda: downloader.get(server.url(f"/redirect-to?url={quote(url)}")),
        lambda: downloader.get(url),
        lambda: downloader.check(url),
        lambda: downloader.post(url, b"{}", {}),
    ):
        assert _failure(action).code == "blocked_address"
    assert not _was_reached(listener)


def test_five_redirects_are_followed_and_six_are_not(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    downloader = make()
    assert downloader.get(server.url("/redirect/5")) == downloader.get(server.url("/photo/1.jpg"))
    assert _failure(lambda: downloader.get(server.url("/redirect/6"))).code == "too_many_redirects"
    assert _failure(lambda: downloader.get(server.url("/redirect-loop"))).code == "too_many_redirects"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/truncated.jpg", "connect_error"),
        ("/garbage", "connect_error"),
        ("/broken-gzip", "connect_error"),
        ("/encoding/br", "not_an_image"),
        ("/empty", "not_an_image"),
        ("/huge", "too_large"),
        ("/endless", "too_large"),
        ("/gzip-bomb", "too_large"),
    ],
)
def test_each_misbehaviour_has_its_code(
    path: str, code: str, make: Callable[..., Downloader], server: ImageServer
) -> None:
    assert _failure(lambda: make().get(server.url(path))).code == code


@pytest.mark.parametrize(("path", "known"), [("/photo/1.jpg", True), ("/gzip", False)])
def test_who_downloads_is_told_how_much_comes_and_may_wait(
    path: str, known: bool, make: Callable[..., Downloader], server: ImageServer
) -> None:
    def hold(size: int) -> None:
        told.append(size)
        time.sleep(0.5)

    told: list[int] = []
    content = make(timeout_s=0.4, whole_s=0.4, max_bytes=999_999).get(server.url(path), hold=hold)
    assert told == [len(content) if known else 999_999]


def test_who_downloads_may_stop_before_the_content(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    def hold(_: int) -> None:
        raise Unavailable("It is too much.")

    with pytest.raises(Unavailable):
        make().get(server.url("/endless"), hold=hold)


@pytest.mark.parametrize("path", ["/hang", "/slow?s=60"])
def test_a_host_may_be_silent_for_so_long(
    path: str, make: Callable[..., Downloader], server: ImageServer
) -> None:
    error = _failure(lambda: make(timeout_s=0.4).get(server.url(path)))
    assert (error.code, error.transient) == ("timeout", True)
    assert error.detail == "nothing came for 0.4 s (IMAGE_SEARCH_FETCH_TIMEOUT_S)"


@pytest.mark.parametrize("path", ["/slow?s=60", "/slow-headers"])
def test_a_trickle_ends_with_the_whole_and_is_not_asked_for_again(
    path: str, make: Callable[..., Downloader], server: ImageServer
) -> None:
    started = time.monotonic()
    error = _failure(lambda: make(timeout_s=5, whole_s=1).get(server.url(path)))
    assert time.monotonic() - started < 5
    assert (error.code, error.transient) == ("timeout", False)
    assert error.detail == "the whole took more than 1 s (IMAGE_SEARCH_FETCH_TIMEOUT_S is 5)"
    assert not worth_retrying(error.code, error.detail)


def test_what_comes_steadily_may_take_longer_than_any_silence(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    assert make(timeout_s=1.5).get(server.url("/slow?s=4"))[:2] == b"\xff\xd8"


def test_the_whole_holds_for_all_redirects_together(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    url = "/photo/1.jpg"
    for _ in range(4):
        url = f"/redirect-to?ms=300&url={quote(url, safe='')}"
    assert _failure(lambda: make(whole_s=0.8).get(server.url(url))).code == "timeout"
    assert make(timeout_s=1.5).get(server.url(url))[:2] == b"\xff\xd8"


def test_the_deadline_holds_for_a_tls_handshake_that_never_comes(
    make: Callable[..., Downloader], listener: socket.socket
) -> None:
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    assert _failure(lambda: make(timeout_s=0.3).get(url)).code == "timeout"


def test_a_refused_connection_is_said_to_be_so(make: Callable[..., Downloader]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = _failure(lambda: make().get(f"http://127.0.0.1:{port}/"))
    assert (error.code, error.detail, error.transient) == (
        "connect_error",
        "the connection was refused",
        True,
    )


def test_plain_http_on_a_tls_port_is_a_connect_error(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    url = server.url("/photo/1.jpg").replace("http:", "https:")
    assert _failure(lambda: make().get(url)).code == "connect_error"


@pytest.mark.parametrize(
    ("status", "detail", "transient"),
    [
        (404, "404 Not Found", False),
        (403, "403 Forbidden", False),
        (429, "429 Too Many Requests", True),
        (503, "503 Service Unavailable", True),
        (599, "599", True),
        (304, "304 Not Modified", False),
        (302, "302 Found", False),
    ],
)
def test_a_status_that_is_not_2xx_fails_with_its_name(
    status: int, detail: str, transient: bool, make: Callable[..., Downloader], server: ImageServer
) -> None:
    error = _failure(lambda: make().get(server.url(f"/status/{status}")))
    assert (error.code, error.detail, error.http_status) == ("http_status", detail, status)
    assert error.transient is transient
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), ("0", 0), ("-7", None), ("soon", None), ("1e3", None), ("9" * 30, 86400)],
)
def test_retry_after_in_seconds_is_read(
    value: str, expected: float | None, make: Callable[..., Downloader], server: ImageServer
) -> None:
    error = _failure(lambda: make().get(server.url(f"/retry-after/{value}")))
    assert (error.http_status, error.retry_after_s) == (429, expected)


def test_retry_after_as_a_date_is_read(make: Callable[..., Downloader], server: ImageServer) -> None:
    for seconds, low, high in ((1000, 900, 1001), (-1000, 0, 0)):
        date = quote(formatdate(time.time() + seconds, usegmt=True))
        error = _failure(lambda date=date: make().get(server.url(f"/retry-after/x?date={date}")))
        assert error.retry_after_s is not None
        assert low <= error.retry_after_s <= high


def test_what_the_server_calls_the_content_does_not_matter(
    make: Callable[..., Downloader], server: ImageServer
) -> None:
    downloader = make()
    assert downloader.get(server.url("/wrong-type.jpg"))[:2] == b"\xff\xd8"
    assert downloader.get(server.url("/gzip")) == downloader.get(server.url("/wrong-type.jpg"))


def test_a_body_of_exactly_the_limit_passes(make: Callable[..., Downloader], server: ImageServer) -> None:
    size = len(make().get(server.url("/photo/1.jpg")))
    assert len(make(max_bytes=size).get(server.url("/photo/1.jpg"))) == size
    assert _failure(lambda: make(max_bytes=size - 1).get(server.url("/photo/1.jpg"))).code == "too_large"


def test_requests_say_who_asks_and_ignore_proxies(
    make: Callable[..., Downloader], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ImageServer() as fresh:
        make().get(fresh.url("/photo/1.jpg"))
        (agent,) = fresh.user_agents
    assert agent.startswith("image-search/")
    assert agent.endswith("(+bulk image ingestion)")


def test_connections_are_kept_and_replaced_when_the_server_drops_one(make: Callable[..., Downloader]) -> None:
    downloader = make()
    with ImageServer() as fresh:
        for _ in range(3):
            downloader.get(fresh.url("/photo/1.jpg"))
            _failure(lambda: downloader.get(fresh.url("/status/404")))
        assert fresh.connections == 1
        for _ in range(3):
            downloader.get(fresh.url("/drop-reused"))


def test_many_threads_share_a_downloader(make: Callable[..., Downloader], server: ImageServer) -> None:
    downloader = make()
    with ThreadPoolExecutor(64) as threads:
        urls = [server.url(f"/photo/{number % 8}.jpg?w=64&h=48") for number in range(256)]
        bodies = list(threads.map(downloader.get, urls))
    assert len(set(bodies)) == 8
    assert bodies[:8] * 32 == bodies


def test_a_post_delivers_body_and_headers_and_follows_no_redirect(make: Callable[..., Downloader]) -> None:
    downloader = make()
    with ImageServer() as fresh:
        assert downloader.post(fresh.url("/text?a=1"), b"{}", {"X-Signature": "abc"}) == 200
        assert downloader.post(fresh.url("/status/500"), b"{}", {}) == 500
        assert downloader.post(fresh.url("/redirect/1"), b"{}", {}) == 302
        path, headers, body = fresh.posts[0]
        assert (path, headers["X-Signature"], body) == ("/text?a=1", "abc", b"{}")
        assert "/photo/1.jpg" not in fresh.hits


def test_a_check_connects_to_nothing(make: Callable[..., Downloader], listener: socket.socket) -> None:
    make().check(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert not _was_reached(listener)


def test_tls_and_host_keep_the_name_although_the_address_is_connected_to(
    make: Callable[..., Downloader], names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path, "named.test")
    names["named.test"] = names["other.test"] = ["127.0.0.1"]
    seen: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    with ImageServer() as secure:
        secure.use_tls(context)
        url = f"https://named.test:{secure.port}/photo/1.jpg"
        error = _failure(lambda: make().get(url))
        assert "no authority that is trusted here has signed it (IMAGE_SEARCH_CA_BUNDLE" in error.detail
        assert (error.code, error.transient) == ("connect_error", False)
        assert not worth_retrying(error.code, error.detail)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert make().get(url)[:2] == b"\xff\xd8"
        assert secure.hosts == {f"named.test:{secure.port}"}
        ours = tmp_path / "ours.pem"
        ours.write_bytes(certificate.read_bytes())
        downloader = make(ca_bundle=ours)
        assert downloader.get(url)[:2] == b"\xff\xd8"
        ours.unlink()
        error = _failure(lambda: make(ca_bundle=ours).get(url))
        assert "IMAGE_SEARCH_CA_BUNDLE" in error.detail
        assert not error.transient
        assert not worth_retrying(error.code, error.detail)
        error = _failure(lambda: make().get(url.replace("named", "other")))
        assert error.detail == "the server's certificate is not trusted: it is for another name"
    assert seen == ["named.test"] * (len(seen) - 1) + ["other.test"]


@pytest.mark.parametrize("path", ["/hang", "/slow?s=60", "/slow-headers"])
def test_a_download_that_is_called_off_ends_within_a_second_or_two(
    path: str, make: Callable[..., Downloader], server: ImageServer
) -> None:
    called_off = threading.Event()
    threading.Timer(0.5, called_off.set).start()
    before = time.monotonic()
    error = _failure(lambda: make(timeout_s=8).get(server.url(path), called_off=called_off))
    assert time.monotonic() - before < 3
    assert (error.code, error.transient, error.blames_host) == ("connect_error", False, False)


@pytest.mark.parametrize(
    ("head", "whole"),
    [
        ("HTTP/1.0 200 OK\r\n", True),
        ("HTTP/1.1 200 OK\r\n", True),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n", True),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n", True),
        ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n", False),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", False),
    ],
)
def test_tls_that_closes_without_notice_ends_what_the_close_ends(
    head: str, *, whole: bool, make: Callable[..., Downloader], names: dict[str, Any], tmp_path: Path
) -> None:
    certificate, key = _certificate(tmp_path, "named.test")
    names["named.test"] = ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    content = b"a\r\n12345678" + b"90\r\n" if "Chunked" in head else b"1234567890"
    downloader = make(ca_bundle=certificate)
    with raw_server(head.encode() + b"\r\n" + content, tls=context) as server:
        url = server.url(host="named.test").replace("http", "https", 1)
        if whole:
            assert downloader.get(url) == content
        else:
            assert _failure(lambda: downloader.get(url)).detail == "the answer broke off"
        assert len(server.heads) == 1


def test_certificates_are_found_in_files_and_folders_of_any_name(
    make: Callable[..., Downloader], names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path, "named.test")
    names["named.test"] = ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    folder = tmp_path / "zertifikate für häuser"
    folder.mkdir()
    (folder / "a.pem").write_bytes(certificate.read_bytes())
    subprocess.run(["openssl", "rehash", str(folder)], check=True, capture_output=True, timeout=30)
    with ImageServer() as secure:
        secure.use_tls(context)
        url = f"https://named.test:{secure.port}/photo/1.jpg"
        assert make(ca_bundle=folder / "a.pem").get(url)[:2] == b"\xff\xd8"
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
        assert make().get(url)[:2] == b"\xff\xd8"
        monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
        assert "not trusted" in _failure(lambda: make().get(url)).detail


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    try:
        subprocess.run(
            [*command, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True, timeout=30
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs openssl to make a certificate")
    return certificate, key
