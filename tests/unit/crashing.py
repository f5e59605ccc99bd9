"""Calls that a throwaway process can import, and some of which it does not survive."""

import os
import signal
import time
from typing import Any

from shared.errors import ItemError
from shared.imaging.decode import DecodedImage, decode, open_query_image


def crashing_decode(data: bytes, **options: Any) -> DecodedImage:
    """As `decode`, but for data whose last bytes say how it kills its process."""
    _die(data)
    return decode(data, **options)


def crashing_crop(data: bytes, *options: Any) -> Any:
    """As `open_query_image`, but for such data."""
    _die(data)
    return open_query_image(data, *options)


def _die(data: bytes) -> None:
    if data.endswith(b"exit"):
        os._exit(3)
    if data.endswith(b"segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(b"corrupt"):
        raise ItemError("corrupt_image", "cut off")


def crashing_outcome(data: bytes) -> str:
    """For a DecoderProcess: the bytes say what becomes of it."""
    if data == b"segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"zero":
        raise ZeroDivisionError
    if data == b"hang":
        hang()
    if data == b"grow":
        return str(len(bytearray(2**33)))
    if data == b"large":
        return str(len(b"x" * 2**26))
    print("to be kept out of the answer")
    return "picture"


def hang() -> None:
    time.sleep(60)


def identity(value: Any) -> Any:
    print("to be kept out of the answer")
    return value
