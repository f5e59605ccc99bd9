"""Listing a folder of the server's, without opening a file that a suffix says what it is."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from image_search.models.image_files import (
    HEAD_BYTES,
    Skipped,
    has_image_suffix,
    is_hidden,
    is_image,
    suffix_of,
)
from shared.config import Settings
from shared.models import Note
from shared.sources.permission import permitted_path
from shared.validation import shown
from worker.listings.entries import Entry, ListingFailed, stop_if_lost
from worker.listings.paths import file_url, open_without_links

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe is not waited for


class FolderListing:
    """The files of a folder and of those in it as entries; links are not followed.

    A folder in it that cannot be read ends the listing: what is in there must not pass for deleted.
    """

    def __init__(self, settings: Settings, location: str, lost: threading.Event) -> None:
        self.notes: list[Note] = []
        self._path = location.partition("://")[2].rstrip("/")
        self._real = permitted_path(settings, location)
        self._lost = lost
        self._links = 0
        self._skipped = Skipped()

    def __iter__(self) -> Iterator[Entry]:
        pending = [""]
        root = self._identity()
        while pending:
            folder = pending.pop()
            with self._opened(folder) as descriptor, os.scandir(descriptor) as found:
                for one in found:
                    stop_if_lost(self._lost)
                    name = f"{folder}{one.name}"
                    if one.is_symlink():
                        self._links += 1
                    elif is_hidden(one.name):
                        self._skipped.add(one.name)
                    elif one.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    elif not one.is_file(follow_symlinks=False):
                        self._skipped.add(one.name, "no regular files")
                    elif self._is_picture(one.name, descriptor):
                        yield from self._entry(name, one)
        if self._identity() != root:
            raise ListingFailed(f"{shown(self._path)} was mounted or replaced while it was listed.")
        self.notes += self._told()

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """Open a folder for the block. Raises ListingFailed for whatever the system says of it."""
        path = f"{self._path}/{folder}".rstrip("/") or "/"
        descriptor = None
        try:
            descriptor = open_without_links(Path(f"{self._real}/{folder}"), _FOLDER)
            yield descriptor
        except FileNotFoundError:
            raise ListingFailed(f"The folder {shown(path)} is not there: is it mounted?") from None
        except NotADirectoryError:
            raise ListingFailed(f"{shown(path)} is no folder.") from None
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise ListingFailed(f"The folder {shown(path)} cannot be read: {why}.") from None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _identity(self) -> tuple[int, int]:
        with self._opened("") as descriptor:
            found = os.fstat(descriptor)
        return found.st_dev, found.st_ino

    def _is_picture(self, name: str, folder: int) -> bool:
        suffix = suffix_of(name)
        picture = has_image_suffix(name) if suffix else _is_image(name, folder)
        if not picture:
            self._skipped.add(name)
        return picture

    def _entry(self, name: str, found: os.DirEntry[str]) -> Iterator[Entry]:
        try:
            status = found.stat(follow_symlinks=False)
        except FileNotFoundError:  # deleted this very moment
            return
        yield Entry(file_url(f"{self._path}/{name}"), stamp=f"{status.st_size} {status.st_mtime_ns}")

    def _told(self) -> Iterator[Note]:
        if count := len(self._skipped):
            yield Note("files_skipped", f"No pictures: {self._skipped}.", count)
        if self._links:
            yield Note("links_skipped", "Links are not followed.", self._links)


def _is_image(name: str, folder: int) -> bool:
    """Tell whether a file begins as a picture does; one that cannot be read may be one."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return True
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return is_image(file.read(HEAD_BYTES))
