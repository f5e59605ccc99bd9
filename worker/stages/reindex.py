"""Reindexing: encoding a collection with another model into a shadow collection, while searches go on.

    fetch    what was kept of each image → crops for the new model
    encode   the new model
    index    the new vectors with the old collection's records → the shadow collection
    finish   one more chunk, at encode: once every API process has the model loaded, what came or changed
             meanwhile, then the alias swap

The images' records are copied as they lie in Chroma, so nothing of them is lost, but for tags and nsfw, which
the new model makes. `finish` compares the two collections rather than trusting that every change was seen:
first while the writer works, then, for what is left, while its lease is held. The vector log is carried over
with the new vectors, tags and nsfw. After a crash the chunk is delivered again and goes on with the shadow
collection.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.embedding import tagging
from shared.embedding.encoder import Encoder
from shared.errors import CollectionNotFound, ItemError, ModelMismatch
from shared.imaging.decode import open_query_image
from shared.imaging.preprocess import Preprocess
from shared.index.collection import Collection
from shared.ledger.writer_lease import writing
from shared.models import Claim, Image, ItemState, JsonObject, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import pack, unpack
from shared.storage.blobs import FILE_KINDS, file_key, log_prefix, scratch_prefix
from shared.storage.manifest import read_items
from shared.tracing.tracing import carried
from worker.encoders import BoundModel
from worker.stages.encode import encode_halving
from worker.stages.index import Arrival, Stored
from worker.stages.transition import Outcome, end_chunk

FEW = 256  # pictures that may be left for when the writer waits
PASSES_SECONDS = 300.0  # of one delivery, well inside a task's time limit
PAGE = 1_000
LOADING_SECONDS = 900.0  # for which a switch waits for an API process that still loads the model,
ASKING_SECONDS = 1.0  # looking so often whether it has
SEARCHES_SECONDS = 5.0  # that have begun in the old collection may take
NOTHING_KEPT = "Nothing was kept of this picture (KEEP=none): ingest it again to have it in the new model."

log = structlog.get_logger(__name__)

Pixels = NDArray[np.uint8]
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Target:
    """The two collections of `name`, old and shadow, and the new model."""

    services: Services
    name: str
    encoder: Encoder
    old: Collection
    new: Collection


def begin(services: Services, claim: Claim) -> None:
    """Run the fetch stage: make crops for the new model of what was kept of each image."""
    items = read_items(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    sources = {i: items[i - claim.first_item].source for i in services.ledger.pending(claim)}
    if refused := services.ledger.get(claim.chunk.job_id).result:  # the model, by an earlier chunk's worker
        fault = ItemError("encode_error", refused["detail"])
        end_chunk(services, claim, [Outcome(i, source, error=fault) for i, source in sources.items()])
        return
    try:
        old = services.index.collection(claim.collection)
        there = services.index.staged(claim.collection, claim.options["fingerprint"]).records(
            [*sources.values()]
        )
        images = old.owners([*sources.values()])
    except (CollectionNotFound, ModelMismatch):
        gone = _gone(services, claim.collection, claim.options["fingerprint"])
        outcomes = [
            Outcome(i, source, error=ItemError("index_error", gone))
            if gone
            else Outcome(i, source, ItemState.INDEXED, image_id=source)
            for i, source in sources.items()
        ]
        end_chunk(services, claim, outcomes)
        return
    # Nothing is left to be done for what is there already, or was deleted since the job was made.
    todo = {i: image_id for i, image_id in sources.items() if image_id in images and image_id not in there}
    model = BoundModel(claim.options["model"], claim.options["fingerprint"])
    preprocess = model.preprocess
    with ThreadPoolExecutor(4, "reindex") as pool:
        crop_of_id = carried(partial(crop_of, services, claim.collection))
        found = pool.map(lambda i: crop_of_id(i, preprocess), todo.values())
        cropped = dict(zip(todo, found, strict=True))
    failed = {i: crop for i, crop in cropped.items() if isinstance(crop, ItemError)}
    crops = {i: crop for i, crop in cropped.items() if not isinstance(crop, ItemError)}
    payload = ""
    if crops:
        payload = f"{scratch_prefix(claim.chunk.job_id)}{claim.chunk.ref.replace(':', '.')}.{claim.token}.npz"
        records = [_addition(claim, i, *images[todo[i]]).record() for i in crops]
        header = {"version": claim.version + claim.first_item, **model.header}
        services.blobs.put(payload, pack(header, records, np.stack(list(crops.values()))))
    outcomes = [Outcome(i, sources[i], error=error) for i, error in failed.items()]
    for i in (one for one in sources if one not in failed):
        state = ItemState.FETCHED if i in crops else ItemState.INDEXED
        outcomes.append(Outcome(i, sources[i], state, image_id=sources[i]))
    stage = Stage.ENCODE if crops else None
    end_chunk(services, claim, outcomes, next_stage=stage, payload=payload)


def _addition(claim: Claim, index: int, owner: str, image: Image) -> vector_log.Addition:
    return vector_log.Addition(index, claim.chunk.attempt + 1, owner, image, claim.version + index)


def crop_of(services: Services, collection: str, image_id: str, preprocess: Preprocess) -> Pixels | ItemError:
    """Return the model's input, from the original if that was kept, else from the rendition."""
    for kind in ("original", "rendition"):
        try:
            data = services.blobs.get(file_key(collection, image_id, kind))
            return open_query_image(data, preprocess, services.settings.max_image_pixels)
        except KeyError:
            continue
        except ItemError as error:
            return error.bare()
    return ItemError("encode_error", NOTHING_KEPT)


