"""Making an Image of fields that were stored, whoever stored them: what no answer could say is left out.

Earlier versions let other values in, and Chroma takes anything from anybody. One odd field costs itself, not
its picture, and least of all the pictures beside it.
"""

from collections.abc import Mapping
from typing import Any

from shared.models import COUNTS, PHASH, RANGES, Image, MetadataValue, in_range
from shared.validation import is_sound, whole_text

_LISTS = ("sources", "tags", "colors", "keys", "jobs")


def sound_image(stored: Mapping[str, Any]) -> Image:
    """Return the image; a field that is missing, or is not what it must be, is None or empty."""
    fields: dict[str, Any] = {name: texts(stored.get(name)) for name in _LISTS}
    fields |= {name: _number(name, stored.get(name)) for name in RANGES}
    source, phash = stored.get("source"), stored.get("phash")
    return Image(
        id=stored["id"],
        source=whole_text(source) if isinstance(source, str) else next(iter(fields["sources"]), ""),
        format=text(stored.get("format")),
        phash=phash if isinstance(phash, str) and PHASH.fullmatch(phash) else None,
        metadata=sound_metadata(stored.get("metadata")),
        **fields,
    )


def sound_metadata(stored: object) -> dict[str, MetadataValue]:
    """Return those of the values that an item could have."""
    if not isinstance(stored, Mapping):
        return {}
    return {name: value for name, value in stored.items() if is_sound(name, value)}


def text(stored: object) -> str:
    return whole_text(stored) if isinstance(stored, str) else ""


def texts(stored: object) -> list[str]:
    members = stored if isinstance(stored, list) else [stored]
    return [whole_text(one) for one in members if isinstance(one, str)]


def _number(name: str, stored: object) -> Any:
    if not isinstance(stored, int | float) or isinstance(stored, bool) or not in_range(name, stored):
        return None
    if name not in COUNTS:
        return stored
    return int(stored) if stored == int(stored) else None
