"""Fetching files from URLs that strangers wrote.

The addresses of a name are looked up once and checked, and the connection is made to one of those very
addresses; the name stays in TLS and in the Host header. Redirects are followed here, so that each hop is
checked the same way.
"""

import email.utils
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TypeVar

import certifi

from shared.download.addresses import AddressPolicy
from shared.download.connections import Connections, Handle
from shared.download.content_encoding import Undoing, encodings, undone
from shared.download.deadline import Deadline
from shared.download.host_headers import HostHeaders
from shared.download.host_limits import HostLimits
from shared.download.own_services import FETCH_HEADER, OwnServices
from shared.download.request_urls import RequestUrl, parse
from shared.download.resolver import Resolver
from shared.download.transfer import Answer, Request, Sink, transfer
from shared.download.validators import NO_CACHE, Validators, conditions, confirmed, said_of
from shared.errors import ItemError
from shared.version import VERSION

USER_AGENT = f"image-search/{VERSION} (+bulk image ingestion)"
MAX_REDIRECTS = 5
SAVE_SECONDS = 6 * 3600.0  # for a large file from a slow host
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A request without conditions has another answer, if the server is not as it should be: what it says of a
# file that was not asked for so, and of a condition that it does not understand.
_NO_ANSWER = frozenset({HTTPStatus.NOT_MODIFIED, HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED})
_WHOLE = frozenset({HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION})
_MAX_DRAINED_BYTES, _MAX_DRAINED_SECONDS = 16 * 1024, 1.0
_MAX_DIGITS = 100  # int() has a limit of its own
_MAX_RETRY_AFTER_SECONDS = 86400.0
_DIRECTIVES_WITH_VALUE = {"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"}

Hold = Callable[[int], None]
_AnyContent = TypeVar("_AnyContent", bound="_Content | _Saved")


@dataclass(frozen=True, slots=True)
class Download:
    """A file's `content`, None if it has not changed, and what to ask for it with the next time, if known."""

    content: bytes | None
    validators: Validators | None = None