def store(services: Services, name: str, arrivals: list[Arrival], check: Callable[[], None]) -> list[Stored]:
    """Run the index stage: write new vectors with the old collection's records to the shadow collection."""
    try:
        old = services.index.collection(name)
        staged = services.index.staged(name, arrivals[0].segment.fingerprint)
        check()
        images = {arrival.addition.image.id: arrival.addition.image for arrival in arrivals}
        vectors = {arrival.addition.image.id: arrival.vector for arrival in arrivals}
        _write(old, staged, images, vectors, check)
    except (CollectionNotFound, ModelMismatch):
        return [_gone(services, name, arrivals[0].segment.fingerprint) or ItemState.INDEXED] * len(arrivals)
    return [ItemState.INDEXED] * len(arrivals)


def finish(services: Services, load: Callable[[], Encoder], claim: Claim) -> None:
    """Handle the chunk beyond the items: wait for the API, catch up, swap, and set the job's result."""
    name, model = claim.collection, BoundModel(claim.options["model"], claim.options["fingerprint"])
    try:
        old = services.index.collection(name)
        if old.pointer.fingerprint == model.fingerprint:
            result = _ended_by_another(services, name, model)
        else:
            new = services.index.staged(name, model.fingerprint)
            _wait_for_apis(services, claim, model)
            result = _finish(Target(services, name, load(), old, new), claim, model)
    except _NotLoaded as fault:
        result = {"switched": False, "detail": str(fault)}
    except _NotNow as wait:  # others are encoded meanwhile
        reason = f"The servers have still to load {model.name}." if wait.delay_s else ""
        services.ledger.release([claim], wait.delay_s, count_delivery=False, waits=True, reason=reason)
        return
    except (CollectionNotFound, ModelMismatch):
        result = _ended_by_another(services, name, model)
    log.info("reindex_finished", collection=name, **result)
    end_chunk(services, claim, [], result=result, complete=bool(result["switched"]))


def _ended_by_another(services: Services, name: str, model: BoundModel) -> dict[str, object]:
    """Return the result where another job, or a process that died before it said so, has ended this one."""
    if gone := _gone(services, name, model.fingerprint):
        return {"switched": False, "detail": f"Not switched: {gone}"}
    with writing(services.ledger.writer, services.dispatcher.wake_writer):
        pass  # whoever switches it is done
    return _switched(services, name, model, missing=0)


def _gone(services: Services, name: str, fingerprint: str) -> str | None:
    """Say why a shadow collection is there no more; None where the collection is of that model by now."""
    bound = next((one for one in services.index.pointers() if one.name == name), None)
    if bound is None:
        return "The collection was deleted meanwhile."
    if bound.fingerprint == fingerprint:
        return None
    return (
        "Another reindex, or a rebuild, of the collection took this one's place, or it was deleted and made "
        f"anew; it is of {bound.model}. Start this one again if it is still wanted."
    )


