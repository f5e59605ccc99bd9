"""Asking for a file only if it has changed, of servers that keep to RFC 9110 and of others."""

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from shared.download.downloader import Download, Downloader
from shared.download.request_urls import parse
from shared.download.transfer import Answer
from shared.download.validators import Validators, conditions, said_of, url_digest
from shared.errors import ItemError
from tests.image_server import ImageServer, small_picture

URL = parse("https://example.com/a.jpg?w=1")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    made = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1"])
    yield made
    made.close()


def twice(downloader: Downloader, url: str) -> tuple[Download, Download]:
    first = downloader.download(url)
    return first, downloader.download(url, known=first.validators)


@pytest.mark.parametrize("mode", ["etag", "weak", "unquoted", "modified", "both"])
def test_what_has_not_changed_is_not_sent_again(
    server: ImageServer, downloader: Downloader, mode: str
) -> None:
    server.mode = mode
    first, again = twice(downloader, server.url("/kept/1.png"))
    assert first.content == small_picture(1)
    assert again == Download(None, first.validators)
    assert server.statuses == {200: 1, 304: 1}
    assert server.connections == 1


@pytest.mark.parametrize("mode", ["etag", "weak", "modified", "both"])
def test_what_has_changed_is_sent(server: ImageServer, downloader: Downloader, mode: str) -> None:
    server.mode = mode
    first = downloader.download(server.url("/kept/1.png"))
    server.versions[1] = 1
    again = downloader.download(server.url("/kept/1.png"), known=first.validators)
    assert again.content == small_picture(1, 1)
    assert again.validators != first.validators


@pytest.mark.parametrize(("mode", "known"), [("none", False), ("deaf", True), ("touched", True)])
def test_a_server_that_always_answers_with_the_file_is_taken_at_its_word(
    server: ImageServer, downloader: Downloader, mode: str, known: bool
) -> None:
    server.mode = mode
    first, again = twice(downloader, server.url("/kept/1.png"))
    assert again.content == first.content == small_picture(1)
    assert (first.validators is not None) is known


def test_a_304_that_nobody_asked_for_is_asked_again_past_caches(
    server: ImageServer, downloader: Downloader
) -> None:
    server.mode = "eager"
    assert downloader.get(server.url("/kept/1.png")) == small_picture(1)
    assert server.statuses == {304: 1, 200: 1}


def test_a_server_that_has_nothing_but_304_fails(server: ImageServer, downloader: Downloader) -> None:
    server.mode = "stuck"
    with pytest.raises(ItemError) as raised:
        downloader.get(server.url("/kept/1.png"))
    assert (raised.value.code, raised.value.detail) == ("http_status", "304 Not Modified")
    assert server.statuses == {304: 2}


def test_a_304_for_another_version_is_not_believed(server: ImageServer, downloader: Downloader) -> None:
    first = downloader.download(server.url("/kept/1.png"))
    server.mode, server.versions[1] = "eager", 1
    again = downloader.download(server.url("/kept/1.png"), known=first.validators)
    assert again.content == small_picture(1, 1)


def test_the_condition_goes_to_the_url_that_it_is_of(server: ImageServer, downloader: Downloader) -> None:
    def to(number: int) -> str:
        return server.url(f"/redirect-to?url=/kept/{number}.png")

    first, again = twice(downloader, to(1))
    assert first.content is not None
    assert again.content is None
    # Another place may have the same ETag for another file.
    other = downloader.download(to(2), known=first.validators)
    assert other.content == small_picture(2)


def test_a_file_that_is_not_wanted_any_more_is_refused_although_unchanged(server: ImageServer) -> None:
    known = Validators(url_digest(parse(server.url("/robots-304"))), '"a"')
    refusing = Downloader(
        timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1"], refused_robots_tags=["noai"]
    )
    with pytest.raises(ItemError, match="X-Robots-Tag says noai"):
        refusing.download(server.url("/robots-304"), known=known)
    refusing.close()


@pytest.mark.parametrize("mode", ["confused400", "confused412"])
def test_a_server_that_does_not_understand_conditions_is_asked_without(
    server: ImageServer, downloader: Downloader, mode: str
) -> None:
    server.mode = mode
    _, again = twice(downloader, server.url("/kept/1.png"))
    assert again.content == small_picture(1)
    assert server.statuses == {200: 2, int(mode[-3:]): 1}
    with pytest.raises(ItemError, match="400 Bad Request"):
        downloader.get(server.url("/status/400"))
    assert server.hits["/status/400"] == 1


def test_a_picture_that_is_gone_fails_as_ever(server: ImageServer, downloader: Downloader) -> None:
    first = downloader.download(server.url("/kept/1.png"))
    server.versions[1] = -1
    with pytest.raises(ItemError, match="404"):
        downloader.download(server.url("/kept/1.png"), known=first.validators)


def said(status: int = 200, **headers: str) -> Validators | None:
    lines = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return said_of(URL, Answer(status, lines))


@pytest.mark.parametrize(
    "etag",
    ["*", '""', "", '"a", "b"', '"a" b', "a, *", '"\xe4"', '"' + "a" * 300 + '"', '"a\t"', 'W/""'],
)
def test_an_etag_that_cannot_be_sent_back_safely_is_not_kept(etag: str) -> None:
    assert said(ETag=etag) is None


def test_two_etags_are_none() -> None:
    assert said_of(URL, Answer(200, [(b"etag", b'"a"'), (b"etag", b'"b"')])) is None


def test_a_time_counts_only_if_the_file_was_not_changed_within_the_same_second() -> None:
    now = time.time()
    date, before = formatdate(now, usegmt=True), formatdate(now - 5, usegmt=True)
    assert said(Last_Modified=date, Date=date) is None
    assert said(Last_Modified=formatdate(now + 900, usegmt=True), Date=date) is None
    found = said(Last_Modified=before, Date=date)
    assert found is not None
    assert conditions(found, URL) == (f"If-Modified-Since: {before}",)
    assert said(Last_Modified=before) is None, "by whose clock?"
    assert said(Last_Modified=formatdate(now - 900, usegmt=True)) is not None
    assert said(Last_Modified="yesterday", Date=date) is None
    assert said(Last_Modified="0", Date=date) is None


def test_an_etag_is_asked_with_alone() -> None:
    found = said(ETag='W/"a"', Last_Modified="Wed, 01 Jan 2025 00:00:00 GMT")
    assert found is not None
    assert conditions(found, URL) == ('If-None-Match: W/"a"',)
    assert conditions(found, parse("https://example.com/a.jpg?w=2")) == ()
    assert conditions(found, parse("http://example.com/a.jpg?w=1")) == ()
    assert conditions(None, URL) == ()


def test_what_is_not_the_whole_file_has_no_validators() -> None:
    assert said(206, ETag='"a"') is None
