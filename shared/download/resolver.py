"""Looking up host names: within a deadline, at most once per minute, and once for all who ask at a time."""

import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from shared.errors import ItemError

_TTL_SECONDS = 60.0
_FAILURE_TTL_SECONDS = 5.0
_MAX_ENTRIES = 10_000
_MAX_LOOKUPS = 512  # at a time: one that hangs is a thread, and hangs for up to half a minute


class Resolver:
    """A cache of getaddrinfo, which has no time-out of its own and so runs in threads of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, Future[list[str]]]] = {}
        self._lookups = threading.BoundedSemaphore(_MAX_LOOKUPS)

    def addresses(self, host: str, timeout_s: float) -> list[str]:
        """Return a host's numeric addresses, at least one, in order. Raises ItemError `dns_error`."""
        try:
            return self._lookup(host).result(timeout_s)
        except FutureTimeoutError:
            raise ItemError("dns_error", "the host name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise ItemError("dns_error", "the host name cannot be resolved") from None

    def _lookup(self, host: str) -> Future[list[str]]:
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(host)
            if entry is not None and (not entry[1].done() or now < entry[0] + _ttl_s(entry[1])):
                return entry[1]
            if len(self._entries) >= _MAX_ENTRIES:
                self._forget()
            future: Future[list[str]] = Future()
            self._entries[host] = (now, future)
        if not self._lookups.acquire(blocking=False):
            future.set_exception(OSError("too many look-ups hang"))
            return future
        try:
            threading.Thread(target=self._resolve, args=(host, future), daemon=True, name="dns").start()
        except RuntimeError:  # no thread can be started
            self._lookups.release()
            future.set_exception(OSError("too many threads"))
        return future

    def _resolve(self, host: str, future: Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            future.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._lookups.release()

    def _forget(self) -> None:
        """Drop the older half of the entries; look-ups under way still answer those who wait for them."""
        for host in list(self._entries)[: _MAX_ENTRIES // 2]:
            del self._entries[host]


def _ttl_s(lookup: Future[list[str]]) -> float:
    return _FAILURE_TTL_SECONDS if lookup.exception() else _TTL_SECONDS
