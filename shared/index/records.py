"""The records in Chroma: pointers in the registry, and one flat record per image in its collection.

An image's built-in fields and metadata keep the names under which users filter; they never collide
(RESERVED_NAMES). What is ours alone starts with an underscore: `_owner`, `_sources`, `_contributions`
(provenance.py, JSON; left out where a version after the owner and `_of`, a source, say the same), `_job` or,
of several, `_jobs`, `_phash`, `_place`, the start of the id as a number, by which pages of a list are cut,
`_stray`, the mark of strays.py, and `_extra`, a JSON object of the values that Chroma cannot hold or would
change: empty lists, broken Unicode, numbers of more than 15 digits, and texts that are not in NFC. The
numbers also lie nearly right under their names, for ranges, and the texts in NFC, in which filters compare.
An image's keys are the list `key`. Beside its record it has a document, Chroma's word for a text that is
searched in full: that of its metadata (shared/filters/keywords.py).

Anybody may have written a record: `from_record` and `stored_image` take any.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelMismatch
from shared.filters.conditions import survives_chroma
from shared.filters.keywords import LINE, document_of
from shared.index import provenance
from shared.index.provenance import Contribution, StoredImage
from shared.models import RANGES, Image, JsonObject, MetadataValue
from shared.storage.image_fields import sound_image, text
from shared.validation import METADATA_NAME, RESERVED_NAMES, is_unicode, json_bytes, listed, nfc

Record = Mapping[str, Any]

_VALUES = ("id", "source", "format", *RANGES)
_FIELDS = tuple(one.name for one in fields(Image))
_ID = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,20}")
_PLACE_DIGITS = 12
PLACES = 16**_PLACE_DIGITS
MARK = "_stray"  # 1: HNSW cannot reach it (strays.py)
_OF_MODEL = ("tags", "nsfw")  # what tagging.py makes of the vector
_MAX_STORABLE = 1e308
# Chroma takes up to 5,461 records and 40 MB per call; metadata take it more time than vectors do.
BATCH = 2_000
_CALL_BYTES = 32 * 2**20
_METADATA_WEIGHT = 4
_NUMBER_BYTES = 20  # one of a vector, as JSON
# Of one record. With more, Chroma 1.5 answers 500, but has it in its log, which it can apply no more: nothing
# can be written to the collection then, nor, once Chroma is started anew, read.
MAX_LISTED = 5_461
_NO_DOCUMENT: JsonObject = {"$not_contains": LINE}


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the registry says of a collection: the model, and the Chroma collections of its images and keys.

    `keys` is the Chroma collection of its keys, which stays when `physical` is switched: an image's id is the
    same whatever model encoded it.
    """

    name: str
    physical: str
    model: str
    fingerprint: str
    dimension: int
    created_at: float
    keys: str

    @property
    def fields(self) -> dict[str, Any]:
        """Return all fields but the name, which is the record's id."""
        return {name: value for name, value in asdict(self).items() if name != "name"}

    def check_model(self, model: str, fingerprint: str) -> None:
        """Raise ModelMismatch unless the vectors are this model's."""
        if self.fingerprint == fingerprint:
            return
        other = "other weights of it" if model == self.model else model
        raise ModelMismatch(
            f"The collection {self.name!r} was written by the model {self.model}, and {other} cannot read "
            f"its vectors: run `image-search reindex --collection {self.name} --model {model}` to encode it "
            "again."
        )


def pointer_of(name: str, stored: Record | None) -> Pointer | None:
    """Return the pointer that a record of the registry is; None for a record that is none."""
    try:
        return Pointer(name=name, **(stored or {}))
    except TypeError:
        return None


def new_pointer(name: str, model: str, fingerprint: str, dimension: int) -> Pointer:
    """Return a pointer with a physical name never used before; Chroma forbids two dots in a row there."""
    physical = f"{re.sub(r'[.]+', '.', name)}-{fingerprint[:16]}-{secrets.token_hex(4)}"
    created_at = round(time.time(), 3)
    return Pointer(name, physical, model, fingerprint, dimension, created_at, f"{physical}-keys")