class _NotNow(Exception):
    """Another delivery has to go on, after some seconds."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(delay_s)
        self.delay_s = delay_s


class _NotLoaded(Exception):
    """An API process cannot load the model; the message is the job's."""


def _finish(target: Target, claim: Claim, model: BoundModel) -> dict[str, object]:
    """Return the job's result. Raises as `_wait_for_apis`, and _NotNow when this delivery's time is over."""
    services, name = target.services, target.name
    until = time.monotonic() + PASSES_SECONDS
    left = f"{scratch_prefix(claim.chunk.job_id)}missing.json"
    missing = set(json.loads(services.blobs.get(left))) if services.blobs.exists(left) else set()
    while len(fresh := _fresh(target) - missing) > FEW:
        for chunk in _chunks(sorted(fresh), services.settings.chunk_size):
            missing |= _encode(target, chunk)
            if time.monotonic() > until:
                services.blobs.put(left, json.dumps(sorted(missing)).encode())
                raise _NotNow(0.0)
    _clear_log(target)
    if not _carry_log(target, whole=False, until=until):
        raise _NotNow(0.0)
    _wait_for_apis(services, claim, model)  # one may have come meanwhile
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        missing = _catch_up(target, missing)
        if missing and not claim.options["allow_missing"]:
            detail = (
                f"Not switched: {len(missing):,} of the pictures cannot be encoded with "
                f"{target.encoder.name}; the failed items say why. Ingest them again, or start "
                "once more with allow_missing to leave them out: what is encoded already stays."
            )
            return {"switched": False, "detail": detail}
        _carry_log(target, whole=True)
        check()
        if not services.ledger.renew([claim]):  # cancelled meanwhile
            return {"switched": False, "detail": "Not switched: the job was cancelled."}
        before = services.index.switch(name, target.new)
        services.index.wait_for_pointers()
        # What a process that had not seen the switch yet still changed in the old collection.
        after = Target(services, name, target.encoder, before, services.index.collection(name))
        _catch_up(after, missing)
        _carry_log(after, whole=True)
    for image_id in missing:
        services.blobs.delete(*(file_key(name, image_id, kind) for kind in FILE_KINDS))
    return _switched(services, name, model, missing=len(missing))


def _switched(services: Services, name: str, model: BoundModel, *, missing: int) -> dict[str, object]:
    """Delete the old collection and its log after the swap: the new model's log has everything.

    What another reindex has begun meanwhile, perhaps back to the former model, stays.
    """
    time.sleep(SEARCHES_SECONDS)
    services.index.unstage(name, model.fingerprint)
    in_use = services.index.fingerprints(name)
    for fingerprint in services.blobs.folders(log_prefix(name)):
        if fingerprint not in in_use:
            services.blobs.delete_prefix(f"{log_prefix(name)}{fingerprint}/")
    left_out = f" Pictures left out: {missing:,}." if missing else ""
    detail = f"Switched to {model.name}.{left_out}"
    return {"switched": True, "detail": detail}


def _wait_for_apis(services: Services, claim: Claim, model: BoundModel) -> None:
    """Announce the model, until the job ends, to the API processes, and return once all have loaded it.

    Raises _NotNow while one has not, until it was announced for LOADING_SECONDS, and _NotLoaded, where one
    cannot: at once what will not pass, else after that time.
    """
    models, fingerprint = services.ledger.models, model.fingerprint
    announced_s = models.announce(claim.chunk.job_id, model.name, fingerprint)
    apis = models.apis()
    in_time = announced_s < LOADING_SECONDS
    failures = [api.failed[fingerprint] for api in apis if fingerprint in api.failed]
    if lasting := [one for one in failures if not (one.passing and in_time)]:
        raise _NotLoaded(f"Not switched: an API process cannot load {model.name}. {lasting[0].detail}")
    if not all(fingerprint in api.loaded for api in apis):
        if in_time:
            raise _NotNow(ASKING_SECONDS)
        log.warning("switching_before_all_have_loaded", collection=claim.collection, model=model.name)


def _fresh(target: Target) -> set[str]:
    return set(target.old.ids()) - set(target.new.ids())


