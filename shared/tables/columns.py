"""Which column is what, and what its values are called as metadata."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from shared.errors import InvalidRequest, NoUrlColumn
from shared.validation import METADATA_NAME, RESERVED_NAMES, normalized

URL_COLUMN = "url"
KEY_COLUMN = "key"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHOWN_COLUMNS = 30  # in a sentence
_LISTED_COLUMNS = 1_000
_LISTED_CHARS = 200
_SHOWN_CHARS = 80
_NAME_CHARS = 63
_INDEX = re.compile(r"__index_level_\d+__|(?:Unnamed: \d+(?:_level_\d+)?)?")  # as pandas writes one
_NO_NAME = re.compile(r"[^A-Za-z0-9_]+")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
     "Đ": "D", "ð": "d", "þ": "th", "ı": "i"}  # noqa: RUF001
)  # fmt: skip


def clean_name(name: str) -> str:
    """Return a column's name, or a URL, without blanks around it, those of no width that pages have too."""
    return name.strip().strip("\ufeff\u200b").strip()


class Places:
    """Where the columns of these names are, in about the same time for each name that is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._exact: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        for place, name in enumerate(map(clean_name, names)):
            self._exact.setdefault(name, place)
            self._folded.setdefault(name.casefold(), place)

    def find(self, wanted: str) -> int | None:
        """Return the place of the column of this name, or else the first that has it in another case."""
        wanted = clean_name(wanted)
        place = self._exact.get(wanted)
        return self._folded.get(wanted.casefold()) if place is None else place

    def named(self, option: str, wanted: Iterable[str]) -> set[int]:
        """Return all places of the columns that an option names. Raises InvalidRequest."""
        found = set()
        for name in wanted:
            place = self.find(name)
            if place is None:
                raise InvalidRequest(
                    f"The table has no column `{shown(name)}`, which `{option}` names; "
                    f"{_listed(self._names)}."
                ).at(f"/{option}")
            found.add(self._names[place])
        return {place for place, name in enumerate(self._names) if name in found} if found else set()


def find_column(names: Sequence[str], wanted: str | None) -> int | None:
    """Return the place of the column of this name, as Places does; of the URLs' where none is named."""
    return Places(names).find(wanted or URL_COLUMN)


def find_url_column(names: Sequence[str], wanted: str | None) -> int:
    """Return the place of the column of URLs. Raises NoUrlColumn, InvalidRequest without a head."""
    place = find_column(names, wanted)
    if place is not None:
        return place
    if any(URL.match(name) for name in names):
        raise InvalidRequest(
            f"The first line must name the columns, one of them `{shown(wanted or URL_COLUMN)}`; "
            "it has a URL already. A list of URLs alone is a .txt file, or text/plain."
        ).at("/url_column")
    raise NoUrlColumn(
        f"The table has no column `{shown(wanted or URL_COLUMN)}`; {_listed(names)}. "
        "Say in `url_column` which one has the URLs.",
        [name for name in names if 0 < len(name) <= _LISTED_CHARS][:_LISTED_COLUMNS],
    )


def is_index(name: str) -> bool:
    """Tell whether a column is the index of a data frame, which pandas writes unasked."""
    return _INDEX.fullmatch(name) is not None


def metadata_names(
    names: Sequence[str], places: Sequence[int], others: set[str], inner: set[int]
) -> dict[int, str]:
    """Return what the columns at these places are called as metadata, each differently.

    A name that can stay does; what is made of the others gives way to it. Only an `inner` one can stay where
    it is one of `others`, those of URL and key.
    """
    found: dict[int, str] = {}
    taken: set[str] = set()
    for place in places:
        name = names[place]
        free = name not in taken and (place in inner or name not in others)
        if free and METADATA_NAME.fullmatch(name) and name not in RESERVED_NAMES:
            found[place] = name
            taken.add(name)
    for place in places:
        if place not in found:
            found[place] = _free(_metadata_name(names[place], place), taken | others)
            taken.add(found[place])
    return found


def _metadata_name(name: str, place: int) -> str:
    parts = normalized("NFKD", name.translate(_LETTERS))
    ascii_only = "".join(part for part in parts if not unicodedata.combining(part))
    made = _NO_NAME.sub("_", ascii_only).strip("_")
    if not made or (not re.search("[A-Za-z]", made) and not name.isascii()):
        return f"column_{place + 1}"
    if not made[0].isalpha():
        made = f"column_{made}"
    return made[:_NAME_CHARS]


def _free(name: str, taken: set[str]) -> str:
    """Return the name, changed where it is a built-in field's or another column's."""
    if name in RESERVED_NAMES:
        name += "_"
    free, number = name, 1
    while free in taken or free in RESERVED_NAMES:
        number += 1
        free = f"{name[: _NAME_CHARS - 1 - len(str(number))]}_{number}"
    return free


def shown(name: str) -> str:
    """Return a name or cell as a sentence shows it."""
    text = name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}…"
    return "".join(character if character.isprintable() else " " for character in text)


def name_list(names: Sequence[str]) -> str:
    """Return the names as part of a sentence."""
    more = f" and {len(names) - _SHOWN_COLUMNS:,} more" if len(names) > _SHOWN_COLUMNS else ""
    return (
        ", ".join(f"`{shown(name)}`" if name else "one without a name" for name in names[:_SHOWN_COLUMNS])
        + more
    )


def _listed(names: Sequence[str]) -> str:
    return f"it has {name_list(names)}" if names else "it has none at all"
