"""An image's provenance: what each item said of it, in the order of their versions.

An image has one `Contribution` for each item that brought its bytes and one for each change of its metadata.
It exists for as long as an item's does: that of an item without a key lasts until the image is deleted, that
of an item with a key until the key points at another image, or is deleted, and that of an entry of a source
(a sync's item) at most until the source withdraws the entry, or says something else of it. All of it depends
on versions alone, so whatever is delivered twice, late or out of order ends in the same state.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

from shared.models import Image, Metadata, MetadataValue
from shared.storage.image_fields import text, texts
from shared.validation import (
    MAX_METADATA,
    MAX_METADATA_BYTES,
    MAX_METADATA_LISTED,
    is_sound,
    json_bytes,
    listed,
    nfc,
    whole_text,
)

# Of one picture; of items without a key only the latest are remembered.
MAX_CONTRIBUTIONS = 1000
MAX_PROVENANCE_BYTES = 256 * 2**10
MAX_JOBS = 100  # of one picture, the latest that brought it


@dataclass(frozen=True)
class Contribution:
    """What the item with this `version` said: source, key, metadata. A change of metadata has no `source`.

    A metadata value of None, in a change only, takes the name away. `of` is the name of the source of which
    the item was an entry.
    """

    version: int
    source: str | None = None
    key: str | None = None
    metadata: dict[str, MetadataValue | None] = field(default_factory=dict)
    of: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None:
            object.__setattr__(self, "key", nfc(self.key))

    @property
    def entry(self) -> tuple[str | None, str]:
        """Return the source and what it calls the entry; the first is None for other items."""
        return self.of, entry_of(self.source or "", self.key)

    @property
    def is_plain(self) -> bool:
        """Return whether an item said it that has no key and is no entry of a source."""
        return self.source is not None and self.key is None and self.of is None

    @cached_property
    def size(self) -> int:
        """Return about how many bytes it takes; cached, as an image's new items add up all of them."""
        text = len(self.source or "") + len(self.key or "") + len(self.of or "")
        return text + (json_bytes(self.metadata) if self.metadata else 0)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image's record as the index keeps it; `owner` is "<job>:<index>" of the item that is `indexed`."""

    image: Image
    owner: str
    contributions: tuple[Contribution, ...]

    def key_versions(self, key: str) -> list[int]:
        return [one.version for one in self.contributions if one.key == key]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The image that a key points at.

    `floor` is a version: what the key pointed at up to then, it no longer does. `image_id` is the image that
    it points at now ("": none); `before` are those whose records may still name the key after a crash. The
    contributions of all of these, later than the floor, decide. `held` is the latest version at which it
    pointed at `image_id` by a source's entry that was withdrawn since: no other image gets it by what
    is older.

    The key is in NFC. Earlier versions have a record for each form in which it came: `joined`, they say what
    one would, had the key always been one.
    """

    key: str
    floor: int = 0
    image_id: str = ""
    before: tuple[str, ...] = ()
    held: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", nfc(self.key))

    @property
    def candidates(self) -> list[str]:
        return [image_id for image_id in (self.image_id, *self.before) if image_id]

    def held_by(self, image_id: str, version: int) -> "KeyRecord":
        """Return the record once the entry is withdrawn that pointed the key at an image at `version`."""
        before = tuple(one for one in self.candidates if one != image_id)
        held = self.held if self.image_id == image_id else 0
        return replace(self, image_id=image_id, before=before, held=max(held, version))

    def joined(self, other: "KeyRecord") -> "KeyRecord":
        if other.held > self.held:
            return other.joined(self)
        first, *rest = dict.fromkeys([*self.candidates, *other.candidates, ""])
        return KeyRecord(self.key, max(self.floor, other.floor), first, tuple(filter(None, rest)), self.held)


def entry_of(source: str, key: str | None) -> str:
    """Return what names an entry of a source: its key, else where its picture is."""
    return source if key is None else nfc(key)


def run_of(source: str) -> str:
    """Return the name, no image's id, under which the version of a source's latest run is remembered."""
    return f"source:{source}"


def of_image(image: Image, version: int = 0, of: str | None = None) -> tuple[Contribution, ...]:
    """Return the contributions that an image brings: one of an item, or all of an imported image.

    An imported image's first sources belong to its keys, in their order. Version 0, for a record that was
    written without any, is older than all others.
    """
    sources = image.sources or [image.source]
    metadata: dict[str, MetadataValue | None] = dict(image.metadata)
    under = zip_longest(image.keys, sources[: len(image.keys)], fillvalue=sources[-1])
    keyed = [Contribution(version, source, key, metadata, of) for key, source in under]
    plain = [Contribution(version, source, of=of) for source in sources[len(image.keys) :]]
    return (*keyed, *(replace(one, metadata=metadata) if one is plain[-1] else one for one in plain))


def with_contributions(
    contributions: Sequence[Contribution], new: Iterable[Contribution]
) -> tuple[Contribution, ...]:
    """Add `new` to the contributions, in order of version; an item's new one replaces its former one.

    So does what a source says of an entry what it said before. All at once: an imported image may bring all
    that one may have, and one by one they take minutes.
    """
    latest: dict[tuple[object, ...], Contribution] = {}
    for one in sorted((*contributions, *new), key=lambda one: one.version):
        same = (one.version, one.source, one.key) if one.of is None else one.entry
        latest.pop(same, None)
        latest[same] = one
    ordered = list(latest.values())
    if len(ordered) == 1 and ordered[0].source is not None:  # as of nearly every picture
        return tuple(ordered)
    most_bytes = max(MAX_PROVENANCE_BYTES, sum(one.size for one in contributions))
    return _bounded(_without_overruled_changes(ordered), most_bytes)


def excess(before: StoredImage | None, after: StoredImage) -> str | None:
    """Say which limit of an image `after` exceeds, and `before` exceeded by less or not at all; else None."""
    old, new = before.image if before else None, after.image
    if fault := _too_often(before, after):
        return fault
    if MAX_METADATA < len(new.metadata) > len(old.metadata if old else ()):
        count = len(new.metadata)
        return (
            f"The picture's items together have {count} metadata values; at most {MAX_METADATA} are allowed."
        )
    if MAX_METADATA_BYTES < (size := json_bytes(new.metadata)) > json_bytes(old.metadata if old else {}):
        return (
            f"The picture's items together have {size:,} bytes of metadata as JSON; at most "
            f"{MAX_METADATA_BYTES:,} are allowed."
        )
    if MAX_METADATA_LISTED < (count := listed(new.metadata)) > listed(old.metadata if old else {}):
        return (
            f"The picture's items together have {count:,} texts in lists of metadata; at most "
            f"{MAX_METADATA_LISTED:,} are allowed."
        )
    if MAX_PROVENANCE_BYTES < _kept_size(after) > (_kept_size(before) if before else 0):
        return (
            f"The keys, sources and metadata of the picture's items have more than {MAX_PROVENANCE_BYTES:,} "
            "bytes, and it takes no more."
        )
    return None


def _too_often(before: StoredImage | None, after: StoredImage) -> str | None:
    if MAX_CONTRIBUTIONS < len(after.image.keys) > len(before.image.keys if before else ()):
        return f"The picture has {MAX_CONTRIBUTIONS:,} keys, and takes no more."
    if MAX_CONTRIBUTIONS < _entries(after) > (_entries(before) if before else 0):
        return f"The picture is that of {MAX_CONTRIBUTIONS:,} entries of sources, and takes no more."
    return None


def _entries(stored: StoredImage) -> int:
    return sum(one.of is not None for one in stored.contributions)


def _kept_size(stored: StoredImage) -> int:
    """Return how many of the items' stored bytes are never dropped to make room for later items."""
    if common_origin(stored.image, stored.contributions) is not None:  # not stored one by one
        return sum(map(len, [*stored.image.sources, *stored.image.keys]))
    return sum(one.size for one in stored.contributions if not one.is_plain)


