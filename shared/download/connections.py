"""The handles of libcurl, with the connections that they keep open."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pycurl

Handle = pycurl.Curl

KEEPALIVE_SECONDS = 5.0
_MAX_IDLE = 128  # each holds the certificates to trust, a megabyte
_CONNECTIONS_EACH = 4  # a redirect's hosts
_BUFFER_BYTES = 128 * 1024


class Connections:
    """Handles of libcurl with their open connections, lent to one download at a time.

    `ca_bundle` is a PEM file of the certificates that are trusted.
    """

    def __init__(self, ca_bundle: str) -> None:
        self._ca_bundle = ca_bundle
        self._idle: list[tuple[float, tuple[str, int], Handle]] = []  # the longest idle first
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, host: str, port: int) -> Iterator[Handle]:
        """Lend a handle without cookies, one that is connected to the host if there is one."""
        handle = self._take((host, port))
        handle.setopt(pycurl.COOKIELIST, "ALL")  # removes them
        try:
            yield handle
        finally:
            self._give_back((host, port), handle)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, handle in idle:
            handle.close()

    def _take(self, origin: tuple[str, int]) -> Handle:
        with self._lock:
            places = range(len(self._idle) - 1, -1, -1)
            place = next((place for place in places if self._idle[place][1] == origin), None)
            if place is None and self._idle and self._is_stale(self._idle[0]):
                place = 0  # it has the certificates loaded
            if place is not None:
                return self._idle.pop(place)[2]
        return self._made()

    def _give_back(self, origin: tuple[str, int], handle: pycurl.Curl) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), origin, handle))
            many = len(self._idle) > _MAX_IDLE
            dropped = [self._idle.pop(0)[2]] if many or self._is_stale(self._idle[0]) else []
        for one in dropped:
            one.close()

    @staticmethod
    def _is_stale(idle: tuple[float, tuple[str, int], Handle]) -> bool:
        return idle[0] < time.monotonic() - KEEPALIVE_SECONDS

    def _made(self) -> Handle:
        handle = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),  # none of the environment's
            (pycurl.NOPROXY, "*"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.TRANSFER_ENCODING, 0),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.CAINFO, self._ca_bundle),
            (pycurl.MAXCONNECTS, _CONNECTIONS_EACH),
            (pycurl.MAXAGE_CONN, int(KEEPALIVE_SECONDS)),
            (pycurl.BUFFERSIZE, _BUFFER_BYTES),
            (pycurl.NOPROGRESS, 0),
            (pycurl.COOKIEFILE, ""),  # they are kept, in memory
        ):
            handle.setopt(option, value)
        return handle
