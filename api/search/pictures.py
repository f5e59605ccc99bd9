"""Reading the pictures of requests: they neither fill nor crash this process, nor keep others waiting."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import IO, TypeVar

from api.context import services
from api.http.concurrency import hold_upload
from shared.errors import ItemError, Unavailable
from shared.imaging.decode import estimate
from shared.imaging.isolation import run_isolated
from shared.imaging.memory import SMALL_BYTES, decoding, give_back
from shared.imaging.preprocess import Preprocess
from shared.services import Services

MOST_HELD = 512 * 2**20  # bytes of files, in this process
WAIT_S = 30.0  # for the turns of all pictures of a request
DECODE_TIMEOUT_S = 30
_AT_ONCE = 4  # of one request

Source = bytes | str | IO[bytes]  # a str is a URL
Read = TypeVar("Read")
Reader = Callable[[bytes, Preprocess, int, float], Read]


class _Files:
    """Counts the bytes of files that requests hold in memory."""

    def __init__(self) -> None:
        self._held = 0
        self._lock = Lock()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """What is told how many bytes of one file come next; it raises Unavailable when they are too many.

        A file that is alone may be of any size.
        """
        own = 0

        def hold(count: int) -> None:
            nonlocal own
            with self._lock:
                if self._held > own and self._held + count > MOST_HELD:
                    raise Unavailable(
                        f"The pictures of other requests take the {MOST_HELD >> 20} MiB that there are for "
                        "them: try again in some seconds."
                    )
                self._held += count
                own += count

        try:
            yield hold
        finally:
            with self._lock:
                self._held -= own


_files = _Files()


def read_all(
    sources: Sequence[Source], reader: Reader[Read], preprocess: Preprocess
) -> list[Read | ItemError]:
    """What `reader` makes of each source's bytes, or why it cannot be read.

    Raises Unavailable when other requests' pictures leave no room, threads or time for these.
    """
    hold_upload()
    parts, until = services(), time.monotonic() + WAIT_S

    def read(source: Source) -> Read | ItemError:
        try:
            with _files.holding() as hold:
                return _read(_bytes_of(source, parts, hold), reader, preprocess, parts, until)
        except ItemError as error:
            return error

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(read, sources))
    finally:
        give_back()


def _bytes_of(source: Source, parts: Services, hold: Callable[[int], None]) -> bytes:
    if isinstance(source, str):
        return parts.downloader.get(source, hold=hold)
    if isinstance(source, bytes):
        hold(len(source))
        return source
    size, most = source.seek(0, os.SEEK_END), parts.settings.max_image_bytes
    if size > most:
        raise ItemError("too_large", f"the picture has more than {most:,} bytes")
    hold(size)
    source.seek(0)
    return source.read()


def _read(data: bytes, reader: Reader[Read], preprocess: Preprocess, parts: Services, until: float) -> Read:
    """Reads a large picture in a process of its own, whose end gives all its memory back.

    Some decoders keep the interpreter to themselves meanwhile, and any may crash.
    """
    most = parts.settings.max_image_pixels
    size, wait_s = estimate(data, preprocess, most), max(0.0, until - time.monotonic())
    if size <= SMALL_BYTES:
        return reader(data, preprocess, most, wait_s)
    with decoding(size, wait_s):
        made: Read = run_isolated(reader, data, preprocess, most, timeout_s=DECODE_TIMEOUT_S)
        return made
