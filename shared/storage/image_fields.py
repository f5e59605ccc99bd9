"""Making an Image of fields that were stored, whoever stored them: what no answer could say is left out.

Earlier versions let other values in, and Chroma takes anything from anybody. One odd field costs itself, not
its picture, and least of all the pictures beside it.
"""

from collections.abc import Mapping
from typing import Any

from shared.models import COUNTS, PHASH, RANGES, Image, MetadataValue
from shared.validation import RESERVED_NAMES, is_sound, whole_text

_LISTS = ("sources", "tags", "colors", "keys", "jobs")
_BOUNDS = [(name, *bounds, name in COUNTS) for name, bounds in RANGES.items()]


def sound_image(stored: Mapping[str, Any]) -> Image:
    """Return the image; a field that is missing, or is not what it must be, is None or empty."""
    get = stored.get
    fields: dict[str, Any] = {name: texts(get(name)) for name in _LISTS}
    for name, least, most, whole in _BOUNDS:
        fields[name] = _number(value, least, most, whole) if (value := get(name)) is not None else None
    source, phash = get("source"), get("phash")
    return Image(
        id=stored["id"],
        source=whole_text(source) if isinstance(source, str) else next(iter(fields["sources"]), ""),
        format=text(get("format")),
        phash=phash if isinstance(phash, str) and PHASH.fullmatch(phash) else None,
        metadata=sound_metadata(get("metadata")),
        **fields,
    )


def sound_metadata(stored: object) -> dict[str, MetadataValue]:
    """Return those of the values that an item could have."""
    if not isinstance(stored, dict):
        return {}
    return {
        name: value
        for name, value in stored.items()
        if name not in RESERVED_NAMES and name[:1] != "_" and is_sound(name, value)
    }


def text(stored: object) -> str:
    return whole_text(stored) if isinstance(stored, str) else ""


def texts(stored: object) -> list[str]:
    if stored is None:
        return []
    members: list[Any] = stored if isinstance(stored, list) else [stored]
    try:
        if "".join(members).isascii():  # nearly always, and much faster than one by one
            return members
    except TypeError:
        pass
    return [whole_text(one) for one in members if isinstance(one, str)]


def _number(stored: object, least: float, most: float, whole: bool) -> Any:
    if not isinstance(stored, int | float) or isinstance(stored, bool) or not least <= stored <= most:
        return None
    if not whole or isinstance(stored, int):
        return stored
    return int(stored) if stored == int(stored) else None
