"""Headers of this deployment's own for picture hosts, such as credentials: the file of FETCH_HEADERS.

No value of it is in an error, a log line or a repr, nor a name that is none.
"""

import json
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import structlog

from shared.download.request_urls import Origin, parse
from shared.errors import ConfigError, ItemError

SETTING = "IMAGE_SEARCH_FETCH_HEADERS"
MAX_FILE_BYTES = 2**20
MAX_ORIGINS = 500
MAX_HEADERS = 32
MAX_VALUE = 8192
# What frames a message, goes hop by hop, or asks for something else than the whole file as it is now.
_RESERVED = {
    *("host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect"),
    *("accept-encoding", "range", "cache-control", "pragma", "x-image-search-fetch"),
}
_RESERVED_PREFIXES = ("if-", "content-", "proxy-")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rf"[!-~](?:[\t -~]{{0,{MAX_VALUE - 2}}}[!-~])?")

log = structlog.get_logger(__name__)

Lines = tuple[str, ...]


class HostHeaders:
    """The headers that a file has for some origins, read again once it has changed; safe to share.

    Raises ConfigError for a file that is none. One that becomes so later is told once, and what was read
    before holds.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = None if path is None else _version(path)
        self._lines = {} if path is None else self._read(path)

    @property
    def origins(self) -> list[str]:
        return [_shown(origin) for origin in self._lines]

    @property
    def open_to_others(self) -> bool:
        """Tell whether other users of the machine may read or change the file."""
        return self._version is not None and bool(self._version[0] & (stat.S_IROTH | stat.S_IWOTH))

    def of(self, origin: Origin) -> Lines:
        """Return the lines that requests of an origin have besides."""
        if self._path is not None:
            with self._lock:
                self._read_again(self._path)
        return self._lines.get(origin, ())

    def _read_again(self, path: Path) -> None:
        version = _version(path)  # before it is read, so that no change goes unseen
        if version == self._version:
            return
        self._version = version
        try:
            self._lines = self._read(path)
            log.info("fetch_headers_read", origins=", ".join(self.origins))
        except ConfigError as error:
            log.error("fetch_headers_kept_as_they_were", reason=error.detail)  # noqa: TRY400 - it says it

    def _read(self, path: Path) -> dict[Origin, Lines]:
        try:
            lines = _parsed(_content(path))
        except ValueError as error:
            raise ConfigError(f"{SETTING}: {path}: {error}") from None
        if self.open_to_others:
            log.warning("fetch_headers_open_to_others", path=str(path), instead=f"chmod 600 {path}")
        return lines


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path) -> bytes:
    """Return what is in the file. Raises ValueError."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    return content


def _parsed(content: bytes) -> dict[Origin, Lines]:
    """Return each origin's lines. Raises ValueError with a sentence that has no value in it."""
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON in UTF-8") from None
    if not isinstance(document, tuple):
        raise ValueError('it is no object such as {"https://cdn.example.com": {"Authorization": "Bearer …"}}')  # noqa: TRY004 - of the file
    if len(document) > MAX_ORIGINS:
        raise ValueError(f"it names more than {MAX_ORIGINS} origins")
    found: dict[Origin, Lines] = {}
    for number, (text, headers) in enumerate(document, start=1):
        origin = _origin(text, number)
        if origin in found:
            raise ValueError(f"{_shown(origin)} stands there twice")
        try:
            found[origin] = _lines(headers)
        except ValueError as error:
            raise ValueError(f"{_shown(origin)}: {error}") from None
    return found


def _origin(text: str, number: int) -> Origin:
    """Return an origin as requests have it: a host alone means https. Raises ValueError."""
    try:
        url = parse(text if "://" in text else f"https://{text}")
    except ItemError as error:
        why = error.detail.replace("the URL", "it")
    else:
        if url.path == b"/" and "#" not in text:
            return url.origin
        why = f"{_shown(url.origin)} is followed by a path or more, and headers are for a whole origin"
    raise ValueError(f"name {number} in it is no origin such as https://cdn.example.com: {why}")


def _lines(headers: Any) -> Lines:
    if not isinstance(headers, tuple):
        raise ValueError('its headers are no object such as {"Authorization": "Bearer …"}')  # noqa: TRY004 - of the file
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"it has more than {MAX_HEADERS} headers")
    lines: dict[str, str] = {}
    for number, (name, value) in enumerate(headers, start=1):
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of header {number} is none: letters, digits, - and _")
        lower = name.lower()
        if lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
            raise ValueError(f"{name} is a header that cannot be set")
        if lower in lines:
            raise ValueError(f"{name} stands there twice")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"the value of {name} is no text of 1 to {MAX_VALUE} printable ASCII characters, without "
                "line breaks and without blanks around it"
            )
        lines[lower] = f"{name}: {value}"
    return tuple(lines.values())


def _shown(origin: Origin) -> str:
    scheme, host, port = origin
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}".removesuffix(
        {"http": ":80", "https": ":443"}[scheme]
    )
