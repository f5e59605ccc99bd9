"""Reading the images of requests: they neither fill nor crash this process, nor keep others waiting."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from typing import IO, TypeVar

from api.context import services
from api.http.concurrency import hold_upload
from shared.errors import InvalidRequest, ItemError, PixelsNotKept
from shared.imaging.decode import WHOLE, Box, estimate
from shared.imaging.isolation import run_isolated
from shared.imaging.memory import SMALL_BYTES, Budget, decoding, release_memory
from shared.imaging.preprocess import Preprocess
from shared.services import Services
from shared.storage.blobs import Blobs, FileKind, file_key
from shared.tracing.tracing import carried

WAIT_SECONDS = 30.0  # for the turns of all pictures of a request
DECODE_TIMEOUT_SECONDS = 30
_AT_ONCE = 4  # of one request
_files = Budget(512 * 2**20, 1_000)  # what lies in memory until it is decoded
_most_cores = max(1, (os.cpu_count() or 2) - 1)  # one is left to searches by text
_cores = Budget(_most_cores, _most_cores)

_KEPT: tuple[FileKind, ...] = ("rendition", "original")

Source = bytes | str | IO[bytes] | Callable[[], bytes]  # a str is a URL; a call returns what is kept
Read = TypeVar("Read")
# Of a file's bytes, a Preprocess, the most pixels and the seconds to wait; `box` where there is one.
Reader = Callable[..., Read]


def read_all(
    sources: Sequence[Source], reader: Reader[Read], preprocess: Preprocess, boxes: Sequence[Box] = ()
) -> list[Read | ItemError | InvalidRequest]:
    """Return what `reader` makes of each source's bytes, or of the box of it; or why it cannot be read.

    Raises what a source that is a call does, and Unavailable when other requests leave no threads, or no
    room within WAIT_SECONDS.
    """
    hold_upload()
    parts, until = services(), time.monotonic() + WAIT_SECONDS

    def left_s() -> float:
        return max(0.0, until - time.monotonic())

    def read(source: Source, box: Box) -> Read | ItemError | InvalidRequest:
        try:
            with ExitStack() as held:
                data = _bytes_of(
                    source, parts, lambda size: held.enter_context(_files.taking(size, left_s()))
                )
                return _read(data, reader, preprocess, parts, left_s(), box=box)
        except (ItemError, InvalidRequest) as error:
            return error

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(carried(read), sources, boxes or repeat(WHOLE)))
    finally:
        release_memory()


def _bytes_of(source: Source, parts: Services, hold: Callable[[int], None]) -> bytes:
    if isinstance(source, str):
        return parts.downloader.get(source, whole_s=parts.settings.fetch_timeout_s, hold=hold)
    if callable(source):
        data = source()
        hold(len(data))
        return data
    size = len(source) if isinstance(source, bytes) else source.seek(0, os.SEEK_END)
    if size > (most := parts.settings.max_image_bytes):
        raise ItemError.too_large(most)
    hold(size)
    if isinstance(source, bytes):
        return source
    source.seek(0)
    return source.read()


def kept_file(blobs: Blobs, collection: str, image_id: str, pointer: str) -> bytes:
    """Return a stored image's rendition, else its original. Raises PixelsNotKept, pointing to `pointer`."""
    for kind in _KEPT:
        try:
            return blobs.get(file_key(collection, image_id, kind))
        except KeyError:
            continue
    raise PixelsNotKept(
        "Only a thumbnail of this picture was kept: ingest it again with IMAGE_SEARCH_KEEP set to rendition "
        "or original."
    ).at(pointer)


def _read(
    data: bytes, reader: Reader[Read], preprocess: Preprocess, parts: Services, wait_s: float, *, box: Box
) -> Read:
    """Read a large image in a process of its own, whose end gives all its memory back.

    Some decoders keep the interpreter to themselves meanwhile, and any may crash.
    """
    most = parts.settings.max_image_pixels
    size = estimate(data, preprocess, most, box)
    if box != WHOLE:
        reader = partial(reader, box=box)
    if size <= SMALL_BYTES:
        with _cores.taking(1, wait_s):
            return reader(data, preprocess, most, wait_s)
    with decoding(size, wait_s):
        made: Read = run_isolated(reader, data, preprocess, most, timeout_s=DECODE_TIMEOUT_SECONDS)
        return made
