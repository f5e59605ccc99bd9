"""What bounds the reading of an archive, and what is told of it."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from zipfile import BadZipFile
from zlib import error as ZlibError  # noqa: N812 - what else would an error be called

from image_search.models.image_files import Skipped, has_image_suffix, is_hidden, is_image, suffix_of
from shared.errors import InvalidRequest, ItemError, RequestTooLarge
from shared.models import Note

# A picture of the archive: its bytes, or why they cannot be had, as an item's error.
Content = bytes | str
PIECE = 64 * 1024
# A few flat bitmaps may compress a thousandfold; only an archive that unpacks to more than this is judged.
_RATIO_FLOOR = 32 * 2**20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The limits of an archive; `entries` counts skipped ones, `ratio` is bytes unpacked per byte."""

    entry_bytes: int
    total_bytes: int
    entries: int = 100_000
    ratio: int = 100

    @property
    def too_large(self) -> str:
        """What is said of a picture over `entry_bytes`."""
        return f"too_large: {ItemError.too_large(self.entry_bytes)}"


@dataclass(slots=True)
class LeftOut:
    """What was left out of an archive: files that are no pictures, and what stands behind its end."""

    files: Skipped = field(default_factory=Skipped)
    remarks: list[str] = field(default_factory=list)

    def notes(self) -> list[Note]:
        files = self.files
        skipped = [Note("files_skipped", f"No pictures: {files}.", len(files))] if len(files) else []
        return skipped + [Note("archive_end", remark, 1) for remark in self.remarks]


class Unpacking:
    """One archive being read: counts its entries and the bytes that they unpack to, and picks pictures."""

    def __init__(self, packed: int, limits: ArchiveLimits, left_out: LeftOut) -> None:
        self.limits = limits
        self.left_out = left_out
        self._packed = packed
        self._entries = 0
        self._unpacked = 0

    def entry(self) -> None:
        self._entries += 1
        self.check_entries(self._entries)

    def check_entries(self, count: int) -> None:
        if count > self.limits.entries:
            raise RequestTooLarge(f"The archive has more than {self.limits.entries:,} entries.")

    def unpacked(self, count: int) -> None:
        self._unpacked += count
        if self._unpacked > self.limits.total_bytes:
            raise RequestTooLarge(
                f"The archive unpacks to more than {self.limits.total_bytes:,} bytes "
                "(IMAGE_SEARCH_MAX_UPLOAD_BYTES)."
            )
        if self._unpacked > max(_RATIO_FLOOR, self._packed * self.limits.ratio):
            raise InvalidRequest(
                f"The archive unpacks to over {self.limits.ratio} times its size, and {_RATIO_FLOOR:,} bytes."
            )

    def skips(self, name: str) -> bool:
        """Return whether a file is hidden or no picture by its `/`-separated name; count it then."""
        skipped = is_hidden(name) or bool(suffix_of(name) and not has_image_suffix(name))
        if skipped:
            self.left_out.files.add(name)
        return skipped

    def skips_content(self, name: str, head: bytes) -> bool:
        """Return whether a file whose name says nothing is no picture by its start; count it then."""
        skipped = not suffix_of(name) and not is_image(head)
        if skipped:
            self.left_out.files.add(name)
        return skipped


@contextmanager
def ours() -> Iterator[None]:
    """Turn what zipfile, tarfile and zlib raise on damaged input into InvalidRequest."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidRequest("A name in the archive says that it is UTF-8, and is not.") from error
    except (BadZipFile, tarfile.TarError, ZlibError, OSError, EOFError, ValueError) as error:
        raise InvalidRequest("The archive is damaged or breaks off.") from error
    except (NotImplementedError, RuntimeError) as error:
        raise InvalidRequest("The archive uses a feature that is not supported.") from error
