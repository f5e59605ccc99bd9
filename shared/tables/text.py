"""A file as text: which encoding it has, and its lines, none of them without bound."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from typing import IO

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.encoding_names import encoding_name
from shared.tables.rows import MAX_ROW_CHARS

SAMPLE_BYTES = 64 * 2**10
_CHUNK_CHARS = 2**16
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_ESCAPED = re.compile("[\udc80-\udcff]+")  # bytes that are no UTF-8, as `surrogateescape` keeps them
_HALVES = re.compile("[\ud800-\udfff]")
_OTHERS = re.compile("[^\x00-\x7f\udc80-\udcff]+")
# Bytes that no 8-bit encoding has so alone, or the begin of a character of UTF-8 whose end was cut off.
_DAMAGE = re.compile(
    rb"(?:[\xfe\xff]{1,2}|[\xe0-\xef][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{1,2})(?![\x80-\xff])"
)
_MOST_BROKEN = 1_000  # lines, after which a text that is of another encoding is not read on
_KEPT_LINES = 200  # broken ones, to name the encoding by


@dataclass(frozen=True, slots=True)
class Encoding:
    codec: str
    start: int  # bytes of the byte order mark


def find_encoding(sample: bytes) -> Encoding:
    """Return the encoding that a text begins in. Raises InvalidRequest for one that is not read."""
    quarter = max(len(sample) // 4, 1)
    zeros = [sample[place::4].count(0) / quarter for place in range(4)]
    wide = min(zeros[1], zeros[2]) > 0.5 and min(zeros) < 0.5
    if wide or sample.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise _refusal("UTF-32", 1)
    for mark, codec in _BOMS.items():
        if sample.startswith(mark):
            start = len(mark)
            while codec == "utf-8" and sample.startswith(mark, start):
                start += len(mark)
            return Encoding(codec, start)
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if max(even, odd) > 0.6 and min(even, odd) < 0.1:
        return Encoding("utf-16-le" if odd > even else "utf-16-be", 0)
    if b"\x1b$B" in sample or b"\x1b$@" in sample:
        raise _refusal("ISO-2022-JP", sample[: sample.index(b"\x1b$")].count(b"\n") + 1)
    return Encoding("utf-8", 0)


def without_halves(text: str) -> str:
    """Return the text with U+FFFD for each half of a character that stands alone."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


class Text:
    """The text of a file, in lines or pieces, from the first on whenever it is asked for.

    What is no UTF-8 becomes U+FFFD, counted in `replaced`. Where most of what is above ASCII is none, the
    file is of another encoding, which the InvalidRequest names. `number` is the last line's, `chars` counts
    what was read. With `cut` a last line without an end is left out.
    """

    def __init__(self, file: IO[bytes], encoding: Encoding, *, cut: bool = False) -> None:
        self._file = file
        self._encoding = encoding
        self._cut = cut
        self._begin()

    def _begin(self) -> None:
        self.number = self.chars = self.replaced = self._sound = 0
        self._broken: list[bytes] = []
        self._first_broken = 0

    def lines(self) -> Iterator[str]:
        """Yield each line with its end. Raises RequestTooLarge for one over MAX_ROW_CHARS."""
        for line in self._pieces(by_line=True):
            self.number += 1
            whole = line[-1] in "\r\n"
            if len(line) >= MAX_ROW_CHARS and not whole:
                raise RequestTooLarge(
                    f"Line {self.number:,} is longer than {MAX_ROW_CHARS:,} characters: "
                    "this is no table, or its line ends are missing."
                )
            if not whole and self._cut:
                break
            yield line if line.isascii() else self._sound_text(line)
        self._judge()

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces of some length; `number` is the line that one begins in."""
        for piece in self._pieces(by_line=False):
            self.number = self.number or 1
            # What is cut may be so within a character.
            whole = piece[:-3] + _ESCAPED.sub("", piece[-3:]) if self._cut else piece
            yield whole if whole.isascii() else self._sound_text(whole)
            self.number += piece.count("\n")
        self._judge()

    def _pieces(self, *, by_line: bool) -> Iterator[str]:
        self._begin()
        codec = self._encoding.codec
        self._file.seek(self._encoding.start)
        errors = "surrogateescape" if codec == "utf-8" else "replace"
        wrapper = TextIOWrapper(self._file, codec, errors=errors, newline="")
        try:
            read = (
                partial(wrapper.readline, MAX_ROW_CHARS) if by_line else partial(wrapper.read, _CHUNK_CHARS)
            )
            for text in iter(read, ""):
                self.chars += len(text)
                yield text
        finally:
            wrapper.detach()  # otherwise it would close the file

    def _sound_text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            return self._mended(text)
        self._sound += 1
        if self._encoding.codec != "utf-8":
            self.replaced += text.count("\ufffd")
        return text

    def _mended(self, text: str) -> str:
        mended, count = _ESCAPED.subn("\ufffd", text)
        self.replaced += count
        self._sound += len(_OTHERS.findall(text))
        found = _ESCAPED.search(text)
        at = found.start() if found else 0
        self._first_broken = self._first_broken or self.number + text.count("\n", 0, at)
        if len(self._broken) < _KEPT_LINES:
            self._broken.append(text[max(at - 200, 0) : at + 4000].encode("utf-8", "surrogateescape"))
        elif self.replaced > _MOST_BROKEN > self._sound:
            self._judge()
        return mended

    def _judge(self) -> None:
        """Raise InvalidRequest where the file is of another encoding, and not UTF-8 with damage."""
        if self._broken and self.replaced > self._sound and not all(map(_is_damage, self._broken)):
            raise _refusal(encoding_name(b"\n".join(self._broken)), self._first_broken)


def _is_damage(line: bytes) -> bool:
    """Tell whether a line is UTF-8 but for bytes that no 8-bit encoding would have there."""
    text = line.decode("utf-8", "surrogateescape")
    broken = _ESCAPED.sub(lambda found: "\0" + found[0], text).encode("utf-8", "surrogateescape")
    return all(_DAMAGE.match(broken, found.end()) for found in re.finditer(rb"\0", broken))


def _refusal(name: str, line: int) -> InvalidRequest:
    said = f"the file seems to be {name}" if name else "its encoding is not known"
    return InvalidRequest(
        f"Line {line:,} of the table is not UTF-8 ({said}): save it as UTF-8 and send it again."
    )
