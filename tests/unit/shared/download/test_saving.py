"""Saving into a file: bounded, streamed, whole or an error; and undoing encodings as the parts come."""

import gzip
import io
import ssl
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.download.content_encoding import Undoing, undone
from shared.download.downloader import Downloader
from shared.errors import ItemError
from tests.raw_server import raw_server
from tests.unit.shared.download.test_downloader import _certificate, _failure

compress = partial(gzip.compress, mtime=0)  # the same in every process that collects the tests

OK = b"HTTP/1.1 200 OK\r\n"
BODY = bytes(range(256)) * 40
MOST = 100_000


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    made = Downloader(
        timeout_s=1, whole_s=1, max_bytes=10, allow_hosts=["127.0.0.1"], refused_robots_tags=["noindex"]
    )
    yield made
    made.close()


def length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


def saved(downloader: Downloader, answer: bytes, most_bytes: int = MOST) -> bytes:
    file = io.BytesIO(b"what was there before")
    with raw_server(answer) as server:
        downloader.save(server.url(), file, most_bytes)
    return file.getvalue()


def test_the_content_is_in_the_file_and_the_media_type_is_told(downloader: Downloader) -> None:
    file = io.BytesIO()
    answers = {
        b"/a": b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 4\r\n\r\nnope",
        b"/b": OK
        + b"Content-Type: text/csv\r\nX-Robots-Tag: noindex\r\n"
        + length(len(BODY))
        + b"\r\n"
        + BODY,
    }
    with raw_server(lambda head: [answers[head.split()[1]]]) as server:
        assert downloader.save(server.url("/a"), file, MOST) == "text/csv"
    assert file.getvalue() == BODY  # of more bytes than a picture may have
    assert all(b"Accept: */*\r\n" in head and head.count(b"Accept:") == 1 for head in server.heads)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (OK + b"\r\n" + BODY, BODY),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), BODY),
        (OK + length(0) + b"\r\n", b""),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + compress(BODY), BODY),
        (OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(BODY), BODY),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + BODY, BODY),
    ],
    ids=["to the end", "chunked", "empty", "gzip", "deflate", "not encoded after all"],
)
def test_what_is_whole_is_saved(answer: bytes, content: bytes, downloader: Downloader) -> None:
    assert saved(downloader, answer) == content


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        (OK + length(len(BODY) + 1) + b"\r\n" + BODY, "connect_error", "the answer broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "connect_error", "the answer broke off"),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + compress(BODY)[:-3],
            "connect_error",
            "the content is damaged",
        ),
        (OK + length(MOST + 1) + b"\r\n", "too_large", "the file has more than 100,000 bytes"),
        (OK + b"\r\n" + bytes(MOST + 1), "too_large", "the file has more than 100,000 bytes"),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + compress(bytes(50 * MOST)),
            "too_large",
            "it unpacks to more than 100,000 bytes",
        ),
        (b"HTTP/1.1 206 Partial Content\r\n" + length(1) + b"\r\nx", "http_status", "206 Partial Content"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "http_status", "204 No Content"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "http_status", "304 Not Modified"),
        (b"HTTP/1.1 500 Oh\r\n" + length(1) + b"\r\nx", "http_status", "500 Internal Server Error"),
        (OK + b"Content-Encoding: br\r\n\r\nx", "not_an_image", "the answer's Content-Encoding is br"),
    ],
)
def test_what_is_not_whole_is_an_error(answer: bytes, code: str, detail: str, downloader: Downloader) -> None:
    error = _failure(lambda: saved(downloader, answer))
    assert (error.code, error.detail[: len(detail)]) == (code, detail)


def test_tls_that_ends_without_notice_is_no_end(names: dict[str, list[str]], tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "named.test")
    names["named.test"] = ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    strict = Downloader(
        timeout_s=5, whole_s=5, max_bytes=10, allow_hosts=["127.0.0.1"], ca_bundle=certificate
    )
    with raw_server(OK + b"\r\n" + BODY, tls=context) as server:
        url = server.url(host="named.test").replace("http", "https", 1)
        assert _failure(lambda: strict.save(url, io.BytesIO(), MOST)).detail == "the answer broke off"
    strict.close()


def test_silence_ends_it_and_a_slow_host_does_not(downloader: Downloader) -> None:
    """It takes longer than a picture may in all: `whole_s` is a second."""
    wait = threading.Event()

    def slowly(_: bytes) -> Iterator[bytes]:
        yield OK + length(4) + b"\r\n"
        for byte in b"abcd":
            wait.wait(0.4)
            yield bytes([byte])

    def silent(_: bytes) -> Iterator[bytes]:
        yield OK + length(4) + b"\r\na"
        wait.wait(10)

    file = io.BytesIO()
    with raw_server(slowly) as server:
        downloader.save(server.url(), file, MOST)
    assert file.getvalue() == b"abcd"
    with raw_server(silent) as server:
        assert _failure(lambda: downloader.save(server.url(), file, MOST)).code == "timeout"
        wait.set()


def test_it_is_called_off(downloader: Downloader) -> None:
    called_off = threading.Event()
    called_off.set()
    with raw_server(OK + b"\r\n" + BODY) as server:
        error = _failure(lambda: downloader.save(server.url(), io.BytesIO(), MOST, called_off=called_off))
    assert (error.code, error.transient) == ("connect_error", False)


ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "bare": lambda content: zlib.compress(content, wbits=-zlib.MAX_WBITS),
    "members": lambda content: b"".join(
        compress(content[at : at + 9]) for at in range(0, len(content) or 1, 9)
    ),
    "padded": lambda content: compress(content) + bytes(20),
}
NAMED = {"gzip": "gzip", "deflate": "deflate", "bare": "deflate", "members": "gzip", "padded": "gzip"}


@given(
    st.binary(max_size=200),
    st.lists(st.sampled_from(sorted(ENCODERS)), max_size=3),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_parts_are_undone_as_the_whole_is(content: bytes, layers: list[str], sizes: list[int]) -> None:
    packed = content
    for layer in layers:
        packed = ENCODERS[layer](packed)
    encoded = [NAMED[layer] for layer in reversed(layers)]
    assert _in_parts(packed, encoded, sizes) == undone(packed, encoded, MOST)


@given(st.binary(max_size=300), st.lists(st.sampled_from(["gzip", "deflate"]), max_size=2))
def test_what_is_no_encoding_ends_in_the_same_way(content: bytes, encoded: list[str]) -> None:
    def outcome(undo: object) -> object:
        try:
            return undo()  # type: ignore[operator]
        except ItemError as error:
            return error.code

    assert outcome(lambda: _in_parts(content, encoded, [50])) == outcome(
        lambda: undone(content, encoded, MOST)
    )


def _in_parts(content: bytes, encoded: list[str], sizes: list[int]) -> bytes:
    undoing, found, at, turn = Undoing(encoded, MOST), bytearray(), 0, 0
    while at < len(content):
        part = content[at : at + sizes[turn % len(sizes)]]
        at, turn = at + len(part), turn + 1
        for piece in undoing.parts(part):
            found += piece
    for piece in undoing.rest():
        found += piece
    return bytes(found)