def _catch_up(target: Target, missing: set[str]) -> set[str]:
    """Make the shadow the same as the old collection but for vectors; return ids that cannot be encoded."""
    here, there = set(target.old.ids()), set(target.new.ids())
    missing = missing & here
    for chunk in _chunks(sorted(here - there - missing), target.services.settings.chunk_size):
        missing |= _encode(target, chunk)
    target.new.delete(sorted(there - here))
    for page in _chunks(sorted(here & there), PAGE):
        target.old.copy_changes(target.new, page)
    return missing


def _encode(target: Target, ids: Sequence[str]) -> set[str]:
    """Encode images into the shadow collection; return the ids of those that cannot be encoded."""
    services, encoder = target.services, target.encoder
    outcomes = {i: crop_of(services, target.name, i, encoder.preprocess) for i in ids}
    crops = {i: outcome for i, outcome in outcomes.items() if not isinstance(outcome, ItemError)}
    rows = encode_halving(encoder.encode_images, np.stack(list(crops.values()))) if crops else []
    vectors = {i: row for i, row in zip(crops, rows, strict=True) if not isinstance(row, ItemError)}
    known = [image for _, image in target.old.owners([*vectors]).values()]
    if known:
        found = tagging.describe(encoder, services.settings, known, np.stack([vectors[i.id] for i in known]))
        _write(target.old, target.new, {image.id: image for image in found}, vectors)
    return set(ids) - vectors.keys()


def _write(
    old: Collection,
    new: Collection,
    images: Mapping[str, Image],
    vectors: Mapping[str, Vector],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write records of `old` with new vectors, and with what the new model said of `images`, to `new`."""
    copied = old.copy_records(new, vectors, images)
    new.mark_new_strays({image_id: vectors[image_id] for image_id in copied}, check)


def _carry_log(target: Target, *, whole: bool, until: float = float("inf")) -> bool:
    """Rewrite the old model's log as the new one's, with its vectors, tags and nsfw and the same records.

    Segments that were carried before are left. Without `whole` those with images that are still to be encoded
    wait; with it their additions are left out. Returns False when the time was over before the end.
    """
    blobs, new = target.services.blobs, target.new
    source, aim = _log_of(target, target.old), _log_of(target, new)
    there = set(blobs.list(aim))
    for key in blobs.list(source):
        carried = aim + key.removeprefix(source)
        if carried in there:
            continue
        header, records, _ = unpack(blobs.get(key))
        ids = [record["image"]["id"] for record in records if record["op"] == "add"]
        images = {one: image for one, (_, image) in new.owners(ids).items()}
        vectors = new.vectors([*images]) if images else {}
        if not whole and not vectors.keys() >= set(ids):
            continue
        blobs.put(carried, _of_new_model(target.encoder, header, records, images, vectors))
        if time.monotonic() > until:
            return False
    return True


def _clear_log(target: Target) -> None:
    """Delete, before the swap, what the encode stage left for the writer, in jobs given up too."""
    source, aim = _log_of(target, target.old), _log_of(target, target.new)
    carried = {aim + key.removeprefix(source) for key in target.services.blobs.list(source)}
    target.services.blobs.delete(*set(target.services.blobs.list(aim)).difference(carried))


def _log_of(target: Target, collection: Collection) -> str:
    return f"{log_prefix(target.name)}{collection.pointer.fingerprint}/"


def _of_new_model(
    encoder: Encoder,
    header: JsonObject,
    records: list[JsonObject],
    images: Mapping[str, Image],
    vectors: Mapping[str, Vector],
) -> bytes:
    left = [one for one in records if one["op"] != "add" or one["image"]["id"] in vectors]
    for one in left:
        if one["op"] == "add":
            image = images[one["image"]["id"]]
            one["image"] |= {"tags": image.tags, "nsfw": image.nsfw}
    none = np.zeros(encoder.dimension, np.float32)
    rows = [vectors[one["image"]["id"]] if one["op"] == "add" else none for one in left]
    model = {"model": header["model"] and encoder.name, "fingerprint": encoder.fingerprint}
    array = np.stack(rows) if vectors else np.empty((0, 0), np.float32)
    return vector_log.packed_records(header | model, left, array)


def _chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, size)):
        yield chunk
