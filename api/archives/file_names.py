"""The names of uploaded files and of archives' entries: kept as given, but for what cannot be shown.

A name comes with each byte that is no UTF-8 as a lone surrogate, as Python's `surrogateescape` has it.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from charset_normalizer import CharsetMatch, from_bytes

from image_search.models.image_files import suffix_of
from shared.validation import shown

MAX_NAME_CHARS = 255
_MAX_KEPT_CHARS = 1_024
_ESCAPED = re.compile("[\udc80-\udcff]")
_HALF = re.compile(r"(?<=[\udc80-\udcff])\\")  # a backslash, or half of a character
_SPELLED = {0xDC00 + byte: f"%{byte:02X}" for byte in range(0x80, 0x100)}
_VIRAMA = 9  # the class of the signs that join two consonants of India's scripts
_EVIDENCE_BYTES = 32 * 1024
# What Windows' and older tools write; the first is what a zip's names are in where it says nothing.
_WESTERN = ("cp437", "cp850", "cp1252")
_ENCODINGS = (
    *("cp932", "gb18030", "big5", "cp949", "cp1251", "cp866", "cp1252", "cp850", "cp437", "cp1250", "cp852"),
    *("cp1253", "cp737", "cp1254", "cp857", "cp1255", "cp1256", "cp874"),
)
_MESS, _MARGIN = 0.2, 0.1  # that a reading may make of a text, in [0, 1], and how much less than the next
# What no name in a Western language has: other letters and signs, three accents in a row, `aÉ`, `éA`.
_NOT_WESTERN = re.compile(r"[^\x00-\x7fÀ-ÏÑ-ÖØ-Üß-ïñ-öø-üÿ]|[^\x00-\x7f]{3}|[a-zß-ÿ][À-Þ]|[ß-ÿ][A-Z]")


def fit_names(names: Sequence[str], *, distinct: bool) -> list[str]:
    """Make the names of a request's files fit to be shown; `distinct` numbers what would be alike."""
    fit = [display_name(name) or f"file {index}" for index, name in enumerate(decoded_names(names))]
    return list(_distinct(fit)) if distinct else fit


def decoded_names(names: Sequence[str]) -> list[str]:
    """Read the bytes that are no UTF-8 in the encoding that all such names speak for together.

    Where none is sure, or a name is not in it, each byte is shown: `Gr%94%E1e.jpg`.
    """
    odd = [_bytes(name) for name in names if _ESCAPED.search(name)]
    encoding = _encoding(odd) if odd else None
    return [_decoded(name, encoding) if _ESCAPED.search(name) else name for name in names]


def bounded(name: str) -> str:
    """Shorten a name that nobody could need, so that any number can be kept until all are decoded."""
    if len(name) <= _MAX_KEPT_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest}/{name[-MAX_NAME_CHARS:]}"


def display_name(name: str) -> str:
    """Make a file name fit to be shown: `/` between folders, no drive, no `..`, at most MAX_NAME_CHARS."""
    parts = [part for part in shown(name.replace("\\", "/")).split("/") if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[0].endswith(":"):
        parts = parts[1:]
    return _cut("/".join(parts))


def _cut(name: str) -> str:
    """Keep the end of a long name, which says most, and the start of its digest: names stay distinct."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    start = len(name) - MAX_NAME_CHARS + len(digest) + 1
    while start < len(name) and _continues(name[start - 1], name[start]):
        start += 1
    return f"{digest}…{name[start:]}"


def _continues(before: str, char: str) -> bool:
    """Return whether a character is part of what is seen as one with that before it."""
    return (
        before == "\u200d"
        or unicodedata.combining(before) == _VIRAMA
        or char in "\u200c\u200d"
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
        or "\u1160" <= char <= "\u11ff"  # the vowel or end of a Korean syllable
        or "\U0001f1e6" <= char <= "\U0001f1ff"  # half a flag
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # a tone of skin
        or "\U000e0020" <= char <= "\U000e007f"  # the letters of a region's flag
    )


def _distinct(names: Iterable[str]) -> Iterator[str]:
    taken = set(names)
    counts: Counter[str] = Counter()
    for name in names:
        counts[name] += 1
        if counts[name] == 1:
            yield name
            continue
        stem = name[: len(name) - len(suffix_of(name))]
        while (numbered := f"{stem} ({counts[name]}){name[len(stem) :]}") in taken:
            counts[name] += 1
        taken.add(numbered)
        yield numbered


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _decoded(name: str, encoding: str | None) -> str:
    if encoding:
        try:
            return _bytes(name).decode(encoding)
        except UnicodeDecodeError:
            pass
    name = _bytes(name).decode("ascii", "surrogateescape")
    return _HALF.sub("%5C", name).translate(_SPELLED)


def _encoding(names: Sequence[bytes]) -> str | None:
    """Return the encoding in which all these names are words; None where several are as likely."""
    for encoding in _WESTERN:
        if not any(_NOT_WESTERN.search(name.decode(encoding, "replace")) for name in names):
            return encoding
    stems = b"\n".join(name.rpartition(b".")[0] or name for name in names)
    if len(stems) > _EVIDENCE_BYTES:
        stems = stems[:_EVIDENCE_BYTES].rpartition(b"\n")[0]
    readings: dict[str, CharsetMatch] = {}
    for match in from_bytes(stems, cp_isolation=[*_ENCODINGS], threshold=_MESS):
        readings.setdefault(str(match), match)
    if not readings:
        return None
    (text, best), second = next(iter(readings.items())), next(iter([*readings.values()][1:]), None)
    sure = (
        second is None
        or second.chaos - best.chaos >= _MARGIN
        or best.coherence - second.coherence >= 2 * _MARGIN
    )
    letters = "".join(char for char in text if not char.isascii())
    return best.encoding if sure and not letters.isupper() else None
