"""Damaged files, each from a seed: the same seed always gives the same file."""

import random
import struct
import zlib
from collections.abc import Callable

from tests.sample_files import PNG_START, samples

_LENGTHS = (
    0,
    1,
    2,
    3,
    4,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)

Damage = Callable[[random.Random, bytearray], bytearray]


def mutated(seed: int) -> tuple[str, bytes]:
    """The format of a sample file, and its bytes with up to four kinds of damage."""
    rng = random.Random(seed)
    name = rng.choice(list(samples()))
    data = damaged(rng, samples()[name])
    if data.startswith(PNG_START) and rng.random() < 0.7:
        data = _with_checksums(data)
    return name.partition(",")[0], bytes(data)


def damaged(rng: random.Random, sound: bytes) -> bytearray:
    """Bytes with up to four kinds of damage."""
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_DAMAGES)(rng, data) or bytearray(b"\0")
    return data


def _place(rng: random.Random, data: bytearray) -> int:
    """Anywhere; as often as not among the headers."""
    return rng.randrange(min(len(data), rng.choice((64, 256, 1024, len(data)))))


def _cut_off(rng: random.Random, data: bytearray) -> bytearray:
    return data[: _place(rng, data)]


def _flip_bits(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _overwrite_run(rng: random.Random, data: bytearray) -> bytearray:
    start, length = _place(rng, data), rng.choice((1, 4, 16, 256))
    length = min(length, len(data) - start)
    data[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data


def _repeat_run(rng: random.Random, data: bytearray) -> bytearray:
    start, length = _place(rng, data), rng.choice((1, 12, 64, 512))
    return data[:start] + data[start : start + length] * rng.choice((2, 3, 50)) + data[start + length :]


def _remove_run(rng: random.Random, data: bytearray) -> bytearray:
    start, length = _place(rng, data), rng.choice((1, 4, 12, 64, 512))
    return data[:start] + data[start + length :]


def _alter_length(rng: random.Random, data: bytearray) -> bytearray:
    """Some number becomes an edge case: a length, a count, an offset or a size, if it hits one."""
    number, form = rng.choice(_LENGTHS), rng.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(form)
    if len(data) >= size:
        start = min(_place(rng, data), len(data) - size)
        struct.pack_into(form, data, start, number & ((1 << 8 * size) - 1))
    return data


def _splice(rng: random.Random, data: bytearray) -> bytearray:
    """Goes over into another file."""
    other = samples()[rng.choice(list(samples()))]
    return data[: _place(rng, data)] + other[rng.randrange(len(other)) :]


_DAMAGES: tuple[Damage, ...] = (
    _cut_off,
    _flip_bits,
    _flip_bits,
    _overwrite_run,
    _repeat_run,
    _remove_run,
    _alter_length,
    _alter_length,
    _splice,
)


def _with_checksums(data: bytearray) -> bytearray:
    """A PNG whose chunks' checksums are right again, so that the damage gets past them."""
    start = len(PNG_START)
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[start + 4 : end]))
        start = end + 4
    return data
