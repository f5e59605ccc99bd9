"""Downloading what a source's URL leads to, into a file on the disk that is deleted when it is closed."""

import gzip
import os
import random
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from shared.download.host_headers import HostHeaders
from shared.download.host_limits import HostLimits
from shared.errors import HostBusy, ItemError
from shared.services import Services
from shared.urls.redaction import redacted
from worker.listings.entries import ListingFailed, stop_if_lost

MAX_TRIES = 4
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_BUSY_TURNS = 30  # of a host that others keep busy; each is waited for
MAX_LAYERS = 2  # of gzip: some servers pack what is packed
MAX_RATIO = 200  # bytes unpacked per byte, of what unpacks to more than the floor
RATIO_FLOOR = 64 * 2**20
_GZIP_START = b"\x1f\x8b"
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a URL had, unpacked: `file` is at its start, `media_type` what the server said."""

    file: IO[bytes]
    media_type: str


class Downloads:
    """Downloads for one listing: politely, with the deployment's headers, and no longer than it is held."""

    def __init__(self, services: Services, headers: HostHeaders | None, lost: threading.Event) -> None:
        self.lost = lost
        self._downloader = services.downloader
        self._limits = HostLimits(services.ledger.hosts, services.settings.host_rate)
        self._headers = headers
        self._most_bytes = services.settings.max_upload_bytes

    @contextmanager
    def opened(self, url: str) -> Iterator[Downloaded]:
        """Download `url` for the block; what comes is never empty. Raises ListingFailed, which names it."""
        shown = redacted(url)
        with ExitStack() as stack:
            try:
                file: IO[bytes] = stack.enter_context(TemporaryFile())
                media_type = self._saved(url, file)
                for _ in range(MAX_LAYERS):
                    if not _is_packed(file):
                        break
                    file = self._unpacked(file, stack.enter_context(TemporaryFile()), shown)
            except OSError as error:
                raise ListingFailed(
                    f"{shown} cannot be kept on the worker's disk: {error.strerror}."
                ) from None
            if not file.seek(0, os.SEEK_END):
                raise ListingFailed(f"{shown} has no bytes: the answer is empty.")
            file.seek(0)
            yield Downloaded(file, media_type)

    def _saved(self, url: str, file: IO[bytes]) -> str:
        tries = busy = 0
        while True:
            stop_if_lost(self.lost)
            try:
                return self._downloader.save(
                    url, file, self._most_bytes, self._limits, headers=self._headers, called_off=self.lost
                )
            except HostBusy as error:
                busy += 1
                fault, delay_s, over = error.detail, error.wait_s, busy == MAX_BUSY_TURNS
            except ItemError as error:
                stop_if_lost(self.lost)
                tries += 1
                fault = error.detail
                delay_s = max(3.0 ** (tries - 1) * random.uniform(1.0, 1.5), error.retry_after_s or 0.0)  # noqa: S311 - jitter
                over = not error.transient or tries == MAX_TRIES or delay_s > MAX_RETRY_AFTER_SECONDS
            if over:
                raise ListingFailed(f"{redacted(url)} cannot be fetched: {fault.removesuffix('.')}.")
            self.lost.wait(delay_s)

    def _unpacked(self, packed: IO[bytes], file: IO[bytes], shown: str) -> IO[bytes]:
        """Write what gzip packed into `file` and return that. Raises ListingFailed for a bomb."""
        most = max(RATIO_FLOOR, MAX_RATIO * packed.seek(0, os.SEEK_END))
        packed.seek(0)
        try:
            with gzip.GzipFile(fileobj=packed) as unpacking:
                while part := unpacking.read(_PIECE):
                    stop_if_lost(self.lost)
                    file.write(part)
                    if file.tell() > self._most_bytes:
                        raise ListingFailed(
                            f"{shown} unpacks to more than {self._most_bytes:,} bytes "
                            "(IMAGE_SEARCH_MAX_UPLOAD_BYTES)."
                        )
                    if file.tell() > most:
                        raise ListingFailed(
                            f"{shown} is a decompression bomb: it unpacks to over {MAX_RATIO} times its "
                            f"size, and {RATIO_FLOOR:,} bytes."
                        )
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise ListingFailed(f"{shown} is damaged or breaks off: it is not whole gzip.") from None
        return file


def _is_packed(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(len(_GZIP_START)) == _GZIP_START
