"""Feeds: the table reader's rows as entries, and a sentence for whatever is no whole feed."""

import gzip
import io
import threading
import zipfile
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import Unavailable
from tests.unit.worker.listings.listed import (
    MOST_BYTES,
    answer,
    failure,
    failure_of,
    listing,
    listing_of,
    services,
    web,
)
from worker.listings import downloads
from worker.listings import listing as listing_module
from worker.listings.entries import Entry

compress = partial(gzip.compress, mtime=0)  # the same in every process that collects the tests

CSV = b"sku,url,title\nA1,http://a.example/1.jpg,One\nA2,https://a.example/2.jpg,Two\n"
BOTH = [
    Entry("http://a.example/1.jpg", metadata={"sku": "A1", "title": "One"}),
    Entry("https://a.example/2.jpg", metadata={"sku": "A2", "title": "Two"}),
]


def test_the_rows_of_a_table_are_entries_with_key_and_metadata() -> None:
    entries, notes = listing_of(CSV, key_column="sku", skip_columns="title")
    assert entries == [Entry("http://a.example/1.jpg", "A1"), Entry("https://a.example/2.jpg", "A2")]
    assert notes == []


@pytest.mark.parametrize(
    "body",
    [
        CSV,
        compress(CSV),
        compress(compress(CSV)),
        compress(CSV[:40]) + compress(CSV[40:]),
        answer(compress(CSV), "Content-Encoding: gzip"),
        answer(compress(compress(CSV)), "Content-Encoding: gzip", "Content-Type: application/gzip"),
    ],
    ids=["plain", "gz", "gz twice", "gz in members", "encoded", "gz encoded"],
)
def test_a_feed_may_be_packed_by_gzip(body: bytes) -> None:
    assert listing_of(body, "/feed.csv.gz")[0] == BOTH


def test_parquet_and_json_are_read_as_they_are_of_a_body() -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"url": ["http://a.example/1.jpg"], "price": [1.5]}), file)
    expected = [Entry("http://a.example/1.jpg", metadata={"price": 1.5})]
    assert listing_of(file.getvalue())[0] == expected
    assert listing_of(b'[{"url": "http://a.example/1.jpg", "price": 1.5}]')[0] == expected


def test_the_notes_of_the_table_are_passed_on() -> None:
    _, notes = listing_of(b"url,The Price\nhttp://a.example/1.jpg,3\n\nhttp://a.example/2.jpg,4\n")
    assert [note.code for note in notes] == ["column_renamed", "rows_skipped"]


def test_a_row_that_cannot_be_an_item_costs_itself_alone_and_keeps_its_key() -> None:
    entries, _ = listing_of(b"url,key\nhttp://a.example/1.jpg,one\n,two\nno url,three\n")
    assert entries[0] == Entry("http://a.example/1.jpg", "one")
    assert [(entry.key, entry.error) for entry in entries[1:]] == [
        ("two", "invalid_url: Line 3 is malformed: the URL is empty."),
        ("three", "invalid_url: The URL does not begin with http:// or https://."),
    ]


@pytest.mark.parametrize("url", ["file:///pictures/1.jpg", "FILE:///pictures/1.jpg", "s3://pictures/1.jpg"])
def test_a_feed_cannot_name_what_the_deployment_alone_may_read(url: str) -> None:
    entries, _ = listing_of(f"url\nhttp://a.example/1.jpg\n{url}\n".encode())
    assert entries[1].error == "invalid_url: The URL does not begin with http:// or https://."


