"""Listing a sitemap (sitemaps.org, with Google's image extension), and those that an index names.

The XML is read as a stream, in which nothing grows with its length. A document type is refused, so there are
no entities but XML's own.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO
from xml.parsers import expat

from image_search.models.image_files import Skipped, has_image_suffix
from shared.download.request_urls import RequestUrl, parse
from shared.errors import ItemError
from shared.models import Metadata, Note
from shared.urls.redaction import redacted
from shared.validation import MAX_SOURCE
from worker.listings.downloads import Downloads
from worker.listings.entries import Entry, ListingFailed, stop_if_lost, web_entry

SITEMAPS = frozenset({"urlset", "sitemapindex"})
MAX_SITEMAPS = 50_000
MAX_NAMED = 2 * MAX_SITEMAPS  # by all indexes together: the names of each are held until it has been read
MAX_INDEXES = 5  # from the source's own to a sitemap with pictures, itself included
MAX_LOC = 2_048  # characters of a sitemap's URL
MAX_TEXT = 4_096  # of a title or caption
MAX_NESTING = 32
MAX_TAG_BYTES = 2**20
_HEAD_BYTES = 64 * 1024
_PIECE = 64 * 1024
_BOM = b"\xef\xbb\xbf"
HTML, DTD = "html", "!"
_PAGE = b"<!doctype html"


def path_of(url: str) -> str:
    """Return a URL without query and fragment."""
    return re.split(r"[?#]", url, maxsplit=1)[0]


def root_of(file: IO[bytes]) -> str:
    """Return the local name of a document's root, "" for what is no XML or HTML, `!` for one with a DTD."""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: found.append(_local(name))
    parser.StartDoctypeDeclHandler = lambda name, *_: found.append(HTML if name.lower() == HTML else DTD)
    head = _first_piece(file, _HEAD_BYTES)
    with suppress(expat.ExpatError):
        parser.Parse(head)
    is_page = head[: len(_PAGE)].lower() == _PAGE  # XML writes it in capitals
    return found[0] if found else HTML if is_page else ""


class SitemapListing:
    """The pictures of a sitemap, or of all sitemaps that an index names, each read once."""

    def __init__(self, downloads: Downloads, url: str, file: IO[bytes]) -> None:
        self.notes: list[Note] = []
        self._downloads = downloads
        self._url = url
        self._file = file
        self._read: set[tuple[object, ...]] = set()
        self._again = self._left_out = self._named = 0
        self._named_again = ""  # the first of them
        self._skipped = Skipped()

    def __iter__(self) -> Iterator[Entry]:
        self._is_new(self._url, self._url)
        yield from self._entries(self._url, self._file, 1)
        self.notes += self._told()

    def _entries(self, url: str, file: IO[bytes], depth: int) -> Iterator[Entry]:
        children: list[str] = []
        reading = _Reading(redacted(url), self._skipped)
        for found in reading.read(file, self._downloads):
            if isinstance(found, Entry):
                yield found
            elif len(children) == MAX_SITEMAPS or self._named == MAX_NAMED:
                raise self._too_many()
            else:
                self._named += 1
                children.append(found)
        self._left_out += reading.left_out
        for child in children:
            if not self._is_new(child, url):
                self._again += 1
                self._named_again = self._named_again or child
                continue
            if depth == MAX_INDEXES:
                raise ListingFailed(
                    f"{redacted(url)} names further sitemaps, and is itself the last of {MAX_INDEXES} that "
                    "name one another: no more are read."
                )
            with self._downloads.opened(child) as got:
                if root_of(got.file) not in SITEMAPS:
                    raise ListingFailed(
                        f"{redacted(child)}, which {redacted(url)} names, is no sitemap: no XML whose root "
                        "is urlset or sitemapindex, and which has no document type (DTD)."
                    )
                yield from self._entries(child, got.file, depth + 1)

    def _is_new(self, url: str, named_by: str) -> bool:
        """Tell whether a sitemap was not begun yet, and count it. Raises ListingFailed for one too many."""
        try:
            target: RequestUrl = parse(url)
        except ItemError as error:
            raise ListingFailed(
                f"{redacted(named_by)} names a sitemap that cannot be fetched: {error.detail}."
            ) from None
        before = len(self._read)
        self._read.add((target.origin, target.path))
        if len(self._read) > MAX_SITEMAPS:
            raise self._too_many()
        return len(self._read) > before

    def _too_many(self) -> ListingFailed:
        return ListingFailed(
            f"{redacted(self._url)} leads to more than {MAX_SITEMAPS:,} sitemaps: make several sources."
        )

    def _told(self) -> Iterator[Note]:
        if count := len(self._skipped):
            yield Note("files_skipped", f"No pictures: {self._skipped}.", count)
        if self._again:
            detail = f"Sitemaps that name themselves, or are named again: {self._named_again}, for one."
            yield Note("sitemaps_skipped", detail, self._again)
        if self._left_out:
            detail = f"Titles and captions of over {MAX_TEXT:,} characters are left out."
            yield Note("values_left_out", detail, self._left_out)


