"""Which of a folder's or archive's files are pictures, and how the others are told of."""

import re
from collections import Counter

# A file with one of these is taken for a picture, however broken; of one without any its content decides.
# Other suffixes are believed: a .dng begins as a TIFF does, and a camera's .thm is a JPEG beside a film.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".hif", ".insp", ".mpo",
)  # fmt: skip
HEAD_BYTES = 16  # of a file, enough for is_image
# How a picture's bytes begin, each byte as a character; the page compares with it, too.
IMAGE_HEAD = (
    r"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II[*+]\x00|MM\x00[*+]|RIFF.{4}WEBP"
    r"|BM.{4}\x00{4}"  # words may start with BM; a bitmap's reserved bytes are zero
    r"|.{4}ftyp(?:avif|avis|heic|heix|heim|heis|hevc|mif1|msf1)"
)
_HEAD = re.compile(IMAGE_HEAD.encode(), re.DOTALL)
_MOST_KINDS = 1_000  # names are anybody's: this bounds what is kept of them
_SHOWN_KINDS = 12
_SHOWN_CHARS = 40


def is_image(head: bytes) -> bool:
    """Return whether a file's first HEAD_BYTES are those of a picture of a format that the service reads."""
    return _HEAD.match(head) is not None


def has_image_suffix(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES


def suffix_of(name: str) -> str:
    """Return the suffix in lower case with its dot; "" for a name without one, or with a strange one.

    Strange is `.jpg?w=100`, and the `.33` of a time.
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    is_plain = suffix.isalnum() and not suffix.isdecimal() and len(suffix) <= 10
    return f".{suffix.lower()}" if stem and dot and is_plain else ""


def is_hidden(name: str) -> bool:
    """Return whether a `/`-separated name is that of a hidden file, or of one in a hidden folder."""
    return any(
        part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part not in ("", ".", "..")
    )


class Skipped:
    """A count of the files that were left out, by suffix. As text: `12 .json, 3 .mov, 1 Thumbs.db`.

    Files of one suffix that all have the same name are told of by that, where it is one to be shown.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str | None] = {}

    def __len__(self) -> int:
        return self._counts.total()

    def __str__(self) -> str:
        kinds = self._counts.most_common()
        shown = [f"{count:,} {self._names[kind] or kind}" for kind, count in kinds[:_SHOWN_KINDS]]
        if rest := sum(count for _, count in kinds[_SHOWN_KINDS:]):
            shown.append(f"{rest:,} of other kinds")
        return ", ".join(shown)

    def add(self, name: str, kind: str = "") -> None:
        """Count a file by its `/`-separated name; `kind` is a word for it that says more than its suffix."""
        kind = kind or ("hidden" if is_hidden(name) else suffix_of(name) or "without a suffix")
        if kind not in self._counts and len(self._counts) >= _MOST_KINDS:
            kind = "of strange suffixes"
        self._counts[kind] += 1
        name = name.rpartition("/")[2]
        shown = len(name) <= _SHOWN_CHARS and name.isprintable() and not has_image_suffix(name)
        told = name if shown else None
        if self._names.setdefault(kind, told) != told:
            self._names[kind] = None