@pytest.mark.parametrize("body", [b"url,title\n", b"[]", b"# a list\n"], ids=["csv", "json", "list"])
def test_a_feed_without_rows_is_an_empty_listing(body: bytes) -> None:
    assert listing_of(body, "/feed.txt" if body.startswith(b"#") else "/feed") == ([], [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "FEED has no bytes: the answer is empty."),
        (compress(b""), "FEED has no bytes: the answer is empty."),
        (b"\n \n", "FEED: The table is empty."),
        (b"<!doctype html><html><body>Sign in</body></html>", "FEED is a web page (HTML), neither"),
        (b"<html><head><title>502</title></head></html>", "FEED is a web page (HTML), neither"),
        (b'{"error": "not found"}', "FEED: The table has no column `url`"),
        (b'{"error":\n "not found"}', "FEED: The table is one JSON object over several lines"),
        (b"title,price\nOne,3\n", "FEED: The table has no column `url`"),
        (b"upstream connect error", "FEED: The table has no column `url`"),
        (b"<rss version='2.0'><channel/></rss>", "FEED is an RSS feed, which is not read: give a sitemap"),
        (b"<feed xmlns='http://www.w3.org/2005/Atom'/>", "FEED is an Atom feed, which is not read"),
        (b"<?xml version='1.0'?><svg/>", "FEED: The table is an XML document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "FEED: The table is an Excel workbook (.xls)"),
        (b"url\nnothing\nnever\n", "FEED: No row of the table has a URL that begins with http://"),
        (compress(CSV)[:-9], "FEED is damaged or breaks off: it is not whole gzip."),
        (answer(CSV, length=1_000), "FEED cannot be fetched: the answer broke off."),
        (answer(CSV, status="206 Partial Content"), "FEED cannot be fetched: 206 Partial Content."),
        (answer(b"{}", status="202 Accepted"), "FEED cannot be fetched: 202 Accepted."),
        (answer(b"", status="403 Forbidden"), "FEED cannot be fetched: 403 Forbidden."),
        (answer(CSV, "Content-Encoding: br"), "FEED cannot be fetched: the answer's Content-Encoding is br"),
        (
            CSV * (MOST_BYTES // len(CSV) + 1),
            "FEED cannot be fetched: the file has more than 1,048,576 bytes",
        ),
    ],
)
def test_what_is_no_whole_feed_is_named(body: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_TRIES", 1)
    assert failure_of(body).startswith(said)


def test_a_workbook_is_named_with_what_to_do() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    assert "an Excel workbook (.xlsx): save the sheet as CSV" in failure_of(file.getvalue())


def test_a_decompression_bomb_ends_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = compress(b"url\n" + bytes(4 * MOST_BYTES))
    assert "FEED unpacks to more than 1,048,576 bytes" in failure_of(packed)
    assert "FEED cannot be fetched: it unpacks to more than 1,048,576 bytes." in failure_of(
        answer(packed, "Content-Encoding: gzip")
    )
    monkeypatch.setattr(downloads, "RATIO_FLOOR", 2**16)
    assert "FEED is a decompression bomb" in failure_of(compress(bytes(MOST_BYTES // 2)))


def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads.random, "uniform", lambda *_: 0.0)
    pages = {"/feed": answer(b"", status="503 Service Unavailable")}
    with web(pages) as server:
        said = failure(server.url("/feed"))
        assert said.endswith("cannot be fetched: 503 Service Unavailable.")
        assert len(server.heads) == downloads.MAX_TRIES


def test_no_secret_of_the_address_is_told() -> None:
    with web({}) as server:
        said = failure(server.url("/feed?token=opensesame"))
    assert "404 Not Found" in said
    assert "opensesame" not in said


def test_an_address_that_is_not_public_is_not_asked() -> None:
    assert "the host's address is not a public one" in failure("http://10.0.0.1/feed.csv")


def test_more_entries_than_may_be_end_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MAX_ENTRIES", 2)
    assert len(listing_of(CSV)[0]) == 2
    with web({"/feed": CSV + b"A3,http://a.example/3.jpg,Three\n"}) as server:
        assert failure(server.url("/feed")) == "The listing has more than 2 entries: make several sources."


def test_a_listing_whose_chunk_is_lost_ends_early() -> None:
    lost = threading.Event()
    lost.set()
    with web({"/feed": CSV}) as server:
        with pytest.raises(Unavailable):
            listing(server.url("/feed"), services(), lost)
        assert server.heads == []