def place_of(image_id: str) -> int:
    """Return the first 48 of the id's 256 bits as a number, which sorts images as their ids do; else -1."""
    return int(image_id[:_PLACE_DIGITS], 16) if _ID.fullmatch(image_id) else -1


def to_record(image: Image, owner: str, made_of: Sequence[Contribution] = ()) -> dict[str, Any]:
    """Return an image's record, without what no answer could say.

    Raises ValueError for a forbidden name, and lists past MAX_LISTED.
    """
    for name in image.metadata:
        if name in RESERVED_NAMES or not METADATA_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name metadata")
    image = sound_image({name: getattr(image, name) for name in _FIELDS})
    lists = {"tags": image.tags, "colors": image.colors, "_sources": image.sources}
    values: dict[str, Any] = {name: getattr(image, name) for name in _VALUES}
    values |= {name: labels for name, labels in lists.items() if labels} | image.metadata
    record = {name: near for name, value in values.items() if (near := _nearest_storable(value)) is not None}
    origin = provenance.common_origin(image, made_of)
    record["_owner"] = owner if origin is None else f"{owner}@{origin[0]}"
    if origin and origin[1]:
        record["_of"] = origin[1]
    if made_of and origin is None:
        record["_contributions"] = provenance.to_json(made_of)
    record["_place"] = place_of(image.id)
    if image.keys:
        record["key"] = image.keys
    if image.jobs:  # one, as of nearly every picture, takes Chroma less time than a list
        record |= {"_jobs": image.jobs} if len(image.jobs) > 1 else {"_job": image.jobs[0]}
    if image.phash:
        record["_phash"] = image.phash
    extra = {name: value for name, value in values.items() if not _survives(value, record.get(name))}
    if extra:
        record["_extra"] = json.dumps(extra)
    if (count := listed(record)) > MAX_LISTED:
        raise ValueError(f"{count:,} texts in lists: Chroma takes {MAX_LISTED:,} a record")
    return record


def divided(record: Record) -> tuple[JsonObject, JsonObject]:
    """Divide a record into what does not depend on the model, and what that said of the image."""
    said = {name: record[name] for name in _OF_MODEL if name in record}
    rest = {name: value for name, value in record.items() if name not in said}
    extra = provenance.json_of(record.get("_extra")) if "_extra" in record else None
    if isinstance(extra, dict) and (hidden := {name: extra.pop(name) for name in _OF_MODEL if name in extra}):
        said["_extra"] = hidden
        del rest["_extra"]
        rest |= {"_extra": json.dumps(extra)} if extra else {}
    return rest, said


def joined(rest: JsonObject, said: JsonObject) -> JsonObject:
    """Return the record that `divided` would divide so; without what Chroma could not take besides."""
    record = rest | {name: value for name, value in said.items() if name != "_extra"}
    if "_extra" in said:
        extra = provenance.json_of(rest.get("_extra")) if "_extra" in rest else None
        record["_extra"] = json.dumps((extra if isinstance(extra, dict) else {}) | said["_extra"])
    return record if listed(record) <= MAX_LISTED else rest


def described(record: Record, image: Image) -> JsonObject:
    """Return a record with the image's tags and nsfw in the place of its own."""
    bare = Image(image.id, "", [], "", None, None, None, tags=image.tags, nsfw=image.nsfw)
    return joined(divided(record)[0], divided(to_record(bare, ""))[1])


def in_calls(records: Sequence[Record], documents: Sequence[str], dimension: int = 0) -> Iterator[slice]:
    """Yield slices of records, with vectors of `dimension` numbers, that Chroma takes in one call."""
    start, size = 0, 0
    for place, (record, document) in enumerate(zip(records, documents, strict=True)):
        more = _METADATA_WEIGHT * (json_bytes(record) + len(document)) + _NUMBER_BYTES * dimension
        if place > start and (size + more > _CALL_BYTES or place - start == BATCH):
            yield slice(start, place)
            start, size = place, 0
        size += more
    if start < len(records):
        yield slice(start, len(records))


