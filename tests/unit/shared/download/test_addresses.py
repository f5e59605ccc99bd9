"""No URL that leads inside is ever connected to: for pictures, query pictures, callbacks and redirects alike.

Every connection that is tried, wherever to, lands at one real listener, and that one counts.
"""

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest

from api.jobs.ingest import check_options
from shared.download import resolver
from shared.download.addresses import AddressPolicy
from shared.download.downloader import Downloader
from shared.download.host_limits import HostLimits
from shared.errors import InvalidRequest, ItemError
from tests.image_server import ImageServer
from tests.unit.shared.download.diversion import divert

PUBLIC = "93.184.216.34"
OPEN_HOST = "open.test"  # allowed by name: where redirects start

BLOCKED = {
    "loopback": "127.0.0.1 127.0.0.53 127.255.255.255 [::1] [0:0:0:0:0:0:0:1] [0000::0001]",
    "unspecified": "0.0.0.0 0.0.0.1 0.255.255.255 [::] [0::0]",
    "private": "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 "
    "[fc00::] [fdff::1]",
    "shared": "100.64.0.0 100.127.255.255",
    "link-local": "169.254.0.0 169.254.255.255 [fe80::1] [febf::1] [fec0::1]",
    "metadata": "169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 192.0.0.192 [fd00:ec2::254] "
    "[fd20:ce::254] [fd00:42::42] [fe80::a9fe:a9fe]",
    "multicast": "224.0.0.1 239.255.255.255 [ff01::1] [ff02::1] [ff05::2] [ff0e::1]",
    "reserved": "240.0.0.1 255.255.255.254 255.255.255.255 192.0.0.0 192.88.99.1 [100::1] [4000::1] "
    "[5f00::1] [8000::1] [::2] [0100::]",
    "benchmarking": "198.18.0.0 198.19.255.255 [2001:2::1]",
    "documentation": "192.0.2.0 198.51.100.255 203.0.113.1 [2001:db8::1] [3fff::1] [3fff:fff::1]",
    "decimal": "2130706433 2852039166 3232235521 167772161 0 4294967295",
    "octal": "0177.0.0.1 0177.0.0.01 00000177.0.0.1 017700000001 0251.0376.0251.0376 012.0.0.1",
    "hexadecimal": "0x7f.0.0.1 0x7f000001 0X7F000001 0x0000007f.0.0.1 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 0x0",
    "short": "127.1 127.0.1 10.1 192.168.257 127.16777215 0x7f.1 0177.1 127.0xffff",
    "mixed": "0x7f.0.0.01 0251.254.0xa9.254 169.0xfea9fe 0xc0.168.1 169.254.43518",
    "final dot": "127.0.0.1. 2130706433. 0x7f.1. 169.254.169.254. localhost. 127.0.0.1..",
    "mapped": "[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:a9fe:a9fe] [::FFFF:10.0.0.1] "
    "[::ffff:0.0.0.0]",
    "compatible": "[::127.0.0.1] [::7f00:1] [::169.254.169.254] [::8.8.8.8]",
    "translated": "[::ffff:0:127.0.0.1] [::ffff:0:8.8.8.8]",
    "NAT64": "[64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b::10.0.0.1] [64:ff9b:1::808:808] "
    "[64:ff9b:1:ffff::1]",
    "6to4": "[2002:7f00:1::] [2002:a9fe:a9fe::1] [2002:a00:1::] [2002:c0a8:101::1] [2002:e000:1::]",
    "Teredo": "[2001::1] [2001:0:4136:e378:8000:63bf:80ff:fffe] [2001:10::1] [2001:20::1]",
    "name": "localhost LOCALHOST LocalHost",
    "Unicode dots": "127\u30020\u30020\u30021 127\uff0e0\uff0e0\uff0e1 127\uff610\uff610\uff611",
    "full-width": "\uff11\uff12\uff17.\uff10.\uff10.\uff11 \uff11\uff12\uff17\uff0e0\uff0e0\uff0e1 "
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460 \u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3 "
    "\xb927.0.0.1 \uff10x7f.1 \uff12130706433",
    "invisible": "\u200b127.0.0.1 127.0.0.1\u200b loc\xadalhost 127.0.0.1\ufeff",
    "port": "127.0.0.1:8\u0660 127.0.0.1:80 [::1]:65535",
    "fragment": "127.0.0.1#@example.com 127.0.0.1?@example.com 127.0.0.1/@example.com",
}
INVALID = {
    "scheme": "file:///etc/passwd ftp://127.0.0.1/ gopher://127.0.0.1:6379/_INFO dict://127.0.0.1/ "
    "ldap://127.0.0.1/ tftp://127.0.0.1/ ws://127.0.0.1/ jar:http://127.0.0.1!/ netdoc:///etc/passwd "
    "http+unix://%2Frun%2Fx/ unix:///run/x data:image/png;base64,AA javascript:alert(1) //127.0.0.1/ view-source:http://127.0.0.1/",
    "slashes": r"http:/127.0.0.1/ http:127.0.0.1/ http:///127.0.0.1/ http:\\127.0.0.1/ http:/\127.0.0.1/",
    "credentials": r"http://a@127.0.0.1/ http://a:b@127.0.0.1/ http://example.com@127.0.0.1/ "
    r"http://127.0.0.1@example.com/ http://example.com\@127.0.0.1/ http://127.0.0.1\@example.com/ "
    "http://@:@127.0.0.1/ http://a%40b@127.0.0.1/",
    "percent": "http://%31%32%37.0.0.1/ http://127.0.0.%31/ http://127%2e0%2e0%2e1/ http://%6c%6fcalhost/ "
    "http://localhost%00.example.com/ http://127.0.0.1%20/ http://%5b::1%5d/ http://127.0.0.1%2f@example.com/",
    "zone": "http://[fe80::1%25eth0]/ http://[fe80::1%eth0]/ http://[::1%25lo]/ http://[::1%251]/ "
    "http://[::ffff:127.0.0.1%25eth0]/ http://[2606:4700::1%25eth0]/",
    "numbers": "http://4294967296/ http://127.65536.1.1/ http://0x/ http://127.0.0.256/ http://127.0.0.08/ "
    "http://..127.0.0.1/ http://99999999999/",
    "one sign for several": "http://1\u24897.0.0.1/ http://127\u2024\u0030.0.1/ http://127.0.0.1\u2100.test/ "
    "http://127.0.0.1\uff0fx/ http://a\uff20127.0.0.1/ http://127.0.0.1\uff1a80/ http://127.0.0.1\uff03/",
    "brackets": "http://[::1/ http://::1/ http://[::1].example.com/ http://[v1.fe80::a]/ http://[127.0.0.1]/ "
    "http://[::1]127.0.0.1/ http://[]/",
    "port": "http://127.0.0.1:0/ http://127.0.0.1:65536/ http://127.0.0.1:80:80/ http://127.0.0.1:-1/",
}
BEHIND_A_NAME = """
127.0.0.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 169.254.169.254 168.63.129.16 198.18.0.1
192.0.2.1 224.0.0.1 240.0.0.1 255.255.255.255 ::1 :: ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1
2002:7f00:1:: 2001::1 2001:db8::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 ff02::1
""".split()  # noqa: SIM905 - a list would take a line each


