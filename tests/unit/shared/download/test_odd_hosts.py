"""Hosts that answer as hosts do: what is borne of them, over sockets, and what each fault is called."""

import functools
import gzip
import itertools
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from image_search.models.error_codes import worth_retrying
from shared.download.downloader import Downloader
from shared.errors import ItemError
from tests.raw_server import raw_server

gzipped = functools.partial(gzip.compress, mtime=0)  # the same in every process of a test run

BODY = b"\xff\xd8" + bytes(range(256)) * 4
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"

BORNE = {
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY,
    "identity to the end": OK + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "chunked with a length": OK + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "extensions and trailers": CHUNKED
    + CHUNK.replace(b"\r\n", b";a=b\r\n", 1)
    + b"0\r\nLocation: /x\r\n\r\n",
    "chunks with bare line feeds": CHUNKED + CHUNK.replace(b"\r\n", b"\n", 1) + b"0\n\n",
    "one byte a chunk": CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
    "header without a name": OK + b": x\r\n" + LENGTH + b"\r\n" + BODY,
    "blank in a name": OK + b"X y: z\r\n" + LENGTH + b"\r\n" + BODY,
    "blank before the colon": OK + LENGTH.replace(b":", b" :") + b"\r\n" + BODY,
    "folded": OK + b"X: y\r\n z\r\n" + LENGTH + b"\r\n" + BODY,
    "folded at first": OK + b" X: y\r\n" + LENGTH + b"\r\n" + BODY,
    "a blank line of blanks": OK + LENGTH + b" \t \r\n\r\n" + BODY,
    "an end that is none": OK + LENGTH + b"\rX\n" + BODY,
    "bare line feeds": (OK + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "Latin-1": OK + b"X-Photo: caf\xe9\r\n" + LENGTH + b"\r\n" + BODY,
    "length twice": OK + LENGTH * 2 + b"\r\n" + BODY,
    "length past counting": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY,
    "small letters": b"http/1.1 200 ok\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "a header named like a status": OK + b"HTTP/1.1: no\r\n" + LENGTH + b"\r\n" + BODY,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nLocation: /x\r\n\r\n" * 3
    + OK
    + LENGTH
    + b"\r\n"
    + BODY,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + LENGTH + b"\r\n" + BODY,
    "70 kB in one header": OK + b"X: " + b"y" * 70_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
    "a thousand headers": OK + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + LENGTH + b"\r\n" + BODY,
    "more than its length": OK + LENGTH + b"\r\n" + BODY + b"HTTP/1.1 500 No\r\n\r\n",
    "offers of other protocols": OK
    + b'Alt-Svc: h3=":9"; ma=99\r\nStrict-Transport-Security: max-age=99\r\nUpgrade: h2c\r\n'
    + LENGTH
    + b"\r\n"
    + BODY,
}
INVALID = "the answer is not valid HTTP"
TOO_LONG = "the answer's headers are too long: over 100 kB one, or 300 kB or 5000 all together"
BROKE_OFF = "the answer broke off"
FAULTS = {  # the sentence, whether it is asked for again
    "no HTTP": (b"hello\r\n\r\n", INVALID, False),
    "HTTP/0.9": (BODY, INVALID, False),
    "no number": (b"HTTP/1.1 abc\r\n\r\n", INVALID, False),
    "no colon": (OK + b"hello\r\n" + LENGTH + b"\r\n" + BODY, INVALID, False),
    "NUL": (OK + b"X: a\0b\r\n" + LENGTH + b"\r\n" + BODY, INVALID, False),
    "+length": (OK + b"Content-Length: +9\r\n\r\n" + BODY, INVALID, False),
    "two lengths": (OK + LENGTH + b"Content-Length: 9\r\n\r\n" + BODY, INVALID, False),
    "two Locations": (FOUND + b"Location: /a\r\nLocation: /b\r\n\r\n", INVALID, False),
    "coded transfer": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", INVALID, False),
    "odd transfer": (OK + b"Transfer-Encoding: foo\r\n\r\n" + BODY, INVALID, False),
    "chunk of no size": (CHUNKED + b"xyz\r\n" + BODY, INVALID, False),
    "chunk below zero": (CHUNKED + b"-1\r\n" + BODY, INVALID, False),
    "chunk that goes on": (CHUNKED + b"3\r\n" + BODY, INVALID, False),
    "1 MB in one header": (OK + b"X: " + b"y" * 2**20 + b"\r\n\r\n", TOO_LONG, False),
    "cookie of 1 MB": (OK + b"Set-Cookie: a=" + b"y" * 2**20 + b"\r\n\r\n", TOO_LONG, False),
    "Location of 1 MB": (FOUND + b"Location: /" + b"y" * 2**20 + b"\r\n\r\n", TOO_LONG, False),
    "trailer of 1 MB": (CHUNKED + CHUNK + b"0\r\nX: " + b"y" * 2**20 + b"\r\n\r\n", TOO_LONG, False),
    "6000 headers": (OK + b"".join(b"X-%d: y\r\n" % n for n in range(6000)) + b"\r\n", TOO_LONG, False),
    "20,000 early hints": (b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 20_000, TOO_LONG, False),
    "nothing": (b"", "the host closed the connection without an answer", True),
    "only early hints": (
        b"HTTP/1.1 103 E\r\n\r\n",
        "the host closed the connection without an answer",
        True,
    ),
    "half a head": (OK + b"X: y\r\n", BROKE_OFF, True),
    "half a body": (OK + LENGTH + b"\r\n" + BODY[:100], BROKE_OFF, True),
    "no last chunk": (CHUNKED + CHUNK, BROKE_OFF, True),
}


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    made = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1", "localhost"])
    yield made
    made.close()


def failure(action: Callable[[], object]) -> ItemError:
    with pytest.raises(ItemError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in BORNE.items()])
