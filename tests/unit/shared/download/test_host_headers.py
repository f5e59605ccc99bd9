"""The file of FETCH_HEADERS: what it may say, whom its headers reach, and that nobody reads their values."""

import json
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from structlog.testing import capture_logs

from shared.download import host_headers
from shared.download.downloader import Downloader
from shared.download.host_headers import HostHeaders
from shared.download.request_urls import parse
from shared.download.transfer import Request
from shared.errors import ConfigError, ItemError
from tests.raw_server import RawServer, raw_server
from tests.unit.shared.download.test_downloader import _certificate

SECRET = "s3cr3t-XYZZY"
BODY = b"\xff\xd8 a picture"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(autouse=True)
def _logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no earlier test's configuration was bound to."""
    monkeypatch.setattr(host_headers, "log", structlog.get_logger())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "headers.json"


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    made = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1", "localhost"])
    yield made
    made.close()


def written(file: Path, document: Any) -> Path:
    file.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    file.chmod(0o600)
    return file


def bearer(value: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def lines(head: bytes) -> dict[str, str]:
    """The headers of a request, none of which comes twice."""
    found = [line.partition(": ")[::2] for line in head.decode().split("\r\n")[1:] if line]
    assert len({name.lower() for name, _ in found}) == len(found), found
    return dict(found)


def sent(server: RawServer) -> list[bool]:
    """Whether each request so far had the secret."""
    return [SECRET.encode() in head for head in server.heads]


@pytest.mark.parametrize(
    ("name", "url", "has"),
    [
        ("https://cdn.example.com", "https://cdn.example.com/a.jpg?b=c", True),
        ("https://cdn.example.com", "HTTPS://CDN.Example.COM/a.jpg", True),
        ("https://cdn.example.com", "https://cdn.example.com:443/a.jpg", True),
        ("https://cdn.example.com", "https://cdn.example.com./a.jpg", True),
        ("https://CDN.example.com.:443/", "https://cdn.example.com/a.jpg", True),
        ("cdn.example.com", "https://cdn.example.com/a.jpg", True),
        ("cdn.example.com", "http://cdn.example.com/a.jpg", False),
        ("cdn.example.com:8443", "https://cdn.example.com:8443/a.jpg", True),
        ("cdn.example.com:8443", "https://cdn.example.com/a.jpg", False),
        ("https://cdn.example.com", "http://cdn.example.com/a.jpg", False),
        ("https://cdn.example.com", "http://cdn.example.com:443/a.jpg", False),
        ("https://cdn.example.com", "https://cdn.example.com:444/a.jpg", False),
        ("http://cdn.example.com", "https://cdn.example.com:80/a.jpg", False),
        ("https://example.com", "https://cdn.example.com/a.jpg", False),
        ("https://cdn.example.com", "https://cdn.example.com.evil.example/a.jpg", False),
        ("https://cdn.example.com", "https://evil.example/cdn.example.com", False),
        ("https://faß.example", "https://xn--fa-hia.example/a.jpg", True),
        ("https://xn--fa-hia.example", "https://Faß.example/a.jpg", True),
        ("https://faß.example", "https://fass.example/a.jpg", False),
        ("http://127.0.0.1:8080", "http://2130706433:8080/a.jpg", True),
        ("http://0x7f.1:8080", "http://127.0.0.1:8080/a.jpg", True),
        ("http://[::1]:8080", "http://[::1]:8080/a.jpg", True),
        ("http://127.0.0.1:8080", "http://localhost:8080/a.jpg", False),
    ],
)
def test_headers_are_for_one_scheme_host_and_port(file: Path, name: str, url: str, *, has: bool) -> None:
    headers = HostHeaders(written(file, {name: bearer()}))
    assert headers.of(parse(url).origin) == ((f"Authorization: Bearer {SECRET}",) if has else ())


def test_a_name_of_several_headers_and_several_origins(file: Path) -> None:
    document = {
        "a.example": {**bearer(), "Referer": "https://shop.example/", "X-Key": "a\tb c", "Cookie": "x=1"},
        "http://b.example:8080": {"User-Agent": "shop"},
        "[2001:db8::1]": {},
    }
    headers = HostHeaders(written(file, "\ufeff" + json.dumps(document)))
    assert headers.origins == ["https://a.example", "http://b.example:8080", "https://[2001:db8::1]"]
    assert len(headers.of(("https", "a.example", 443))) == 4
    assert headers.of(("http", "b.example", 8080)) == ("User-Agent: shop",)
    assert HostHeaders(None).of(("https", "a.example", 443)) == ()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "is not JSON: line 1, column 1"),
        (json.dumps({"a.example": bearer()})[:-1], "is not JSON: line 1"),
        ("[" * 100_000, "is not JSON in UTF-8"),
        ([SECRET], "is no object such as"),
        (f'"{SECRET}"', "is no object such as"),
        ({"a.example": SECRET}, "https://a.example: its headers are no object"),
        ({"a.example": [SECRET]}, "https://a.example: its headers are no object"),
        ({"a.example": {f"Authorization: {SECRET}": ""}}, "https://a.example: the name of header 1 is none"),
        ({"a.example": {"X": "1", f"{SECRET}\n": ""}}, "https://a.example: the name of header 2 is none"),
        ({"a.example": {"": SECRET}}, "the name of header 1 is none"),
        ({"a.example": {"Größe": SECRET}}, "the name of header 1 is none"),
        ({"a.example": {"X-Key": ""}}, "https://a.example: the value of X-Key is no text"),
        ({"a.example": {"X-Key": None}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": 4711}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": {"of": SECRET}}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": [SECRET]}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}\n"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}\r\nX-Evil: 1"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}\0"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}\x7f"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f" {SECRET}"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}é"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": f"{SECRET}\ud800"}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": SECRET * 1000}}, "the value of X-Key is no text"),
        ({"a.example": {"X-Key": SECRET, "x-key": SECRET}}, "https://a.example: x-key stands there twice"),
        ({"a.example": {str(n): "x" for n in range(33)}}, "https://a.example: it has more than 32 headers"),
        ({"a.example": bearer(), "https://A.example.:443": bearer()}, "https://a.example stands there twice"),
        ('{"a.example": {}, "a.example": {"X": "1"}}', "https://a.example stands there twice"),
        ({f"{n}.example": {} for n in range(501)}, "more than 500 origins"),
        ({"x": {"y": SECRET * 100_000}}, "more than 1048576 bytes"),
        ({f"https://u:{SECRET}@a.example": {}}, "name 1 .* is no origin such as .*: it carries"),
        ({f"https://a.example/{SECRET}": {}}, "name 1 .*: https://a.example is followed by a path"),
        ({f"https://a.example?{SECRET}": {}}, "name 1 .*: https://a.example is followed by a path"),
        ({f"https://a.example#{SECRET}": {}}, "name 1 .*: https://a.example is followed by a path"),
        ({"a.example": {}, f"Bearer {SECRET}": {}}, "name 2 in it is no origin"),
        ({"*.example": {}}, "name 1 in it is no origin"),
        ({"*": {}}, "name 1 in it is no origin"),
        ({"": {}}, "name 1 in it is no origin"),
        ({"null": {}, "ftp://a.example": {}}, "name 2 .*: it does not begin with http"),
        ({"https://a.example:0": {}}, "name 1 in it is no origin"),
        ({"https://a.example:99999": {}}, "name 1 in it is no origin"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_stops_the_start_without_a_value_of_it(
    file: Path, document: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        HostHeaders(written(file, document))
    detail = raised.value.detail
    assert detail.startswith(f"IMAGE_SEARCH_FETCH_HEADERS: {file}: ")
    assert "\n" not in detail
    assert SECRET not in detail
    assert "4711" not in detail


@pytest.mark.parametrize(
    "name",
    """
    Host content-length Content-Type Transfer-Encoding CONNECTION Keep-Alive TE Trailer Upgrade Expect Range
    If-Range If-None-Match if-modified-since Accept-Encoding Cache-Control Pragma Proxy-Authorization
    X-Image-Search-Fetch
    """.split(),  # noqa: SIM905 - a list would take a line each
)
def test_a_header_that_is_the_downloader_s_own_is_refused(file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"https://a.example: {name} is a header that cannot be set"):
        HostHeaders(written(file, {"a.example": {name: SECRET}}))


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b'{"caf\xe9": {}}')
    for name, says in {
        "gone": "no such file",
        ".": "no such file",
        "pipe": "no such file",
        "latin": "UTF-8",
    }.items():
        with pytest.raises(ConfigError, match=f"IMAGE_SEARCH_FETCH_HEADERS: .*{says}"):
            HostHeaders(tmp_path / name)


def test_a_request_has_them_in_place_of_its_own(file: Path, downloader: Downloader) -> None:
    with raw_server(OK) as server:
        origin = server.url("")
        document = {origin: {**bearer(), "user-agent": "shop/1.0", "Accept": "image/png"}}
        headers = HostHeaders(written(file, document))
        assert downloader.download(server.url(), headers=headers).content == BODY
        assert downloader.get(server.url()) == BODY, "the same connection's handle"
        with_them, without = map(lines, server.heads)
    assert with_them["Authorization"] == f"Bearer {SECRET}"
    assert (with_them["user-agent"], with_them["Accept"]) == ("shop/1.0", "image/png")
    assert with_them["Accept-Encoding"] == "identity"
    assert "Authorization" not in without
    assert without["User-Agent"].startswith("image-search/")


def test_a_conditional_request_and_one_that_is_asked_again_have_them_too(
    file: Path, downloader: Downloader
) -> None:
    """Of a server that takes any condition for fulfilled, at the first request, too."""

    def answers(head: bytes) -> list[bytes]:
        fresh = b"If-None-Match" not in head and b"no-cache" in head
        status = b"200 OK" if fresh else b"304 Not Modified"
        length = b"Content-Length: %d\r\n" % len(BODY) if fresh else b""
        return [b'HTTP/1.1 %b\r\nETag: "1"\r\n%b\r\n' % (status, length), BODY if fresh else b""]

    with raw_server(answers) as server:
        headers = HostHeaders(written(file, {server.url(""): bearer()}))
        first = downloader.download(server.url(), headers=headers)
        again = downloader.download(server.url(), known=first.validators, headers=headers)
        assert (first.content, again.content) == (BODY, None)
        assert sent(server) == [True] * 3


def redirecting(steps: dict[str, Callable[[], str]]) -> Callable[[bytes], list[bytes]]:
    """Answers to a path with a redirect to what it is to lead to, and to any other with a picture."""

    def answers(head: bytes) -> list[bytes]:
        path = head.split()[1].decode()
        if path not in steps:
            return [OK]
        return [f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {steps[path]()}\r\n\r\n".encode()]

    return answers


def test_redirects_within_the_origin_keep_them(file: Path, downloader: Downloader) -> None:
    steps = {"/1": lambda: "/2", "/2": lambda: server.url("/3"), "/3": lambda: f"//127.1:{port}/4"}
    with raw_server(redirecting(steps)) as server:
        port = server.url("").rpartition(":")[2]
        headers = HostHeaders(written(file, {server.url(""): bearer()}))
        assert downloader.download(server.url("/1"), headers=headers).content == BODY
        assert sent(server) == [True] * 4


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_once_a_redirect_has_left_the_origin_they_are_not_sent_again(
    file: Path, downloader: Downloader, host: str
) -> None:
    """Neither to another host or port, nor to the origin itself once one of those leads back there."""
    with (
        raw_server(redirecting({"/away": lambda: home.url("/back", "127.0.0.1")})) as away,
        raw_server(redirecting({"/1": lambda: away.url("/away", host)})) as home,
    ):
        headers = HostHeaders(written(file, {home.url(""): bearer()}))
        assert downloader.download(home.url("/1"), headers=headers).content == BODY
        assert (sent(home), sent(away)) == ([True, False], [False])
        both = {home.url(""): bearer(), away.url(""): bearer(f"{SECRET}-of-away")}
        headers = HostHeaders(written(file, both))
        assert downloader.download(home.url("/1"), headers=headers).content == BODY
        assert (sent(home), sent(away)) == ([True, False] * 2, [False] * 2)


def test_a_redirect_from_elsewhere_does_not_bring_them(file: Path, downloader: Downloader) -> None:
    with (
        raw_server(OK) as home,
        raw_server(redirecting({"/1": lambda: home.url("/private")})) as stranger,
    ):
        headers = HostHeaders(written(file, {home.url(""): bearer()}))
        assert downloader.download(stranger.url("/1"), headers=headers).content == BODY
        assert (sent(home), sent(stranger)) == ([False], [False])


def test_a_redirect_to_the_other_scheme_does_not_get_them(file: Path, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    downloader = Downloader(
        timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1"], ca_bundle=certificate
    )
    with (
        raw_server(redirecting({"/down": lambda: plain.url("/a.jpg")}), tls=context) as secure,
        raw_server(redirecting({"/up": lambda: tls("/a.jpg")})) as plain,
    ):

        def tls(path: str) -> str:
            return secure.url(path, "localhost").replace("http:", "https:")

        headers = HostHeaders(written(file, {tls(""): bearer(), plain.url(""): bearer()}))
        assert downloader.download(tls("/down"), headers=headers).content == BODY
        assert (sent(secure), sent(plain)) == ([True], [False])
        assert downloader.download(plain.url("/up"), headers=headers).content == BODY
        assert (sent(secure), sent(plain)) == ([True, False], [False, True])
    downloader.close()


def test_a_url_with_credentials_of_its_own_is_refused_as_ever(file: Path, downloader: Downloader) -> None:
    steps = {"/1": lambda: server.url("/2").replace("://", "://user:own@")}
    with raw_server(redirecting(steps)) as server:
        headers = HostHeaders(written(file, {server.url(""): bearer()}))
        for url in (server.url("/0").replace("://", "://user:own@"), server.url("/1")):
            with pytest.raises(ItemError, match="carries credentials") as raised:
                downloader.download(url, headers=headers)
            assert raised.value.code == "invalid_url"
        assert sent(server) == [True], "the redirect's"


def test_callbacks_have_none(file: Path, downloader: Downloader) -> None:
    with raw_server(OK) as server:
        HostHeaders(written(file, {server.url(""): bearer()}))
        assert downloader.post(server.url(), b"{}", {}) == 200
        assert sent(server) == [False]


def test_no_error_of_a_host_shows_them(file: Path, downloader: Downloader) -> None:
    answers = [
        b"HTTP/1.1 403 %b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[%b\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ftp://127.0.0.1/%b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\nX: %b\r\n\r\n1",
        b"%b\r\n\r\n",
        b"",
    ]
    for answer in answers:
        said = answer.replace(b"%b", SECRET.encode())
        with raw_server(said) as server, capture_logs() as logs:
            headers = HostHeaders(written(file, {server.url(""): bearer()}))
            with pytest.raises(ItemError) as raised:
                downloader.download(server.url(), headers=headers)
            assert sent(server)[:1] == [True]
        assert SECRET not in f"{raised.value!r} {vars(raised.value)} {logs}"


def test_no_repr_shows_them(file: Path) -> None:
    headers = HostHeaders(written(file, {"a.example": bearer()}))
    origin = parse("https://a.example/")
    request = Request(origin, ["192.0.2.1"], headers.of(origin.origin))
    assert SECRET in "".join(request.headers)
    assert SECRET not in f"{headers!r} {headers} {request!r} {headers.origins}"


def test_a_file_that_changes_is_read_again_and_a_bad_one_leaves_all_as_it_was(file: Path) -> None:
    origin = ("https", "a.example", 443)

    def value() -> str:
        return headers.of(origin)[0].rpartition(" ")[2]

    headers = HostHeaders(written(file, {"a.example": bearer("first")}))
    assert value() == "first"
    with capture_logs() as logs:
        written(file, {"a.example": bearer("other")})
        assert [value(), value()] == ["other", "other"]
        replacement = written(file.with_name("new"), {"a.example": bearer("third")})
        replacement.replace(file)
        assert value() == "third"
        written(file, {"a.example": {"Authorization": f"{SECRET}\n"}})
        assert [value(), value()] == ["third", "third"]
        file.unlink()
        assert [value(), value()] == ["third", "third"]
        written(file, {"b.example": bearer()})
        assert headers.of(origin) == ()
    events = ["fetch_headers_read"] * 2 + ["fetch_headers_kept_as_they_were"] * 2 + ["fetch_headers_read"]
    assert [one["event"] for one in logs] == events
    assert "https://a.example: the value of Authorization is no text" in logs[2]["reason"]
    assert "no such file" in logs[3]["reason"]
    assert not [one for one in logs for secret in ("first", "other", "third", SECRET) if secret in str(one)]


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o440, False), (0o644, True), (0o602, True)])
def test_a_file_that_others_may_read_is_warned_of(file: Path, mode: int, *, is_open: bool) -> None:
    written(file, {"a.example": bearer()}).chmod(mode)
    with capture_logs() as logs:
        headers = HostHeaders(file)
    assert headers.open_to_others is is_open
    assert [one["event"] for one in logs] == ["fetch_headers_open_to_others"] * is_open


def test_the_largest_file_is_read(file: Path) -> None:
    value = "x" * host_headers.MAX_VALUE
    headers = HostHeaders(written(file, {f"{n}.example": {"X-Key": value} for n in range(120)}))
    assert headers.of(("https", "119.example", 443)) == (f"X-Key: {value}",)


@pytest.mark.parametrize("path", ["/redirect-to?url={}", "/a b/{}"])
def test_a_url_that_names_the_origin_somewhere_else_gets_nothing(
    file: Path, downloader: Downloader, path: str
) -> None:
    with raw_server(OK) as server:
        headers = HostHeaders(written(file, {"https://a.example": bearer()}))
        downloader.download(server.url(path.format(quote("https://a.example/", safe=""))), headers=headers)
        assert sent(server) == [False]
