"""The rules for fields, metadata and text, the same whether a request or a row of a file brings them."""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Literal

from shared.errors import FieldError

MAX_METADATA = 32
MAX_METADATA_BYTES = 64 * 2**10  # of all names and values together, as `json_bytes` counts them
MAX_METADATA_LISTED = 1_000  # texts in all lists together
MAX_SOURCE = 8_192  # characters of a URL or a file's name
METADATA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
MAX_METADATA_NAME = 63  # characters of one


class Kind(Enum):
    """What a field holds, and so which values and operators a filter on it may have."""

    TEXT = auto()
    TEXTS = auto()
    NUMBER = auto()
    TIME = auto()
    ANY = auto()


FIELDS: Mapping[str, Kind] = {
    "id": Kind.TEXT,
    "key": Kind.TEXT,
    "source": Kind.TEXTS,
    "format": Kind.TEXT,
    "width": Kind.NUMBER,
    "height": Kind.NUMBER,
    "bytes": Kind.NUMBER,
    "taken_at": Kind.TIME,
    "lat": Kind.NUMBER,
    "lon": Kind.NUMBER,
    "tags": Kind.TEXTS,
    "nsfw": Kind.NUMBER,
    "colors": Kind.TEXTS,
    "created_at": Kind.TIME,
}
# What a text of one line cannot have: control characters, line and paragraph separators, what changes the
# direction of what follows, halves of characters. As members of a class of a pattern.
UNSHOWN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSHOWN = re.compile(f"[{UNSHOWN}]")
_PIECE_CHARS = 256
_LETTERS = re.compile(r"[^\W\uff9e\uff9f]+")  # no marks, and what becomes none
_MARKS = re.compile(rb"[^\0]{2,}")  # among the classes of a text's characters
RESERVED_NAMES = frozenset(FIELDS) | {"near", "and", "or", "not"}


def pointer(*parts: object) -> str:
    """Return the RFC 6901 pointer with these parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1")[:200] for part in parts)


def metadata_faults(metadata: dict[str, Any], *prefix: object) -> Iterator[FieldError]:
    """Yield what breaks the contract's rules for metadata, each fault with a pointer below `prefix`."""
    if len(metadata) > MAX_METADATA:
        message = f"has {len(metadata)} values; at most {MAX_METADATA} are allowed"
        yield {"pointer": pointer(*prefix), "message": message}
        return
    sound = True
    for name, value in metadata.items():
        if fault := _name_fault(name) or _value_fault(value):
            sound = False
            yield {"pointer": pointer(*prefix, name), "message": fault}
    if sound and (count := listed(metadata)) > MAX_METADATA_LISTED:
        message = f"has {count:,} texts in lists; at most {MAX_METADATA_LISTED:,} are allowed"
        yield {"pointer": pointer(*prefix), "message": message}
    elif sound and (size := json_bytes(metadata)) > MAX_METADATA_BYTES:
        message = f"has {size:,} bytes as JSON; at most {MAX_METADATA_BYTES:,} are allowed"
        yield {"pointer": pointer(*prefix), "message": message}


def listed(metadata: Mapping[str, Any]) -> int:
    """Return how many members all lists of `metadata` have together."""
    return sum(len(value) for value in metadata.values() if isinstance(value, list))


def json_bytes(value: object) -> int:
    """Return the length in bytes of a value as compact JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def _name_fault(name: str) -> str | None:
    if not METADATA_NAME.fullmatch(name):
        return "a metadata name is a letter, then at most 62 letters, digits or underscores"
    if name in RESERVED_NAMES:
        return f"{name} is the name of a built-in field"
    return None


def _value_fault(value: object) -> str | None:
    match value:
        case str() | bool():
            return None
        case int():
            return None if -(2**63) <= value < 2**63 else "an integer must fit in 64 bits"
        case float():
            return None if math.isfinite(value) else "a number must be finite"
        case list() if all(isinstance(member, str) for member in value):
            return None
    return "must be a string, a number, a boolean or a list of strings"


def is_sound(name: str, value: object) -> bool:
    """Return whether this may be metadata of an item; quick, as it is asked of all that is read."""
    if len(name) > MAX_METADATA_NAME or not _may_be_a_name(name):
        return False
    return value.__class__ is str or _value_fault(value) is None


@lru_cache(4096)
def _may_be_a_name(name: str) -> bool:
    return _name_fault(name) is None


def nfc(text: str) -> str:
    """Return the form of a text that is compared (Unicode NFC): macOS spells é with two characters."""
    return normalized("NFC", text)


def normalized(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """Return a text in one of Unicode's forms, in a time that grows with its length alone.

    Python puts marks that stand in a row in order by swapping neighbours: 100,000 would take it a minute.
    """
    if text.isascii():
        return text
    if len(text) > _PIECE_CHARS and max(map(len, _LETTERS.split(text))) > _PIECE_CHARS:
        pieces = (text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS))
        text = "".join(unicodedata.normalize("NFKD" if "K" in form else "NFD", piece) for piece in pieces)
        text = _with_marks_in_order(text)
    return unicodedata.normalize(form, text)


def _with_marks_in_order(text: str) -> str:
    parts: list[str] = []
    at = 0
    for marks in _MARKS.finditer(bytes(map(unicodedata.combining, text))):
        start, end = marks.span()
        parts += [text[at:start], *sorted(text[start:end], key=unicodedata.combining)]
        at = end
    return "".join([*parts, text[at:]])


def forms(text: str) -> list[str]:
    """Return the forms of a text that earlier versions may have stored it in: NFC, NFD and as it is."""
    if text.isascii():
        return [text]
    return list(dict.fromkeys([nfc(text), text, normalized("NFD", text)]))


def whole_text(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which no UTF-8 can say."""
    if text.isascii() or is_unicode(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_unicode(text: str) -> bool:
    """Return False for text with a lone surrogate, which JSON can carry but UTF-8, and so Chroma, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """Make a text fit to be shown in one line, all else kept as it is given."""
    return _UNSHOWN.sub("\ufffd", text)
