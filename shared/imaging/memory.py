"""The memory of decoding: estimating it, bounding how much is taken at once, and returning it.

Decoders take from next to nothing (a JPEG that is read at an eighth of its size) to 16 bytes per pixel, so
bytes are bounded, not images. Small images have a budget of their own and never wait for large ones.
"""

import ctypes
import math
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from PIL.ExifTags import Base as Tag

from shared.errors import Unavailable
from shared.image_files.formats import JPEGS
from shared.image_files.jpeg_scans import keeps_coefficients
from shared.image_files.tiff import tile_size
from shared.image_metadata.tiff_tags import Directory
from shared.imaging.deep_color import is_cut, raw_mode

SMALL_BYTES = 64 * 2**20
_MIB = 2**20
_M_ARENA_MAX = -8  # of malloc.h
_STRIP_BYTES = 8 * 2**22  # of decode's strips, as they come and as RGBA
# Measured, of 8 bits a channel: what the decoder holds beside the picture, and that. Others hold the latter.
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 8}
_RGB_BYTES = 4  # Pillow's, with or without transparency


def footprint(image: Image.Image, data: bytes, shrink: int) -> int:
    """Return the most bytes that loading an opened image and making it `shrink` times smaller takes."""
    width, height = image.size
    pixels, held = width * height, 0
    if image.format in JPEGS:
        if keeps_coefficients(data):
            held = 2 * len(image.getbands()) * pixels
        drafted = min(8, 2 ** (shrink.bit_length() - 1))
        pixels, shrink = pixels // drafted**2, shrink // drafted
    elif image.format == "TIFF":
        pixels, held = _tiff(image, data)
    if is_cut(raw_mode(image)):
        held += _RGB_BYTES * pixels  # for the low bytes
    files = 3 if image.format == "PNG" else 1  # a damaged one is put together anew, of parts that are copied
    held += _BYTES_PER_PIXEL.get(image.format or "", _RGB_BYTES) * pixels
    upright = 2 * _RGB_BYTES * pixels // shrink**2  # made, and turned
    return files * len(data) + held + upright + min(_STRIP_BYTES, 2 * _RGB_BYTES * pixels)


def _tiff(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Return a TIFF's pixels, or those of a larger tile, and their bytes, which may all be in one strip."""
    first = Directory(data)
    pixels = max(image.width * image.height, math.prod(tile_size(first)))
    bits = max(first.numbers(Tag.BitsPerSample), default=1)
    return pixels, pixels * first.number(Tag.SamplesPerPixel, 1) * bits // 8


class Budget:
    """Bytes that may be taken at once, first come, first served, by at most `at_once` blocks.

    A block that asks for more than there are runs alone.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self._most = self._free = most
        self._least = most // at_once
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, size: int, wait_s: float | None = None) -> Iterator[None]:
        """Wait until `size` bytes are free, and hold them while the block runs.

        Raises Unavailable when it is not its turn within `wait_s`; None waits for ever.
        """
        size = min(max(size, self._least), self._most)
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                taken = self._changed.wait_for(lambda: self._queue[0] is turn and size <= self._free, wait_s)
                self._free -= size if taken else 0
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        if not taken:
            raise Unavailable(
                "Other pictures that take much memory came first, and this one's turn did not come in time: "
                "try again in some seconds, or send it smaller, which finds the same."
            )
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


_cores = max(2, os.cpu_count() or 2)
_small, _large = Budget(256 * _MIB, _cores), Budget(768 * _MIB, _cores)


@contextmanager
def decoding(size: int, wait_s: float | None = None) -> Iterator[None]:
    """Hold `size` bytes (see `footprint`) while the block decodes. Raises as `Budget.taking` does."""
    if size <= SMALL_BYTES:
        with _small.taking(size, wait_s):
            yield
        return
    try:
        with _large.taking(size, wait_s):
            yield
    finally:
        release_memory()


def release_memory() -> None:
    """Return freed memory to the system, which glibc keeps for later; elsewhere it does nothing."""
    if _libc is not None:
        _libc.malloc_trim(0)


def limit_heap_arenas() -> None:
    """Make threads share heaps: glibc gives each its own, and frees little of them in `release_memory`.

    Call it before there are threads.
    """
    if _libc is not None:
        _libc.mallopt(_M_ARENA_MAX, 2)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        _ = libc.malloc_trim, libc.mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return None
    return libc


_libc = _glibc()
