"""What goes wrong with the blob store, as KeyError or BlobsUnavailable."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from shared.errors import BlobsUnavailable

_OURS = ("builtins", "shared")


@contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn the store's errors into BlobsUnavailable; with `key`, an absent file into KeyError."""
    try:
        yield
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if key is not None and absent and not _has_no_bucket(error):
            raise KeyError(key) from None
        raise BlobsUnavailable(f"The blob store failed: {reason(error)}.") from error
    except Exception as error:
        # botocore's and aiohttp's; those of our own are others'.
        if type(error).__module__.partition(".")[0] in _OURS:
            raise
        raise BlobsUnavailable(f"The blob store failed: {reason(error)}.") from error


def _has_no_bucket(error: OSError) -> bool:
    answer = getattr(error.__cause__, "response", {})
    return bool(answer.get("Error", {}).get("Code") == "NoSuchBucket")


def reason(error: Exception) -> str:
    """Return why, as the end of a sentence; nothing of the message, which may have addresses and keys."""
    if isinstance(error, OSError):
        if error.errno:
            return os.strerror(error.errno)
        if _has_no_bucket(error):
            return "there is no such bucket"
        if isinstance(error, PermissionError):
            return "it denies access; check the credentials, and what they allow"
    name = type(error).__name__
    if "Credentials" in name:
        return "there are no credentials for it"
    # Of botocore's names for it: EndpointConnectionError, ConnectionClosedError, ReadTimeoutError.
    return "it does not answer" if "Connect" in name or "Timeout" in name else name


class Writer(io.RawIOBase):
    """A file whose I/O errors become BlobsUnavailable; who writes it does not close it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        with translated():
            return self._file.write(data)


class Reader(io.RawIOBase):
    """A file whose I/O errors become BlobsUnavailable, so that none is taken for a parser's."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with translated():
            return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with translated():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