def from_record(record: Record) -> Image:
    extra = provenance.json_of(record.get("_extra")) if "_extra" in record else None
    values = {**record, **extra} if isinstance(extra, dict) else record
    return sound_image(
        {
            **values,
            "id": record["id"],
            "sources": values.get("_sources"),
            "keys": record.get("key"),
            "jobs": record.get("_jobs") or record.get("_job"),
            "phash": record.get("_phash"),
            "metadata": values,  # of which the names of fields, and those that are ours, are none
        }
    )


def stored_image(record: Record) -> StoredImage:
    image = from_record(record)
    owner, _, version = text(record.get("_owner")).partition("@")
    made_of = provenance.from_json(record.get("_contributions")) or provenance.of_image(
        image, int(version) if _VERSION.fullmatch(version) else 0, text(record.get("_of")) or None
    )
    return StoredImage(image, owner, made_of)


def removals(before: Record, after: Record) -> dict[str, None]:
    """Return what to add to `after`: Chroma's upsert merges records, and None is how it forgets a name.

    A mark stays: it says something of the vector's place in Chroma.
    """
    return dict.fromkeys(before.keys() - after.keys() - {MARK})


def records_of(ids: Sequence[str], metadatas: Sequence[Record | None] | None) -> list[Record]:
    """Return Chroma's records under their own ids; one without any metadata has nothing else."""
    return [{**(one or {}), "id": image_id} for image_id, one in zip(ids, metadatas or (), strict=True)]


def read_records(chroma: Any, ids: list[str]) -> list[Record]:
    distinct = list(dict.fromkeys(ids))  # Chroma refuses what repeats
    found = chroma.get(ids=distinct, include=["metadatas"])
    return records_of(found["ids"], found["metadatas"])


def _without_forgotten(chroma: Any, records: Sequence[Record]) -> list[Any]:
    """Return `records` with None for each stored name that they lack, since Chroma merges records."""
    stored = {record["id"]: record for record in read_records(chroma, [one["id"] for one in records])}
    return [{**record, **removals(stored.get(record["id"], {}), record)} for record in records]


def write_records(
    chroma: Any,
    records: Sequence[Record],
    documents: list[str],
    vectors: NDArray[np.float32],
    *,
    new: bool = False,
) -> None:
    """Write records and vectors; `new`: nothing is stored under these ids that would have to be forgotten."""
    rows = list(records) if new else _without_forgotten(chroma, records)
    chroma.upsert([one["id"] for one in records], vectors, rows, documents)


def update_records(chroma: Any, records: Sequence[Record], documents: list[str]) -> None:
    rows = _without_forgotten(chroma, records)
    chroma.update([one["id"] for one in records], metadatas=rows, documents=documents)


def add_documents(chroma: Any, limit: int, check: Callable[[], None]) -> int:
    """Write the documents of up to `limit` records that have none; return of how many.

    `check`, which may raise, is called before each write: a record that another process changes meanwhile
    would get the document of its former texts.
    """
    found = chroma.get(where_document=_NO_DOCUMENT, limit=limit, include=["metadatas"])
    lacking = records_of(found["ids"], found["metadatas"])
    documents = documents_of(lacking)
    for call in in_calls(lacking, documents):
        check()
        chroma.update(found["ids"][call], documents=documents[call])
    return len(lacking)


def documents_of(records: Iterable[Record]) -> list[str]:
    return [document_of(from_record(record).metadata) for record in records]


def _survives(value: MetadataValue | None, near: MetadataValue | None) -> bool:
    """Return whether Chroma gives back exactly this value, of which it is given the nearest."""
    return value == near and (not isinstance(value, float) or survives_chroma(value))


def _nearest_storable(value: MetadataValue | None) -> MetadataValue | None:
    """Return the value as Chroma stores and compares it, or nearly; None where there is none."""
    if isinstance(value, str):
        return nfc(value) if is_unicode(value) else None
    if isinstance(value, list):
        return [nfc(one) for one in value] if value and all(map(is_unicode, value)) else None
    if isinstance(value, float):
        return min(max(value, -_MAX_STORABLE), _MAX_STORABLE)
    return value