def assembled(image: Image, contributions: Sequence[Contribution]) -> Image | None:
    """Return the image with the sources, keys and metadata of its contributions; None when it is gone."""
    items = [one for one in contributions if one.source is not None]
    if not items:
        return None
    metadata: Metadata = {}
    for one in contributions:
        for name, value in one.metadata.items():
            metadata.pop(name, None)
            if value is not None:
                metadata[name] = value
    sources = list(dict.fromkeys(one.source for one in items if one.source is not None))
    keys = list(dict.fromkeys(one.key for one in items if one.key is not None))
    return replace(image, source=sources[0], sources=sources, keys=keys, metadata=metadata)


def common_origin(image: Image, contributions: Sequence[Contribution]) -> tuple[int, str | None] | None:
    """Return the version and `of` for which `of_image` returns exactly these contributions, if there are.

    Nearly every image has them, and need not store its contributions.
    """
    origins = {(one.version, one.of) for one in contributions}
    if len(origins) != 1 or tuple(contributions) != of_image(image, *min(origins)):
        return None
    return origins.pop()


def to_json(contributions: Sequence[Contribution]) -> str:
    rows = [
        [one.version, one.source, one.key, one.metadata, *([one.of] if one.of else [])]
        for one in contributions
    ]
    return json.dumps(rows, separators=(",", ":"))


