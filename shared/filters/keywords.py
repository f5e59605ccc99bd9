"""Keywords: words and phrases that an image's metadata must have, whole and in any case.

Texts are compared in a form of words and blanks (`words_of`). The record of an image in Chroma has that of
its metadata beside it, as what Chroma calls a document, so that Chroma's own full-text index finds it.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from shared.errors import FieldError, InvalidRequest
from shared.filters.conditions import Where
from shared.models import Image, JsonObject, MetadataValue
from shared.validation import FIELDS, normalized

# Scripts that put no blanks between words, where a word is any run of characters: Thai, Lao, Tibetan,
# Myanmar, Khmer, New Tai Lue, Tai Tham, Han with Kana and Bopomofo, Yi, Javanese, Myanmar's extensions and
# Tai Viet, then Han and Kana past 16 bits (Unicode 15, Blocks.txt). Marks of any script may follow.
_BLANKLESS = (
    "\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007\u3021-\u303b"
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua980-\ua9ff\uaa60-\uaadf"
    "\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_ASCII_WORD = re.compile("[0-9a-z]+")
_RUN = re.compile(f"[{_BLANKLESS}][{_BLANKLESS}\u0300-\u036f]*")
_ZERO_WIDTH_SPACE = "\u200b"  # between words of scripts that show none
_DOT_ABOVE = "\u0307"  # which İ leaves on its i in lower case
# Of several that must all be there, each takes Chroma as long as one; the longest leave few enough.
_MOST_LOOKED_UP = 3
# Of a document, in any image's: by it Chroma tells which records have one.
LINE = "\n"


def words_of(text: str) -> str:
    """Return the words of a text, with one blank between two: "North-Face 3M胶带" is "north face 3m 胶带".

    Words are runs of letters, digits and marks, in Unicode's NFKC and folded case, and end where a script
    without blanks begins. A mark that follows no letter is part of no word.
    """
    if text.isascii():
        return " ".join(_ASCII_WORD.findall(text.lower()))
    folded = normalized("NFKC", normalized("NFKC", text).casefold()).replace("i" + _DOT_ABOVE, "i")
    words = _RUN.sub(r" \g<0> ", "".join(map(_shown, folded))).split()
    return " ".join(word for word in words if any(map(str.isalnum, word)))


@lru_cache(2**14)
def _shown(character: str) -> str:
    """Return what `words_of` makes of a character: itself, a blank, or nothing where it is not seen."""
    if character.isalnum():
        return character
    category = unicodedata.category(character)
    if category == "Cf" or "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return " " if character == _ZERO_WIDTH_SPACE else ""
    return character if category[0] == "M" else " "


def document_of(metadata: Mapping[str, MetadataValue]) -> str:
    """Return what Chroma's full-text index has of an image: each text's words on a line of its own.

    So a phrase does not go from one text into the next.
    """
    lines = [_line(text) for value in metadata.values() for text in _texts(value)]
    return LINE + LINE.join([*filter(None, lines), ""])


def parse_keywords(
    keywords: Sequence[str], names: Sequence[str], *, every: bool, pointer: str = "/keywords"
) -> "HasKeywords":
    """Make the condition of a request's keywords, which stand at `pointer` (RFC 6901).

    Raises InvalidRequest for a keyword without a letter or digit, and for a name that is a built-in field's.
    """
    given = f"{pointer}/{'all' if every else 'any'}"
    faults: list[FieldError] = [
        {"pointer": f"{given}/{place}", "message": "has no letter or digit, and so no word to look for"}
        for place, keyword in enumerate(keywords)
        if not words_of(keyword)
    ]
    faults += [
        {"pointer": f"{pointer}/in/{place}", "message": f"{name} is a field, not metadata: use `filters`"}
        for place, name in enumerate(names)
        if name in FIELDS
    ]
    if faults:
        raise InvalidRequest(f"{faults[0]['pointer']}: {faults[0]['message']}.", faults)
    return HasKeywords(tuple(keywords), every, tuple(dict.fromkeys(names)))


@dataclass(frozen=True)
class HasKeywords(Where):
    """The metadata of `names`, or all of it without these, has `every` keyword or at least one."""

    keywords: tuple[str, ...]
    every: bool = False
    names: tuple[str, ...] = ()

    def matches(self, image: Image) -> bool:
        lines = [line for of_name in self._lines(image).values() for line in of_name]
        return (all if self.every else any)(
            any(needle in line for line in lines) for needle in self._needles.values()
        )

    def matched(self, image: Image) -> dict[str, list[str]]:
        """Return the keywords, as they were given, that the image has, with the names that have them."""
        lines = self._lines(image)
        found = {
            keyword: [name for name, of_name in lines.items() if any(needle in line for line in of_name)]
            for keyword, needle in self._needles.items()
        }
        return {keyword: names for keyword, names in found.items() if names}

    def to_document(self) -> JsonObject:
        needles = sorted(set(self._needles.values()), key=lambda needle: (-len(needle), needle))
        if not self.every:  # letters, digits and marks mean themselves in a pattern
            return {"$contains": needles[0]} if len(needles) == 1 else {"$regex": "|".join(needles)}
        asked: list[JsonObject] = [{"$contains": one} for one in needles[:_MOST_LOOKED_UP]]
        return asked[0] if len(asked) == 1 else {"$and": asked}

    def _narrow(self, *, negated: bool) -> JsonObject | None:
        return None  # a condition on the document, which is none of Chroma's `where`

    @cached_property
    def _needles(self) -> dict[str, str]:
        return {keyword: needle_of(keyword) for keyword in self.keywords}

    def _lines(self, image: Image) -> dict[str, list[str]]:
        names = self.names or image.metadata
        return {
            name: [_line(text) for text in _texts(image.metadata.get(name))]
            for name in names
            if name in image.metadata
        }


def needle_of(keyword: str) -> str:
    """Return what a line of a document contains where it has the keyword; "" of what has no word in it.

    In a script without blanks that is any part of a run, elsewhere whole words.
    """
    words = words_of(keyword)
    if not words:
        return ""
    before = "" if _RUN.match(words) else " "
    after = "" if _RUN.match(words.rpartition(" ")[2]) else " "
    return f"{before}{words}{after}"


def _line(text: str) -> str:
    words = words_of(text)
    return f" {words} " if words else ""


def _texts(value: MetadataValue | None) -> list[str]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []
