"""A file as text: which encoding it has, and its lines, none of them without bound."""
# ruff: noqa: RUF001 - letters that look alike are what naming an encoding is about

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from typing import IO

import charset_normalizer

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.rows import MAX_ROW_CHARS

SAMPLE_BYTES = 64 * 2**10
_CHUNK_CHARS = 2**16
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_ESCAPED = re.compile("[\udc80-\udcff]+")  # bytes that are no UTF-8, as `surrogateescape` keeps them
_OTHERS = re.compile("[^\x00-\x7f\udc80-\udcff]+")
# Bytes that no 8-bit encoding has so alone, or the begin of a character of UTF-8 whose end was cut off.
_DAMAGE = re.compile(
    rb"(?:[\xfe\xff]{1,2}|[\xe0-\xef][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{1,2})(?![\x80-\xff])"
)
_KEPT_LINES = 200  # broken ones, to name the encoding by; after these it is not read on
# Words with a byte above ASCII: what is around them, URLs above all, would make every encoding likely.
_WORDS = re.compile(rb"[A-Za-z'\x80-\xff][@-Z\[-z{|}\x80-\xff]*")
_JAPANESE = r"[ぁ-んァ-ヶー一-龠、。・]"
_CYRILLIC = r"(?<![а-яё])[А-ЯЁ]|[а-яёіїєґ]"
# A codec, its name, and what texts in it are mostly made of; the first of equals is taken.
_USUAL = {
    ("cp1252", "windows-1252, which is much like ISO-8859-1"): (
        r"(?<=[A-Za-z])[ß-öø-ü’]{1,2}(?![ß-öø-ü])|(?<=[A-Z])[À-ÖØ-Ü]|[À-ÖØ-Ü](?=[A-Za-zß-ü])"
        r"|[äöüÄÖÜßçéèàåøæØÅ€°®™–—“”„’…·«»©£²³½×]"
    ),
    ("cp1250", "windows-1250"): r"[ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžČŠŽŘőűăâîşţ]",
    ("cp1254", "windows-1254"): r"[çğıöşüÇĞİÖŞÜ]",
    ("iso8859_2", "ISO-8859-2"): r"[ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžČŠŽŘőűăâîşţ]",
    ("cp932", "Shift_JIS"): _JAPANESE,
    ("cp1251", "windows-1251"): _CYRILLIC,
    ("koi8_r", "KOI8-R"): _CYRILLIC,
    ("cp1253", "windows-1253"): r"(?<![α-ωά-ώ])[Α-Ω]|[α-ωά-ώ]",
    ("cp949", "EUC-KR"): r"[가-힣]",
    ("gb18030", "GB18030"): r"[一-龠，。、]",
    ("euc_jp", "EUC-JP"): _JAPANESE,
    ("big5", "Big5"): r"[一-龠，。、]",
    ("cp1256", "windows-1256"): r"[ء-ي]",
}
_LEAST_SHARE = 0.75
_NEVER = ["utf_8", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_7", "ascii"]


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
            if len(self._broken) == _KEPT_LINES:
                self._judge()
        return mended

    def _judge(self) -> None:
        """Raise InvalidRequest where the file is of another encoding, and not UTF-8 with damage."""
        if self._broken and self.replaced > self._sound and not all(map(_is_damage, self._broken)):
            raise _refusal(_encoding_name(b"\n".join(self._broken)), self._first_broken)


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


def _encoding_name(data: bytes) -> str:
    """Return what the encoding of this text most likely is called, or a guess where nothing is likely."""
    words = b" ".join(word for word in _WORDS.findall(data) if not word.isascii())
    best, most = "", _LEAST_SHARE
    for (codec, name), usual in _USUAL.items():
        try:
            text = words.decode(codec)
        except UnicodeDecodeError:
            continue
        share = len("".join(re.findall(usual, text))) / max(sum(map(_above_ascii, text)), 1)
        if share > most:
            best, most = name, share
    found = None if best else charset_normalizer.from_bytes(data, cp_exclusion=_NEVER).best()
    return best if found is None else found.encoding


def _above_ascii(character: str) -> bool:
    return not character.isascii()