def from_json(written: object) -> tuple[Contribution, ...]:
    """Return what is sound of the contributions that were stored; nothing if no item is among them."""
    rows = json_of(written)
    found = [one for row in (rows if isinstance(rows, list) else ()) if (one := _contribution(row))]
    return tuple(found) if any(one.source is not None for one in found) else ()


def _contribution(row: object) -> Contribution | None:
    match row:
        case [int(version), str() | None as source, str() | None as key, dict(metadata), *of]:
            sound = sound_change(metadata)
            said = Contribution(version, source and whole_text(source), key and whole_text(key), sound)
            return replace(said, of=text(of[0]) or None) if of else said
    return None


def sound_change(metadata: Mapping[str, Any]) -> dict[str, MetadataValue | None]:
    """Return what is sound of a stored change of metadata."""
    return {name: value for name, value in metadata.items() if value is None or is_sound(name, value)}


def json_of(written: object) -> Any:
    """Return what a stored JSON text says; None for anything else."""
    try:
        return json.loads(written) if isinstance(written, str) else None
    except (ValueError, RecursionError):
        return None


def key_to_record(record: KeyRecord) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(record).items() if value or name != "held"}
    # Chroma has no empty lists, and keeps whole numbers to 64 bits.
    return {"record": json.dumps(fields), "image_id": record.image_id}


def key_from_record(key: str, record: Mapping[str, Any]) -> KeyRecord:
    """Return what is sound of a key's record."""
    fields = json_of(record.get("record"))
    fields = fields if isinstance(fields, dict) else record
    floor, held = (one if isinstance(one := fields.get(name), int) else 0 for name in ("floor", "held"))
    return KeyRecord(key, floor, text(fields.get("image_id")), tuple(texts(fields.get("before"))), held)


def _without_overruled_changes(ordered: Iterable[Contribution]) -> list[Contribution]:
    """Keep only the latest change of each metadata name, so that an image can be changed for ever."""
    kept: list[Contribution] = []
    changed: set[str] = set()
    for one in reversed(list(ordered)):
        if one.source is None:
            left = {name: value for name, value in one.metadata.items() if name not in changed}
            changed |= left.keys()
            if left:
                kept.append(replace(one, metadata=left))
        else:
            kept.append(one)
    return kept[::-1]


def _bounded(ordered: list[Contribution], most_bytes: int) -> tuple[Contribution, ...]:
    surplus = len(ordered) - MAX_CONTRIBUTIONS
    size = sum(one.size for one in ordered)
    plain = [one for one in ordered if one.is_plain]
    dropped: set[int] = set()
    for one in plain[:-1]:
        if len(dropped) >= surplus and size <= most_bytes:
            break
        dropped.add(id(one))
        size -= one.size
    return tuple(one for one in ordered if id(one) not in dropped)