class _Reading:
    """One sitemap being read: expat calls what notes the elements down, and they go from there."""

    def __init__(self, shown: str, skipped: Skipped) -> None:
        self.left_out = 0
        self._shown = shown
        self._skipped = skipped
        self._found: list[Entry | str] = []
        self._open: list[str] = []  # elements
        self._text: list[str] = []
        self._room = 0  # for more text
        self._page, self._has_images = "", False
        self._image: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._document_type

    def read(self, file: IO[bytes], downloads: Downloads) -> Iterator[Entry | str]:
        """Yield the pictures and, of an index, the URLs of its sitemaps. Raises ListingFailed."""
        piece, fed = _first_piece(file, _PIECE), 0
        try:
            while piece:
                stop_if_lost(downloads.lost)
                self._parser.Parse(piece)
                fed += len(piece)
                if fed - self._parser.CurrentByteIndex > MAX_TAG_BYTES:
                    raise self._fault(f"has a tag or comment of over {MAX_TAG_BYTES:,} bytes")
                yield from self._found
                self._found.clear()
                piece = file.read(_PIECE)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            why = expat.ErrorString(error.code)
            raise self._fault(f"breaks off or is no sound XML, in line {error.lineno:,}: {why}") from None
        yield from self._found

    def _start(self, name: str, _: object) -> None:
        self._open.append(_local(name))
        if len(self._open) > MAX_NESTING:
            raise self._fault(f"has elements that are nested more than {MAX_NESTING} deep")
        match self._open[-2:]:
            case [_, "url"]:
                self._page, self._has_images = "", False
            case ["url", "image"]:
                self._image = {}
        self._text, self._room = [], MAX_SOURCE + 1

    def _characters(self, text: str) -> None:
        if self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)

    def _end(self, _: str) -> None:
        text = "".join(self._text).strip()
        self._text, self._room = [], 0
        match self._open[-2:]:
            case ["sitemap", "loc"]:
                if len(text) > MAX_LOC:
                    raise self._fault(f"names a sitemap whose URL has over {MAX_LOC:,} characters")
                self._found.append(text)
            case ["url", "loc"]:
                self._page = text
            case ["image", "loc" | "title" | "caption" as name]:
                self._image[name] = text
            case ["url", "image"]:
                self._end_image()
            case [_, "url"]:
                self._end_page()
        self._open.pop()

    def _end_image(self) -> None:
        self._has_images = True
        metadata: Metadata = {}
        for name in ("title", "caption"):
            text = " ".join(self._image.get(name, "").split())
            if len(text) > MAX_TEXT:
                self.left_out += 1
            elif text:
                metadata[name] = text
        if url := self._image.get("loc"):
            self._found.append(web_entry(url, metadata=metadata))
        else:
            self._skipped.add("", "images without a URL")

    def _end_page(self) -> None:
        path = re.sub(r"^[^/]*//[^/]*", "", path_of(self._page))
        if has_image_suffix(path):
            self._found.append(web_entry(self._page))
        elif not self._has_images:
            self._skipped.add(path)

    def _document_type(self, *_: object) -> None:
        raise self._fault("declares a document type (DTD), which no sitemap needs, and which is not read")

    def _fault(self, what: str) -> ListingFailed:
        return ListingFailed(f"{self._shown} {what}.")


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _first_piece(file: IO[bytes], size: int) -> bytes:
    """Return a document's beginning without the blanks that some put before it."""
    file.seek(0)
    return file.read(size).removeprefix(_BOM).lstrip()