def test_what_browsers_and_curl_forgive_is_borne(answer: bytes, downloader: Downloader) -> None:
    with raw_server(answer) as server:
        assert downloader.get(server.url()) == BODY
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("answer", "detail", "transient"), [pytest.param(*fault, id=name) for name, fault in FAULTS.items()]
)
def test_a_fault_of_an_answer_has_one_sentence_and_is_asked_for_again_only_if_that_may_help(
    answer: bytes, detail: str, *, transient: bool, downloader: Downloader
) -> None:
    with raw_server(answer) as server, raw_server(OK + LENGTH + b"\r\n" + BODY) as sound:
        error = failure(lambda: downloader.get(server.url()))
        assert (error.code, error.detail, error.transient) == ("connect_error", detail, transient)
        assert worth_retrying(error.code, error.detail) is transient
        assert len(server.heads) == 1
        assert downloader.get(sound.url()) == BODY


@pytest.mark.parametrize("forever", [b"X: %b\r\n" % (b"y" * 1000), b"y" * 60_000])
def test_an_endless_head_ends_at_its_most_bytes(forever: bytes, downloader: Downloader) -> None:
    with raw_server(lambda _: itertools.chain([OK, b"X: "], itertools.repeat(forever))) as server:
        assert failure(lambda: downloader.get(server.url())).detail == TOO_LONG


@pytest.mark.parametrize(
    "head",
    [b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"Content-Length: %b\r\n" % (b"9" * 5000)],
)
def test_who_downloads_is_not_told_a_length_that_does_not_hold(head: bytes, downloader: Downloader) -> None:
    told: list[int] = []
    content = CHUNK + b"0\r\n\r\n" if b"chunked" in head else BODY
    with raw_server(OK + head + b"\r\n" + content) as server:
        assert downloader.get(server.url(), hold=told.append) == BODY
    assert told == [2**20]


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found"])
def test_a_rest_that_trickles_or_hangs_holds_no_answer_up(status: str, downloader: Downloader) -> None:
    def answers(head: bytes) -> Iterator[bytes]:
        if head.startswith(b"GET /next"):
            yield OK + LENGTH + b"\r\n" + BODY
        yield f"HTTP/1.1 {status}\r\nLocation: /next\r\n\r\n".encode()
        for _ in range(30):
            yield b"x"
            time.sleep(0.5)

    started = time.monotonic()
    with raw_server(answers) as server:
        if status.startswith("302"):
            assert downloader.get(server.url()) == BODY
        else:
            assert failure(lambda: downloader.get(server.url())).http_status == 404
    assert time.monotonic() - started < 4


