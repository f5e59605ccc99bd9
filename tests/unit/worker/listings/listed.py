"""Listings of what a server on the loopback and folders have: the real downloader and ledger scripts."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.config import Settings
from shared.download.downloader import Downloader
from shared.models import Note
from shared.services import Services
from shared.sources.definition import Source
from tests.raw_server import RawServer, raw_server
from tests.redis_server import fake_ledger
from worker.listings.entries import Entry, ListingFailed
from worker.listings.listing import open_listing

MOST_BYTES = 2**20


def services(**settings: Any) -> Services:
    settings = {
        "blob_url": "file:///nowhere/blobs",
        "max_upload_bytes": MOST_BYTES,
        "host_rate": 10_000,
    } | settings
    downloader = Downloader(timeout_s=2, whole_s=10, max_bytes=1_000, allow_hosts=["127.0.0.1"])
    made = SimpleNamespace(settings=Settings(**settings), downloader=downloader, ledger=fake_ledger())
    return cast(Services, made)


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@contextmanager
def web(pages: Mapping[str, bytes]) -> Iterator[RawServer]:
    """Serve pages by their path; one that begins with `HTTP/` is the whole answer."""

    def answers(head: bytes) -> list[bytes]:
        page = pages.get(head.split()[1].decode())
        if page is None:
            return [answer(b"", status="404 Not Found")]
        return [page if page.startswith(b"HTTP/") else answer(page)]

    with raw_server(answers) as server:
        yield server


def listing(
    location: str, made: Services | None = None, lost: threading.Event | None = None, **table: str
) -> tuple[list[Entry], list[Note]]:
    source = Source("shop", location, "images", table=table)
    with open_listing(made or services(), source, None, lost or threading.Event()) as found:
        return list(found), found.notes


def listing_of(body: bytes, path: str = "/feed", **table: str) -> tuple[list[Entry], list[Note]]:
    with web({path: body}) as server:
        return listing(server.url(path), **table)


def failure(location: str, made: Services | None = None) -> str:
    with pytest.raises(ListingFailed) as raised:
        listing(location, made)
    return raised.value.detail


def failure_of(body: bytes, path: str = "/feed") -> str:
    """What is said of a feed that cannot be listed, without its address."""
    with web({path: body}) as server:
        url = server.url(path)
        said = failure(url)
    assert url in said
    return said.replace(url, "FEED")