class Downloader:
    """A client for URLs of strangers, safe to share between threads; make it after a fork, not before.

    `timeout_s` is the silence that is borne of a host, `whole_s` bounds a whole call, redirects and all.
    `allow_hosts` (AddressPolicy) may be reached although they are not public; raises ConfigError for a
    malformed one. What is at `own_urls` is never reached. A file whose X-Robots-Tag has one of
    `refused_robots_tags` is refused. `ca_bundle` is a PEM file of the certificates to trust.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        whole_s: float,
        max_bytes: int,
        allow_hosts: Sequence[str],
        own_urls: Sequence[str] = (),
        refused_robots_tags: Sequence[str] = (),
        user_agent: str | None = None,
        ca_bundle: Path | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._whole_s = whole_s
        self._max_bytes = max_bytes
        self._refused_robots_tags = {tag.lower() for tag in refused_robots_tags}
        self._policy = AddressPolicy(allow_hosts)
        self._resolver = Resolver()
        self._own = OwnServices(own_urls, self._look_up)
        named = ca_bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        self._connections = Connections(str(named or certifi.where()))
        self._headers = (
            f"User-Agent: {user_agent or USER_AGENT}",
            f"{FETCH_HEADER}: 1",
            "Accept: image/*, */*;q=0.5",
            "Accept-Encoding: identity",
        )

    def get(
        self,
        url: str,
        limits: HostLimits | None = None,
        *,
        whole_s: float | None = None,
        hold: Hold = lambda _: None,
        called_off: threading.Event | None = None,
    ) -> bytes:
        """Return the content of `url`, never empty, within `limits` at each host that is not allowed by name.

        `hold` is called before the content is read, with the most bytes that it may have, and may wait: that
        is not taken off the deadline, which is `whole_s` from now. Once `called_off` is set the download
        ends with a connect_error. No credentials of this deployment's are sent: anybody may ask.

        Raises ItemError: invalid_url, blocked_address, dns_error, connect_error, timeout, http_status,
        too_many_redirects, too_large or not_an_image; and what `limits` and `hold` raise.
        """
        found = self.download(url, limits, whole_s=whole_s, hold=hold, called_off=called_off)
        assert found.content is not None  # noqa: S101 - without validators nothing is left out
        return found.content

    def download(
        self,
        url: str,
        limits: HostLimits | None = None,
        *,
        known: Validators | None = None,
        headers: HostHeaders | None = None,
        whole_s: float | None = None,
        hold: Hold = lambda _: None,
        called_off: threading.Event | None = None,
    ) -> Download:
        """Download `url`, with `known` only if it has changed since. The rest is as for `get`.

        Its origin gets what `headers` has for it, until a redirect leads to another one.
        """
        deadline = self._deadline(whole_s, called_off)

        def content() -> _Content:
            return _Content(self._max_bytes, self._refused_robots_tags, deadline, hold)

        found, validators = self._followed(url, content, deadline, limits, known=known, headers=headers)
        return Download(None if found is None else found.whole(), validators)

    def save(
        self,
        url: str,
        file: IO[bytes],
        most_bytes: int,
        limits: HostLimits | None = None,
        *,
        headers: HostHeaders | None = None,
        called_off: threading.Event | None = None,
    ) -> str:
        """Write the content of `url`, perhaps no bytes, into `file`; return its media type, as it is said.

        It may take SAVE_SECONDS, as long as something comes. An answer of a part of a file, or that was cut
        off, is an error. No X-Robots-Tag is heeded: it is for pictures. The rest is as for `download`.
        """
        deadline = self._deadline(SAVE_SECONDS, called_off)
        found, _ = self._followed(url, lambda: _Saved(file, most_bytes), deadline, limits, headers=headers)
        assert found is not None  # noqa: S101 - without validators nothing is left out
        found.end()
        return found.answer.header(b"content-type")

    def _followed(
        self,
        url: str,
        new_content: Callable[[], _AnyContent],
        deadline: Deadline,
        limits: HostLimits | None,
        *,
        known: Validators | None = None,
        headers: HostHeaders | None = None,
    ) -> tuple[_AnyContent | None, Validators | None]:
        """Ask where `url` leads to; return the content, None if it has not changed, and its validators."""
        target = parse(url)
        own = headers.of(target.origin) if headers else ()
        with self._connections.lent(target.host, target.port) as handle:
            for _ in range(MAX_REDIRECTS + 1):
                asked = conditions(known, target)
                for extra in (asked, NO_CACHE):
                    content = new_content()
                    with self._turn(target, limits, deadline):
                        answer = self._get_once(handle, target, deadline, content, extra, own=own)
                    if answer.status not in _NO_ANSWER:
                        break
                    if known and asked and extra == asked and (still := confirmed(known, answer)):
                        return None, still
                else:  # although whatever there is was asked for
                    raise _status_error(answer)
                location = _location(answer)
                if location is None:
                    return content, said_of(target, answer)
                left, target = target, target.joined(location)
                own = own if target.origin == left.origin else ()
        raise ItemError("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    def check(self, url: str, timeout_s: float | None = None) -> None:
        """Check a URL and its addresses only. Raises ItemError: invalid_url, blocked_address or dns_error."""
        self._permitted(parse(url), self._deadline(timeout_s or self._timeout_s))

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float | None = None) -> int:
        """Return the status of `url`'s answer, redirects not followed. Raises ItemError as `get` does."""
        deadline = self._deadline(timeout_s or self._timeout_s)
        target = parse(url)
        extra = [f"{name}: {value}" for name, value in headers.items()]
        with self._connections.lent(target.host, target.port) as handle:
            drained = _Drained()
            addresses = self._permitted(target, deadline)
            request = Request(target, addresses, [*self._headers, *extra], body)
            with drained.enough():
                transfer(handle, request, deadline, self._check, drained.begin)
            return drained.answer.status

    def close(self) -> None:
        self._connections.close()

    def _get_once(
        self,
        handle: Handle,
        target: RequestUrl,
        deadline: Deadline,
        content: "_Content | _Saved",
        conditional: Sequence[str],
        *,
        own: Sequence[str],
    ) -> Answer:
        """Ask once. Return the head of an answer with the content, of a redirect or one of _NO_ANSWER."""
        addresses = self._permitted(target, deadline)
        drained = _Drained()

        def begin(answer: Answer) -> Sink:
            return content.begin(answer) if 200 <= answer.status < 300 else drained.begin(answer)

        lines = _overridden(_overridden(self._headers, content.asked_with), own)
        request = Request(target, addresses, [*lines, *conditional], strict=content.strict)
        with drained.enough():
            transfer(handle, request, deadline, self._check, begin)
        answer = drained.answer
        if answer.status == 0:
            return content.answer
        if answer.status == HTTPStatus.NOT_MODIFIED:
            content.check(answer)
        elif _location(answer) is None and not (conditional and answer.status in _NO_ANSWER):
            raise _status_error(answer)
        return answer

    def _deadline(self, whole_s: float | None, called_off: threading.Event | None = None) -> Deadline:
        return Deadline(self._timeout_s, self._whole_s if whole_s is None else whole_s, called_off)

    @contextmanager
    def _turn(self, target: RequestUrl, limits: HostLimits | None, deadline: Deadline) -> Iterator[None]:
        """Wait for the host's turn, which is not taken off the deadline; the block is one request."""
        host = target.host
        if limits is None or self._policy.exempts(host, target.port, self._permitted(target, deadline)):
            yield
            return
        with deadline.paused():
            turn = limits.wait(host)
        failure = None
        try:
            yield
        except ItemError as error:
            failure = error
            raise
        finally:
            limits.report(host, turn, failure)

    def _permitted(self, target: RequestUrl, deadline: Deadline) -> list[str]:
        """Return the host's addresses. Raises ItemError: dns_error or blocked_address."""
        addresses = self._look_up(target.host, min(deadline.silence_s, deadline.left()))
        self._check(target.host, target.port, addresses)
        return addresses

    def _look_up(self, host: str, timeout_s: float | None = None) -> list[str]:
        return self._resolver.addresses(host, timeout_s or self._timeout_s)

    def _check(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Raise ItemError `blocked_address` if the host must not be reached at one of its addresses."""
        for address in addresses:
            if not self._policy.permits(host, port, address):
                raise ItemError("blocked_address", "the host's address is not a public one")
            if self._own.include(host, port, address):
                raise ItemError("blocked_address", "this service itself is at that address and port")


class _Content:
    """The content of one answer as it comes, counted, and its Content-Encoding undone at the end."""

    asked_with: Sequence[str] = ()
    strict = False

    def __init__(self, max_bytes: int, refused_robots_tags: set[str], deadline: Deadline, hold: Hold) -> None:
        self._max_bytes = max_bytes
        self._refused = refused_robots_tags
        self._deadline = deadline
        self._hold = hold
        self._encodings: list[str] = []
        self._bytes = bytearray()
        self.answer = Answer()

    def check(self, answer: Answer) -> None:
        """Raise ItemError if the server does not want its file to be used."""
        if refused := self._refused & _robots_tags(answer):
            raise ItemError("http_status", f"the server's X-Robots-Tag says {sorted(refused)[0]}")

    def begin(self, answer: Answer) -> Sink:
        self.check(answer)
        self.answer = answer
        length = _length(answer)
        if length is not None and length > self._max_bytes:
            raise ItemError.too_large(self._max_bytes)
        self._encodings = encodings(",".join(answer.all(b"content-encoding")))
        with self._deadline.paused():
            self._hold(self._max_bytes if length is None or self._encodings else length)
        return self._take

    def whole(self) -> bytes:
        """Return it. Raises ItemError if it is empty, or not what its Content-Encoding says."""
        content = undone(bytes(self._bytes), self._encodings, self._max_bytes)
        if not content:
            raise ItemError("not_an_image", "the answer is empty")
        return content

    def _take(self, part: bytes) -> None:
        self._bytes += part
        if len(self._bytes) > self._max_bytes:
            raise ItemError.too_large(self._max_bytes)


class _Saved:
    """The content of one answer, written into a file as it comes."""

    asked_with: Sequence[str] = ("Accept: */*",)
    strict = True

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._written = 0
        self._undoing: Undoing | None = None
        self.answer = Answer()

    def check(self, answer: Answer) -> None:
        """Heed no X-Robots-Tag: a sitemap often has one, since it is not to be found itself."""

    def begin(self, answer: Answer) -> Sink:
        if answer.status not in _WHOLE:
            raise _status_error(answer)
        self.answer = answer
        if (_length(answer) or 0) > self._most_bytes:
            raise self._too_large()
        if encoded := encodings(",".join(answer.all(b"content-encoding"))):
            self._undoing = Undoing(encoded, self._most_bytes)
        self._file.seek(0)
        self._file.truncate()
        return self._take

    def end(self) -> None:
        """Write what is left. Raises ItemError if the content is not what its Content-Encoding says."""
        for part in self._undoing.rest() if self._undoing else ():
            self._write(part)

    def _take(self, part: bytes) -> None:
        for undone_part in self._undoing.parts(part) if self._undoing else (part,):
            self._write(undone_part)

    def _write(self, part: bytes) -> None:
        self._written += len(part)
        if self._written > self._most_bytes:
            raise self._too_large()
        self._file.write(part)

    def _too_large(self) -> ItemError:
        return ItemError("too_large", f"the file has more than {self._most_bytes:,} bytes")


class _Drained:
    """An answer of which the head counts alone.

    A short rest is read, so that the connection can be kept; a longer one is cheaper to break off.
    """

    def __init__(self) -> None:
        self.answer = Answer()
        self._left = _MAX_DRAINED_BYTES
        self._end = 0.0

    def begin(self, answer: Answer) -> Sink:
        self.answer = answer
        self._end = time.monotonic() + _MAX_DRAINED_SECONDS
        return self._take

    @contextmanager
    def enough(self) -> Iterator[None]:
        """Let the block end as if well once the head is here, whatever comes of the rest."""
        try:
            yield
        except (ItemError, _Enough):
            if self.answer.status == 0:
                raise

    def _take(self, part: bytes) -> None:
        self._left -= len(part)
        if self._left < 0 or time.monotonic() > self._end:
            raise _Enough


class _Enough(Exception):
    """Breaks an answer off."""


def _overridden(lines: Sequence[str], by: Sequence[str]) -> list[str]:
    """Return the headers' lines with those of `by` in place of what they have of these names."""
    names = {line.partition(":")[0].lower() for line in by}
    return [line for line in lines if line.partition(":")[0].lower() not in names] + [*by]


def _robots_tags(answer: Answer) -> set[str]:
    """Return the directives of X-Robots-Tag that are for everybody or for us, in lower case."""
    found = set()
    for value in answer.all(b"x-robots-tag"):
        agent = "*"
        for part in value.lower().split(","):
            before, colon, rest = part.strip().partition(":")
            if colon and before not in _DIRECTIVES_WITH_VALUE:
                agent, before = before, rest.strip()
            if agent in ("*", "image-search"):
                found.add(before)
    return found


def _length(answer: Answer) -> int | None:
    """Return how much comes, if that is known: a Transfer-Encoding goes before a Content-Length."""
    said = "" if answer.header(b"transfer-encoding") else answer.header(b"content-length")
    return int(said) if said.isascii() and said.isdigit() and len(said) < _MAX_DIGITS else None


def _location(answer: Answer) -> bytes | None:
    if answer.status not in _REDIRECTS:
        return None
    return next((value for name, value in answer.headers if name == b"location"), None)


def _status_error(answer: Answer) -> ItemError:
    status = answer.status
    try:
        detail = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        detail = str(status)
    retry_after_s = _retry_after_s(answer.header(b"retry-after"))
    return ItemError("http_status", detail, http_status=status, retry_after_s=retry_after_s)


def _retry_after_s(value: str) -> float | None:
    """Return the seconds of a Retry-After in either form (RFC 9110, 10.2.3); None for anything else."""
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
