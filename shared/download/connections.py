"""The handles of libcurl, with the connections that they keep open."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pycurl

Handle = pycurl.Curl

KEEPALIVE_SECONDS = 5.0
_CONNECTIONS_EACH = 4
_SPARE = 32  # idle handles; with so many, another host gets one of them, which has the certificates loaded
_MAX_IDLE = 128
_BUFFER_BYTES = 128 * 1024


Origin = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A handle, and what it may still be connected to."""

    handle: Handle
    origins: deque[Origin] = field(default_factory=lambda: deque(maxlen=_CONNECTIONS_EACH))
    idle_since: float = 0.0


class Connections:
    """Handles of libcurl with their open connections, lent to one download at a time.

    `ca_bundle` is a PEM file of the certificates that are trusted, or a folder as OpenSSL has them. Each
    handle that made a TLS connection has a file's in memory, about a megabyte.
    """

    def __init__(self, ca_bundle: str) -> None:
        self._ca_option = pycurl.CAPATH if Path(ca_bundle).is_dir() else pycurl.CAINFO
        self._ca_bundle = os.fsencode(ca_bundle)
        self._idle: list[_Kept] = []  # the longest idle first
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, host: str, port: int) -> Iterator[Handle]:
        """Lend a handle without cookies, one that is connected to the host if there is one."""
        kept = self._take((host, port))
        kept.handle.setopt(pycurl.COOKIELIST, "ALL")  # removes them
        try:
            yield kept.handle
        finally:
            self._give_back(kept, (host, port))

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.handle.close()

    def _take(self, origin: Origin) -> _Kept:
        with self._lock:
            places = range(len(self._idle) - 1, -1, -1)
            place = next((place for place in places if origin in self._idle[place].origins), None)
            if place is None and len(self._idle) >= _SPARE:
                place = 0
            if place is not None:
                return self._idle.pop(place)
        return _Kept(self._made())

    def _give_back(self, kept: _Kept, origin: Origin) -> None:
        if origin not in kept.origins:
            kept.origins.append(origin)
        now = time.monotonic()
        with self._lock:
            self._idle.append(replace(kept, idle_since=now))
            stale = len(self._idle) > _SPARE and self._idle[0].idle_since < now - KEEPALIVE_SECONDS
            dropped = self._idle.pop(0) if stale or len(self._idle) > _MAX_IDLE else None
        if dropped is not None:
            dropped.handle.close()

    def _made(self) -> Handle:
        handle = pycurl.Curl()
        handle.unsetopt(pycurl.CAINFO)  # which may have a default
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),  # none of the environment's
            (pycurl.NOPROXY, "*"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.TRANSFER_ENCODING, 0),
            (pycurl.PATH_AS_IS, 1),
            (self._ca_option, self._ca_bundle),
            (pycurl.MAXCONNECTS, _CONNECTIONS_EACH),
            (pycurl.MAXAGE_CONN, int(KEEPALIVE_SECONDS)),
            (pycurl.BUFFERSIZE, _BUFFER_BYTES),
            (pycurl.NOPROGRESS, 0),
            (pycurl.COOKIEFILE, ""),  # they are kept, in memory
        ):
            handle.setopt(option, value)
        return handle
