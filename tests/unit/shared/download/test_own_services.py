"""No URL leads to the deployment's own Redis, Chroma or API, whatever ALLOW_HOSTS says."""

import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from shared.config import Settings
from shared.download.downloader import Downloader
from shared.download.own_services import is_here
from shared.errors import ItemError
from shared.services import build_services
from tests.image_server import ImageServer
from tests.unit.shared.download.diversion import divert

HERE = """
127.0.0.1 127.1 127.0.0.2 2130706433 0x7f.1 0177.0.0.1 0.0.0.0 0 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1]
[64:ff9b::7f00:1] [2002:7f00:1::] localhost LOCALHOST. other.test own.test
""".split()  # noqa: SIM905 - a list would take a line each
ALL = ["0.0.0.0/0", "::/0"]


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except ItemError as error:
        assert error.code == "blocked_address", error
        return "this service itself" in error.detail
    return False


def make(*own_urls: str, allow_hosts: list[str] = ALL) -> Downloader:
    return Downloader(timeout_s=5, whole_s=5, max_bytes=2**20, allow_hosts=allow_hosts, own_urls=own_urls)


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.mark.parametrize("host", HERE)
@pytest.mark.parametrize("own", ["127.0.0.1", "localhost", "0.0.0.0", "[::]", "own.test"])
def test_a_port_of_this_machine_is_its_own_under_every_address_and_name(
    own: str, host: str, names: dict[str, Any]
) -> None:
    names["other.test"], names["own.test"] = ["127.0.0.1"], ["127.0.0.1"]
    names["localhost"] = ["127.0.0.1", "::1"]
    downloader = make(f"http://{own}:8123")
    assert refused(lambda: downloader.check(f"http://{host}:8123/v1/jobs"))
    assert refused(lambda: downloader.check(f"https://{host}:8123/"))
    for port in (80, 8122, 18123):
        downloader.check(f"http://{host}:{port}/")


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "127.0.0.1:{port}", "localhost", "localhost:{port}", "0.0.0.0/0"]
)
def test_no_entry_opens_it_and_nothing_connects(entry: str, server: ImageServer) -> None:
    before = server.connections
    downloader = make(server.url(""), allow_hosts=[entry.format(port=server.port)])
    for host in ("127.0.0.1", "localhost"):
        url = server.url("/photo/1.jpg", host)
        for action in (downloader.get, downloader.check, lambda url: downloader.post(url, b"{}", {})):
            with pytest.raises(ItemError) as blocked:
                action(url)
            assert blocked.value.code == "blocked_address"
    assert server.connections == before


def test_a_redirect_does_not_lead_there(server: ImageServer) -> None:
    with ImageServer() as other:
        downloader = make(server.url(""))
        target = quote(server.url("/photo/1.jpg"))
        assert refused(lambda: downloader.get(other.url(f"/redirect-to?url={target}")))
        assert downloader.get(other.url("/redirect/1"))
    assert not server.hits


def test_the_peer_of_a_connection_is_looked_at_too(
    server: ImageServer, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["routed.test"] = ["93.184.216.34"]
    divert(monkeypatch, server.port)
    url = f"http://routed.test:{server.port}/photo/1.jpg"
    assert refused(lambda: make(server.url("")).get(url))
    assert not server.hits


def test_one_of_this_machine_s_own_addresses_is_known() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing: it only chooses the way out
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        address = probe.getsockname()[0]
    assert is_here(address)
    assert not is_here("198.51.100.1")
    assert not is_here("2001:db8::1")
    downloader = make("http://127.0.0.1:8123")
    assert refused(lambda: downloader.check(f"http://{address}:8123/"))
    assert refused(lambda: downloader.check(f"http://[::ffff:{address}]:8123/"))


@pytest.mark.parametrize(
    ("url", "host", "port", "own"),
    [
        ("redis://redis:6379/0", "redis", 6379, True),
        ("redis://:secret@redis/0", "alias.test", 6379, True),
        ("redis://redis/0", "10.0.0.5", 6379, True),
        ("redis://redis/0", "10.0.0.6", 6379, False),
        ("redis://redis/0", "10.0.0.5", 6380, False),
        ("redis://a.test:1;redis://redis:2", "10.0.0.5", 2, True),
        ("http://chroma:8000", "chroma", 8000, True),
        ("http://api:8000", "10.0.0.7", 8000, True),
        ("http://api:8000", "10.0.0.8", 8000, True),
        ("https://shop.test", "shop.test", 443, True),
        ("https://shop.test", "neighbour.test", 443, False),  # both behind one public address
        ("https://shop.test:8443", "neighbour.test", 8443, True),
        ("http://gone.test:8000", "10.0.0.5", 8000, False),
        ("unix:///run/redis.sock", "10.0.0.5", 80, False),
        ("http://[nonsense:x", "10.0.0.5", 80, False),
    ],
)
def test_one_elsewhere_is_known_by_its_name_and_its_addresses(
    url: str, host: str, port: int, own: bool, names: dict[str, Any]
) -> None:
    names |= {
        "redis": ["10.0.0.5"], "alias.test": ["10.0.0.5"], "a.test": ["10.0.0.4"], "chroma": ["10.0.0.6"],
        "api": ["10.0.0.7", "10.0.0.8"], "shop.test": ["93.184.216.34"], "neighbour.test": ["93.184.216.34"],
    }  # fmt: skip
    assert refused(lambda: make(url).check(f"http://{host}:{port}/")) == own


def test_the_settings_name_them(names: dict[str, Any], tmp_path: Any) -> None:
    names |= {"redis": ["10.0.0.5"], "broker": ["10.0.0.6"], "chroma": ["10.0.0.7"], "api": ["10.0.0.8"]}
    settings = Settings(
        redis_url="redis://redis", broker_url="redis://broker:6380", chroma_url="http://chroma:8000",
        url="http://api:8000", blob_url=f"file://{tmp_path}", allow_hosts=["10.0.0.0/8", "127.0.0.1"],
    )  # fmt: skip
    services = build_services(settings, "http://0.0.0.0:8001")
    hosts = ("10.0.0.5:6379", "10.0.0.6:6380", "10.0.0.7:8000", "10.0.0.8:8000", "127.0.0.1:8001")
    assert all(refused(lambda host=host: services.downloader.check(f"http://{host}/")) for host in hosts)
    services.downloader.check("http://10.0.0.5:8000/")