def bare(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


@pytest.mark.parametrize(
    ("header", "content"),
    [
        *(
            (token, BODY)
            for token in ("aws-chunked", "UTF-8", "none", "binary", "", "identity, identity", ",,", "\xe9")
        ),
        ("gzip, aws-chunked", gzipped(BODY)),
        ("aws-chunked, GZIP", gzipped(BODY)),
        ("aws-chunked\r\nContent-Encoding: x-gzip", gzipped(BODY)),
        ("gzip", BODY),
        ("gzip, gzip", gzipped(BODY)),
        ("gzip, gzip", gzipped(gzipped(BODY))),
        ("gzip", gzipped(BODY[:9]) + gzipped(b"") + gzipped(BODY[9:])),
        ("gzip", gzipped(BODY) + bytes(1000)),
        ("gzip", gzipped(BODY) + b"\x1f"),
        ("gzip", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", gzipped(BODY)),
        ("deflate", bare(BODY)),
        ("deflate", BODY),
    ],
)
def test_a_content_encoding_is_undone_where_it_is_true(
    header: str, content: bytes, downloader: Downloader
) -> None:
    head = f"Content-Encoding: {header}\r\nContent-Length: {len(content)}\r\n\r\n".encode("latin-1")
    with raw_server(OK + head + content) as server:
        assert downloader.get(server.url()) == BODY


@pytest.mark.parametrize(
    ("header", "content", "code"),
    [
        ("gzip", gzipped(BODY)[:-1], "connect_error"),
        ("gzip", gzipped(BODY)[:-8] + bytes(8), "connect_error"),
        ("deflate", zlib.compress(BODY)[:-1], "connect_error"),
        ("gzip", gzipped(b"") * 50_000, "connect_error"),
        ("br", BODY, "not_an_image"),
        ("gzip, zstd", BODY, "not_an_image"),
        (", ".join(["gzip"] * 4), BODY, "not_an_image"),
        ("gzip", gzipped(b""), "not_an_image"),
        # Made by the test alone, not by each process that collects it.
        ("gzip", lambda: gzipped(bytes(2**26), 1), "too_large"),
        ("deflate", lambda: bare(bytes(2**26)), "too_large"),
        ("gzip, gzip", lambda: gzipped(gzipped(b"", 1) * 2**20, 1), "too_large"),
    ],
)
def test_a_content_that_cannot_be_unpacked_fails_once(
    header: str, content: bytes | Callable[[], bytes], code: str, downloader: Downloader
) -> None:
    content = content() if callable(content) else content
    started = time.monotonic()
    head = f"Content-Encoding: {header}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with raw_server(OK + head + content) as server:
        error = failure(lambda: downloader.get(server.url()))
    assert (error.code, error.transient) == (code, False)
    assert not worth_retrying(error.code, error.detail)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        (b"/caf\xe9.jpg?q=\xe9", b"/caf%E9.jpg?q=%E9"),
        ("/café.jpg".encode(), b"/caf%C3%A9.jpg"),
        (b"/a%2Fb%e9?s=a%2Bb+c/d==", b"/a%2Fb%e9?s=a%2Bb+c/d=="),
        (b"  /a b.jpg  ", b"/a%20b.jpg"),
        (b"/a.jpg#part", b"/a.jpg"),
        (b"next.jpg", b"/folder/next.jpg"),
        (b"../next.jpg", b"/next.jpg"),
        (b"?page=2", b"/folder/first.jpg?page=2"),
        (b"\\folder\\a.jpg?b=\\", b"/folder/a.jpg?b=\\"),
        (b"/a\tb.jpg", b"/ab.jpg"),
    ],
)
def test_a_redirect_leads_where_it_would_lead_a_browser(
    location: bytes, asked: bytes, downloader: Downloader
) -> None:
    def answers(head: bytes) -> list[bytes]:
        first = head.startswith(b"GET /folder/first.jpg ")
        return [FOUND + b"Location: " + location + b"\r\n\r\n"] if first else [OK + LENGTH + b"\r\n" + BODY]

    with raw_server(answers) as server:
        assert downloader.get(server.url("/folder/first.jpg")) == BODY
        assert server.heads[1].split()[1] == asked


