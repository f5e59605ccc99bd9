"""Validators (RFC 9110, 8.8): with them a server is asked for a file only if it has changed."""

import email.utils
import hashlib
import re
import time
from dataclasses import dataclass, replace
from http import HTTPStatus

from shared.download.request_urls import RequestUrl
from shared.download.transfer import Answer

NO_CACHE = ("Cache-Control: no-cache",)
MAX_ETAG = 256
# Without the quotes, too, as some servers write it; never `*`, which would stand for any file.
_ETAG = re.compile(r'(?:W/)?"[!#-~]+"|[A-Za-z0-9_.:+/=-]+')
_MAX_DATE = 64
_CLOCK_SECONDS = 60.0  # by which the clock of a server that does not say its time may differ from ours


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server said of a file; `at` tells the URL that it was for, which redirects may have led to."""

    at: bytes
    etag: str = ""
    last_modified: str = ""


def url_digest(url: RequestUrl) -> bytes:
    return hashlib.sha256(f"{url.scheme}://{url.host}:{url.port}".encode() + url.path).digest()[:16]


def conditions(known: Validators | None, url: RequestUrl) -> tuple[str, ...]:
    """Return the headers that make a request for `url` conditional; none if nothing is known of that URL."""
    if known is None or known.at != url_digest(url):
        return ()
    if known.etag:  # alone: it tells changes apart that come within a second
        return (f"If-None-Match: {known.etag}",)
    return (f"If-Modified-Since: {known.last_modified}",) if known.last_modified else ()


def said_of(url: RequestUrl, answer: Answer) -> Validators | None:
    """Return the validators of an answer that has the whole file, if it has any."""
    found = Validators(url_digest(url), _etag(answer), _last_modified(answer))
    return found if answer.status == HTTPStatus.OK and (found.etag or found.last_modified) else None


def confirmed(known: Validators, answer: Answer) -> Validators | None:
    """Return what to ask with the next time; None unless the answer is a 304 for what was asked with."""
    etag, modified = _etag(answer), _last_modified(answer)
    if known.etag:
        same = _opaque(etag or known.etag) == _opaque(known.etag)
    else:
        same = modified in ("", known.last_modified)
    if answer.status != HTTPStatus.NOT_MODIFIED or not same:
        return None
    return replace(known, etag=etag or known.etag, last_modified=modified or known.last_modified)


def _etag(answer: Answer) -> str:
    found = set(answer.all(b"etag"))
    etag = found.pop() if len(found) == 1 else ""
    return etag if len(etag) <= MAX_ETAG and _ETAG.fullmatch(etag) else ""


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _last_modified(answer: Answer) -> str:
    """Return the Last-Modified, unless the file may have changed again within that second."""
    value = answer.header(b"last-modified")
    modified, now = _seconds(value), _seconds(answer.header(b"date"))
    latest = time.time() - _CLOCK_SECONDS if now is None else now - 1
    return value if modified is not None and modified <= latest else ""


def _seconds(value: str) -> float | None:
    if not value or len(value) > _MAX_DATE or not value.isascii():
        return None
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