class Trap:
    """`hits` are the connections that came so far, `heard` what came over them."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._heard = b""
        self._hits = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def hits(self) -> int:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return self._hits
            self._hits += 1
            with connection:
                connection.settimeout(10)
                self._heard += connection.recv(1024)

    @property
    def heard(self) -> bytes:
        return self._heard if self.hits else b""


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.fixture
def trap(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        trap = Trap(listener)
        divert(monkeypatch, trap.port, but=f"{OPEN_HOST}:{server.port}")
        yield trap


@pytest.fixture(scope="module")
def shared_downloader() -> Iterator[Downloader]:
    made = Downloader(timeout_s=10, whole_s=10, max_bytes=2**20, allow_hosts=[OPEN_HOST])
    yield made
    made.close()


@pytest.fixture
def downloader(
    shared_downloader: Downloader, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Downloader:
    """Remembers no look-up, so that a name may change at any moment."""
    monkeypatch.setattr(resolver, "_TTL_SECONDS", 0.0)
    names[OPEN_HOST], names["localhost"] = ["127.0.0.1"], ["127.0.0.1"]
    return shared_downloader


def cases(table: dict[str, str]) -> Any:
    return [pytest.param(one, id=f"{theme}: {one!a}") for theme, row in table.items() for one in row.split()]


def code(action: Callable[[], object]) -> str:
    with pytest.raises((ItemError, InvalidRequest)) as caught:
        action()
    return caught.value.code


def redirect_to(server: ImageServer, url: str) -> str:
    """A URL that redirects to `url`, in UTF-8: the server's headers are Latin-1."""
    return server.url(f"/redirect-to?url={quote(url.encode().decode('latin-1'))}", OPEN_HOST)


def codes(downloader: Downloader, server: ImageServer, url: str) -> set[str]:
    """What a picture, a callback when it is asked for, one when it is made, and a redirect end as."""
    services = cast(Any, SimpleNamespace(downloader=downloader))
    redirect = redirect_to(server, url)
    return {
        code(lambda: downloader.get(url)),
        code(lambda: check_options(services, None, url, None)),
        code(lambda: downloader.post(url, b"{}", {})),
        code(lambda: downloader.get(redirect)),
    }


@pytest.mark.parametrize("host", cases(BLOCKED))
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_inside_is_blocked_in_every_notation(
    scheme: str, host: str, downloader: Downloader, server: ImageServer, trap: Trap
) -> None:
    assert codes(downloader, server, f"{scheme}://{host}") == {"blocked_address"}
    assert trap.hits == 0