@pytest.mark.parametrize(
    ("location", "code"), [(b"", "too_many_redirects"), (b"/" + b"y" * 90_000, "invalid_url")]
)
def test_a_redirect_that_leads_nowhere_ends(location: bytes, code: str, downloader: Downloader) -> None:
    with raw_server(FOUND + b"Location: " + location + b"\r\n\r\n") as server:
        assert failure(lambda: downloader.get(server.url())).code == code


def cookies(head: bytes) -> set[bytes]:
    found = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"cookie:")]
    return {cookie.strip() for line in found for cookie in line.split(b";")}


def test_a_cookie_that_a_host_sets_with_a_redirect_to_itself_comes_back(downloader: Downloader) -> None:
    def answers(head: bytes) -> list[bytes]:
        if cookies(head) == {b"seen=1"}:
            return [OK + LENGTH + b"\r\n" + BODY]
        return [FOUND + b"Set-Cookie: seen=1\r\nLocation: /a.jpg\r\n\r\n"]

    with raw_server(answers) as server:
        for _ in range(2):
            assert downloader.get(server.url()) == BODY
        assert [cookies(head) for head in server.heads] == [set(), {b"seen=1"}] * 2, "one jar each"


def test_cookies_go_where_they_may(downloader: Downloader) -> None:
    def answers(head: bytes) -> list[bytes]:
        path = head.split()[1]
        if path == b"/start":
            return [FOUND, *(b"Set-Cookie: %b\r\n" % one for one in sent), b"Location: /in/a\r\n\r\n"]
        if path == b"/in/a":
            return [FOUND + b"Location: " + server.url("/other", "localhost").encode() + b"\r\n\r\n"]
        return [OK + LENGTH + b"\r\n" + BODY]

    sent = [
        b"all=1",
        b"inside=1; Path=/in",
        b"outside=1; Path=/out",
        b"safe=1; Secure; Domain=example.com",
        b"theirs=1; Domain=example.com",
        b"gone=1; Max-Age=0",
        b"long=" + b"x" * 9000,
        b"nameless",
        b"bad=\x01",
    ]
    with raw_server(answers) as server:
        assert downloader.get(server.url("/start")) == BODY
        start, inside, other = server.heads
    assert cookies(start) == cookies(other) == set()
    assert {b"all=1", b"inside=1"} <= cookies(inside)
    assert not any(
        one.startswith((b"outside", b"theirs", b"safe", b"gone", b"long", b"bad")) for one in cookies(inside)
    )


def test_the_user_agent_is_the_operator_s() -> None:
    agent: Any = "shop-crawler/1.0 (ops@shop.example)"
    downloader = Downloader(
        timeout_s=5, whole_s=5, max_bytes=2**20, allow_hosts=["127.0.0.1"], user_agent=agent
    )
    with raw_server(OK + LENGTH + b"\r\n" + BODY) as server:
        downloader.get(server.url())
        assert server.heads[0].count(b"User-Agent:") == 1
        assert f"User-Agent: {agent}\r\n".encode() in server.heads[0]
    downloader.close()
