"""A write batch: the images and keys that some changes touch are loaded, changed here, and written back.

Only the holder of the index writer's lease may do so. After a crash in the middle of `save` the same changes,
made once more, complete it: keys are written first and name every image that may still claim them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.errors import CollectionNotFound, IndexRefused, Unavailable
from shared.index.collection import Collection
from shared.index.provenance import (
    MAX_JOBS,
    Contribution,
    KeyRecord,
    StoredImage,
    assembled,
    excess,
    of_image,
    run_of,
    sound_change,
    with_contributions,
)
from shared.models import Image, ItemState, JsonObject, Metadata, MetadataValue
from shared.storage.vector_log import Addition
from shared.validation import json_bytes, nfc

Vector = NDArray[np.float32]
Outcome = ItemState | str  # a string says why the index refused the item

_NO_VECTOR: Vector = np.empty(0, np.float32)

log = structlog.get_logger(__name__)


class WriteBatch:
    """Some images and keys of a collection, to be changed and saved together.

    An image to be added or replaced must be among `ids` and its key among `keys`. `removals` are the versions
    at which images were removed, and those of sources' latest runs (`run_of`), before which all of the runs
    before have ended: older additions are skipped. Changes may come in any order, and twice; but those of
    metadata are lost with the image.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        ids: Iterable[str] = (),
        keys: Iterable[str] = (),
        removals: Mapping[str, int] | None = None,
    ) -> None:
        self._collection = collection
        self._removals = removals or {}
        self._loaded_keys: dict[str, KeyRecord] = {}
        self._loaded: dict[str, StoredImage] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._images: dict[str, StoredImage] = {}
        self._vectors: dict[str, Vector] = {}
        self._lost_to: dict[str, set[str]] = {}
        self._load(ids, keys)

    def _load(self, ids: Iterable[str], keys: Iterable[str]) -> None:
        new_keys = {key: nfc(key) for key in keys if nfc(key) not in self._keys}
        records = self._collection.key_records(list(new_keys)) if new_keys else {}
        touched = [*ids, *(one for record in records.values() for one in record.candidates)]
        images = self._collection.stored([one for one in dict.fromkeys(touched) if one not in self._loaded])
        self._loaded_keys |= records
        self._loaded |= images
        self._keys |= {key: records.get(key) or KeyRecord(key) for key in new_keys.values()}
        self._images |= images

    @property
    def images(self) -> Mapping[str, StoredImage]:
        """Return, by id, the images that were loaded and are left, and those that were added."""
        return self._images

    @property
    def keys(self) -> Mapping[str, KeyRecord]:
        return self._keys

    def stored(self, image_id: str) -> StoredImage | None:
        return self._images.get(image_id)

    def is_late(self, image_id: str, version: int, of: str | None = None) -> bool:
        """Return whether an addition is older than a removal, or than the latest run of its source `of`."""
        return self._is_removed(image_id, version) or self._is_overtaken(version, of)

    def _is_removed(self, image_id: str, version: int) -> bool:
        return self._removals.get(image_id, 0) > version

    def _is_overtaken(self, version: int, of: str | None) -> bool:
        return of is not None and self._removals.get(run_of(of), 0) > version

    def add(
        self,
        image: Image,
        owner: str,
        version: int,
        vector: Vector,
        *,
        of: str | None = None,
        replaces: Sequence[str] = (),
    ) -> Outcome:
        """Add one item's image, under its keys, and return the item's outcome.

        That of an entry of the source `of` is withdrawn from the images that it `replaces`.

        The first item to bring an image owns it, and is `indexed` however often it is delivered; every other
        item is a `duplicate` that adds its source, key and metadata. What is older than what its key points
        at, or than a removal, changes nothing; nor does what would make too much of the image.
        """
        items = of_image(image, version, of)
        before = self._images.get(image.id)
        outcome = ItemState.INDEXED if before is None or before.owner == owner else ItemState.DUPLICATE
        if self._is_overtaken(version, of):  # all that it brought has been brought, and may be gone since
            return outcome
        after = None if self._is_removed(image.id, version) else _with(before, image, owner, items)
        if after is not None and (fault := excess(before, after)):
            return fault
        if after is None or image.keys:
            self._take(image, owner, items, vector)
        else:
            self._images[image.id], self._vectors[image.id] = after, vector
        self._leave(replaces, image.id, items[0])
        return outcome

    def _take(self, image: Image, owner: str, items: Sequence[Contribution], vector: Vector) -> None:
        version = items[0].version
        if self._is_removed(image.id, version):
            for key in image.keys:  # what it pointed at before was replaced all the same
                self.remove_key(key, version)
            return
        lost = {key for key in image.keys if not self._point(key, image.id, version)}
        new = [one for one in items if one.key is None or one.key not in lost]
        if new:
            before = self._images.get(image.id)  # without what its keys said before they pointed elsewhere
            self._images[image.id] = _with(before, image, owner, new)
            self._vectors[image.id] = vector

    def _leave(self, replaced: Sequence[str], image_id: str, item: Contribution) -> None:
        """Withdraw the entry of a source from the images that it has had before this one."""
        of, entry = item.entry
        for other in replaced:
            if of and other != image_id and self.withdraw(other, of, entry, item.version):
                self._lost_to.setdefault(other, set()).add(image_id)

    def change(self, image_id: str, version: int, metadata: Mapping[str, MetadataValue | None]) -> Metadata:
        """Merge `metadata`, where None removes a name; return the image's. Raises KeyError without it."""
        before = self._images[image_id]
        change = Contribution(version, metadata=dict(metadata))
        self._put(before.image, before.owner, before.contributions, change)
        return self._images[image_id].image.metadata

    def change_within_limits(
        self, image_id: str, version: int, metadata: Mapping[str, MetadataValue | None]
    ) -> str | None:
        """Merge `metadata` as `change` does, unless that makes too much of the image: return what then is."""
        before = self._images[image_id]
        self.change(image_id, version, metadata)
        if fault := excess(before, self._images[image_id]):
            self._images[image_id] = before
        return fault

    def load_keys(self) -> None:
        """Load the keys of all images at once, which `remove` else does one by one."""
        self._load((), [key for one in self._images.values() for key in one.image.keys])

    def holder(self, key: str) -> str | None:
        """Return the id of the image that a loaded key points at."""
        key = nfc(key)
        claims = [
            (max(versions), image_id)
            for image_id in self._keys[key].candidates
            if (versions := self._versions(self._images, image_id, key))
        ]
        return max(claims)[1] if claims else None

    def remove(self, image_id: str, version: int) -> bool:
        """Take away what was said of an image up to `version`; return whether it was there."""
        before = self._images.get(image_id)
        if before is None:
            return False
        gone = [
            (one.key, one.version)
            for one in before.contributions
            if one.key is not None and one.version <= version
        ]
        self._load((), (key for key, _ in gone))
        for key, until in gone:
            self._raise_floor(key, until)
        self._put(before.image, before.owner, [one for one in before.contributions if one.version > version])
        return True

    def withdraw(self, image_id: str, of: str, entry: str, version: int) -> bool:
        """Take away what the source `of` said of an image by one of its entries up to `version`.

        Returns whether there was something. The image goes unless an item is left, and the entry's key points
        at it no longer unless an item with that key is.
        """
        before = self._images.get(image_id)
        made_of = before.contributions if before else ()
        gone = [one for one in made_of if one.entry == (of, entry) and one.version <= version]
        if before is None or not gone:
            return False
        keyed = {one.key: one.version for one in gone if one.key is not None}
        self._load((), keyed)
        self._keys |= {key: self._keys[key].held_by(image_id, until) for key, until in keyed.items()}
        self._put(before.image, before.owner, [one for one in made_of if one not in gone])
        return True

    def remove_key(self, key: str, version: int) -> bool:
        """Take away what the key said of any image up to `version`; return whether there was something."""
        key = nfc(key)
        self._raise_floor(key, version)
        pruned = [self._prune(image_id, key) for image_id in self._keys[key].candidates]
        return any(pruned)

    def apply(self, record: JsonObject) -> None:
        """Apply a record of the vector log, loading what it touches; such a batch must not be saved.

        Records go in the order of their segments' names, which is that of their versions but for items of one
        job, whose order does not matter. Raises ValueError for an `op` that is not known.
        """
        version: int = record["version"]
        match record["op"]:
            case "add":
                addition = Addition.from_record(record)
                image, items = addition.image, of_image(addition.image, version, addition.of)
                self._load([image.id, *addition.replaces], image.keys)
                self._take(image, addition.owner, items, _NO_VECTOR)
                self._leave(addition.replaces, image.id, items[0])
            case "delete":
                self._load([record["id"]], ())
                self.remove(record["id"], version)
            case "delete_key":
                self._load((), [record["key"]])
                self.remove_key(record["key"], version)
            case "withdraw":
                self._load([record["id"]], ())
                self.withdraw(record["id"], record["of"], record["entry"], version)
            case "patch":
                self._load([record["id"]], ())
                if record["id"] in self._images:  # else replaced by an item that was delivered later
                    self.change(record["id"], version, sound_change(record["metadata"]))
            case op:
                raise ValueError(f"The vector log has a record {op!r}, which a later version wrote.")

    def save(self, check: Callable[[], None]) -> tuple[dict[str, str], list[str]]:
        """Write what has changed, calling `check`, which may raise, before each write.

        Returns what Chroma refused, id -> why, and the ids of the images that are gone.
        """
        keys = [one for key, one in self._keys.items() if self._loaded_keys.get(key, KeyRecord(key)) != one]
        if keys:
            check()
            self._collection.write_keys(keys)
        fresh = [one for image_id, one in self._images.items() if image_id not in self._loaded]
        refused = self._isolating(self._insert, fresh, check)
        inserted = (one.image.id for one in fresh if one.image.id not in refused)
        self._collection.mark_new_strays({one: self._vectors[one] for one in inserted}, check)
        changed = [
            one
            for image_id, one in self._images.items()
            if self._loaded.get(image_id, one) != one and not self._keeps(image_id, refused)
        ]
        refused |= self._isolating(self._collection.update, changed, check)
        gone = [
            image_id
            for image_id in self._loaded
            if image_id not in self._images and not self._keeps(image_id, refused)
        ]
        if gone:
            check()
            self._collection.delete(gone)
        return refused, gone

    def _insert(self, images: Sequence[StoredImage]) -> None:
        self._collection.upsert(
            [one.image for one in images],
            np.stack([self._vectors[one.image.id] for one in images]),
            [one.owner for one in images],
            [one.contributions for one in images],
            new=True,
        )

    def _isolating(
        self,
        write: Callable[[Sequence[StoredImage]], None],
        images: Sequence[StoredImage],
        check: Callable[[], None],
    ) -> dict[str, str]:
        """Write `images`; find those that Chroma refuses by halving. Return id -> why.

        What looks like a refusal is an outage when another record of that size cannot be written either.
        """
        if not images:
            return {}
        check()
        try:
            write(images)
        except Exception as error:
            if isinstance(error, Unavailable | CollectionNotFound) and not isinstance(error, IndexRefused):
                raise
            if len(images) == 1:
                return self._refused(images[0], error)
        else:
            return {}
        middle = len(images) // 2
        first = self._isolating(write, images[:middle], check)
        return first | self._isolating(write, images[middle:], check)

    def _refused(self, stored: StoredImage, error: Exception) -> dict[str, str]:
        if isinstance(error, IndexRefused):
            self._collection.prove_writable(0 if error.size else json_bytes(asdict(stored)))
        log.error("row_refused", image_id=stored.image.id, exc_info=error)
        return {stored.image.id: "The index refused this picture's record; the worker's log says why."}

    def _keeps(self, image_id: str, refused: Mapping[str, str]) -> bool:
        """Return whether an image lost a key to one that could not be written, and so stays as it was."""
        return bool(self._lost_to.get(image_id, set()) & refused.keys())

    def _raise_floor(self, key: str, version: int) -> None:
        record = self._keys[key]
        self._keys[key] = replace(record, floor=max(record.floor, version))

    def _point(self, key: str, image_id: str, version: int) -> bool:
        """Point the key at an image; return False if it has pointed elsewhere, or was deleted, since."""
        record = self._keys[key]
        if version <= record.floor:
            for other in record.candidates:  # a writer that raised it may have died before it got to them
                self._prune(other, key)
            return False
        others = {
            other: max(versions)
            for other in record.candidates
            if other != image_id and (versions := self._versions(self._images, other, key))
        }
        if record.held and record.image_id != image_id:
            others[record.image_id] = max(record.held, others.get(record.image_id, 0))
        latest = max(others.values(), default=0)
        wins = version > latest
        holder = image_id if wins else max(others, key=lambda other: others[other])
        claiming = [one for one in record.candidates if self._versions(self._loaded, one, key)]
        before = tuple(dict.fromkeys(one for one in claiming if one != holder))
        floor = max(record.floor, latest if wins else version)
        held = record.held if holder == record.image_id else 0
        self._keys[key] = KeyRecord(key, floor, holder, before, held)
        for other in dict.fromkeys([*record.candidates, image_id]):
            if self._prune(other, key) and other != holder:
                self._lost_to.setdefault(other, set()).add(holder)
        return wins

    @staticmethod
    def _versions(images: Mapping[str, StoredImage], image_id: str, key: str) -> list[int]:
        stored = images.get(image_id)
        return stored.key_versions(key) if stored else []

    def _prune(self, image_id: str, key: str) -> bool:
        """Take away what is at or under the key's floor; return whether there was something."""
        stored, floor = self._images.get(image_id), self._keys[key].floor
        if stored is None:
            return False
        left = [one for one in stored.contributions if one.key != key or one.version > floor]
        if len(left) == len(stored.contributions):
            return False
        self._put(stored.image, stored.owner, left)
        return True

    def _put(self, image: Image, owner: str, made_of: Sequence[Contribution], *new: Contribution) -> None:
        whole = with_contributions(made_of, new)
        result = assembled(image, whole)
        if result is None:
            self._images.pop(image.id, None)
        else:
            self._images[image.id] = StoredImage(result, owner, whole)


def _with(before: StoredImage | None, image: Image, owner: str, items: Iterable[Contribution]) -> StoredImage:
    """Return the image, new or as it was `before`, with what these items say of it."""
    made_of = before.contributions if before else ()
    whole = with_contributions(made_of, items)
    result = assembled(before.image if before else image, whole)
    assert result is not None  # noqa: S101 - items have sources
    brought = dict.fromkeys([*result.jobs, *(image.jobs or [owner.partition(":")[0]])])
    result = replace(result, jobs=list(brought)[-MAX_JOBS:])
    return StoredImage(result, before.owner if before else owner, whole)