@pytest.mark.parametrize("url", cases(INVALID))
def test_a_url_that_hides_its_host_is_invalid(
    url: str, downloader: Downloader, server: ImageServer, trap: Trap
) -> None:
    services = cast(Any, SimpleNamespace(downloader=downloader))
    assert code(lambda: downloader.get(url)) == "invalid_url"
    assert code(lambda: check_options(services, None, url, None)) == "invalid_url"
    assert code(lambda: downloader.post(url, b"{}", {})) == "invalid_url"
    assert trap.hits == 0


@pytest.mark.parametrize("url", cases(INVALID))
def test_a_redirect_that_hides_its_host_reaches_nobody(
    url: str, downloader: Downloader, server: ImageServer, trap: Trap
) -> None:
    """A reference without a host of its own stays on the host that it came from, which is allowed here; a
    backslash is a slash, as in browsers.
    """
    redirect = redirect_to(server, url)
    refusals = ("invalid_url", "blocked_address", "http_status", "dns_error")
    assert code(lambda: downloader.get(redirect)) in refusals
    assert trap.hits == 0


@pytest.mark.parametrize("address", BEHIND_A_NAME)
@pytest.mark.parametrize(
    "others", [([], []), ([PUBLIC], []), ([], [PUBLIC]), ([PUBLIC, "2606:4700::1111"], [PUBLIC])]
)
def test_a_name_with_one_address_inside_is_blocked_whatever_its_others(
    *,
    address: str,
    others: tuple[list[str], list[str]],
    downloader: Downloader,
    names: dict[str, Any],
    server: ImageServer,
    trap: Trap,
) -> None:
    names["mixed.test"] = [*others[0], address, *others[1]]
    assert codes(downloader, server, "http://mixed.test/a.jpg") == {"blocked_address"}
    assert trap.hits == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "64:ff9b::a9fe:a9fe"])
def test_a_name_that_changes_between_its_look_ups_is_checked_at_the_last(
    address: str,
    downloader: Downloader,
    names: dict[str, Any],
    trap: Trap,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[str] = []

    def take_turn(_self: HostLimits, host: str) -> None:
        turns.append(host)
        names["rebound.test"] = [address]

    monkeypatch.setattr(HostLimits, "wait", take_turn)
    monkeypatch.setattr(HostLimits, "report", lambda *_: None)
    names["rebound.test"] = [PUBLIC]
    limits = HostLimits(cast(Any, None), 1.0)
    assert code(lambda: downloader.get("http://rebound.test/a.jpg", limits)) == "blocked_address"
    assert turns == ["rebound.test"]
    names["rebound.test"] = [PUBLIC]
    downloader.check("http://rebound.test/")
    names["rebound.test"] = [address]
    assert code(lambda: downloader.post("http://rebound.test/", b"{}", {})) == "blocked_address"
    assert trap.hits == 0


@pytest.mark.parametrize("url", [f"http://{PUBLIC}/", "http://[2606:4700::1111]/", "https://public.test/"])
def test_a_public_address_that_leads_inside_all_the_same_is_not_connected_to(
    url: str, downloader: Downloader, names: dict[str, Any], trap: Trap
) -> None:
    names["public.test"] = [PUBLIC]
    downloader.check(url)
    for action in (downloader.get, lambda url: downloader.post(url, b"{}", {})):
        assert code(lambda action=action: action(url)) == "blocked_address"
    assert trap.hits == 0


@pytest.mark.parametrize(("permitted", "hits"), [(0, 0), (1, 0), (2, 1)])
def test_an_address_is_checked_when_it_is_known_when_a_socket_is_made_and_when_it_is_connected(
    permitted: int, hits: int, downloader: Downloader, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever slips through the checks before, a request is never heard."""

    def permits(*_: object) -> bool:
        nonlocal asked
        asked += 1
        return asked <= permitted

    monkeypatch.setattr(AddressPolicy, "permits", permits)
    for number, action in enumerate((downloader.get, lambda url: downloader.post(url, b"{}", {})), start=1):
        asked = 0
        assert code(lambda action=action: action(f"http://{PUBLIC}/")) == "blocked_address"
        assert (asked, trap.hits) == (permitted + 1, number * hits)
    assert trap.heard == b""


def test_a_connection_that_was_kept_is_checked_again(
    downloader: Downloader, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("/photo/1.jpg", OPEN_HOST)
    downloader.get(url)
    connections, hits = server.connections, server.hits["/photo/1.jpg"]
    answers = [False, True]
    monkeypatch.setattr(AddressPolicy, "permits", lambda *_: answers.pop())
    assert code(lambda: downloader.get(url)) == "blocked_address"
    assert (server.connections, server.hits["/photo/1.jpg"], answers) == (connections, hits, [])


def test_redirects_within_what_is_allowed_are_followed(downloader: Downloader, server: ImageServer) -> None:
    assert downloader.get(server.url("/redirect/2", OPEN_HOST))[:2] == b"\xff\xd8"


def test_there_are_enough_cases() -> None:
    assert len(cases(BLOCKED)) + len(cases(INVALID)) + len(BEHIND_A_NAME) >= 100
