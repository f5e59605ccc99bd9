"""Reading the images of requests: they neither fill nor crash this process, nor keep others waiting."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import IO, TypeVar

from api.context import services
from api.http.concurrency import hold_upload
from shared.errors import ItemError
from shared.imaging.decode import estimate
from shared.imaging.isolation import run_isolated
from shared.imaging.memory import SMALL_BYTES, Budget, decoding, release_memory
from shared.imaging.preprocess import Preprocess
from shared.services import Services

WAIT_SECONDS = 30.0  # for the turns of all pictures of a request
DECODE_TIMEOUT_SECONDS = 30
_AT_ONCE = 4  # of one request
_files = Budget(512 * 2**20, 1_000)  # what lies in memory until it is decoded
_most_cores = max(1, (os.cpu_count() or 2) - 1)  # one is left to searches by text
_cores = Budget(_most_cores, _most_cores)

Source = bytes | str | IO[bytes]  # a str is a URL
Read = TypeVar("Read")
Reader = Callable[[bytes, Preprocess, int, float], Read]


def read_all(
    sources: Sequence[Source], reader: Reader[Read], preprocess: Preprocess
) -> list[Read | ItemError]:
    """Return what `reader` makes of each source's bytes, or why it cannot be read.

    Raises Unavailable when other requests leave no threads, or no room within WAIT_SECONDS.
    """
    hold_upload()
    parts, until = services(), time.monotonic() + WAIT_SECONDS

    def left_s() -> float:
        return max(0.0, until - time.monotonic())

    def read(source: Source) -> Read | ItemError:
        try:
            with ExitStack() as held:
                data = _bytes_of(
                    source, parts, lambda size: held.enter_context(_files.taking(size, left_s()))
                )
                return _read(data, reader, preprocess, parts, left_s())
        except ItemError as error:
            return error

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(read, sources))
    finally:
        release_memory()


def _bytes_of(source: Source, parts: Services, hold: Callable[[int], None]) -> bytes:
    if isinstance(source, str):
        return parts.downloader.get(source, whole_s=parts.settings.fetch_timeout_s, hold=hold)
    if isinstance(source, bytes):
        hold(len(source))
        return source
    size, most = source.seek(0, os.SEEK_END), parts.settings.max_image_bytes
    if size > most:
        raise ItemError.too_large(most)
    hold(size)
    source.seek(0)
    return source.read()


def _read(data: bytes, reader: Reader[Read], preprocess: Preprocess, parts: Services, wait_s: float) -> Read:
    """Read a large image in a process of its own, whose end gives all its memory back.

    Some decoders keep the interpreter to themselves meanwhile, and any may crash.
    """
    most = parts.settings.max_image_pixels
    size = estimate(data, preprocess, most)
    if size <= SMALL_BYTES:
        with _cores.taking(1, wait_s):
            return reader(data, preprocess, most, wait_s)
    with decoding(size, wait_s):
        made: Read = run_isolated(reader, data, preprocess, most, timeout_s=DECODE_TIMEOUT_SECONDS)
        return made
