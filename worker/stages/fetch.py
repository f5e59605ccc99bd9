"""The fetch stage: download or read, decode, keep the renditions, hand model-size crops to encode.

What the collection has already (known.py) is not decoded; a chunk of nothing else goes straight to index. In
a job with `since` (since.py) what has not changed is not downloaded, and ends here if nothing is said of it.
"""

import hashlib
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.download.downloader import Download
from shared.download.host_headers import HostHeaders
from shared.download.host_limits import HostLimits
from shared.download.validators import Validators
from shared.errors import HostBusy, ItemError, Unavailable
from shared.imaging.decode import DecodedImage, decode
from shared.imaging.isolation import run_isolated
from shared.index.provenance import StoredImage
from shared.metrics.definitions import DECODE_SECONDS, DOWNLOAD_BYTES, DOWNLOAD_SECONDS, LEASES_LOST, RETRIES
from shared.models import Claim, Image, Item, ItemState, JsonObject, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import KNOWN, pack
from shared.storage.blobs import file_key, scratch_prefix
from shared.storage.manifest import read_items
from shared.storage.validators import Earlier, write_validators
from shared.tracing.tracing import carried
from worker.encoders import BoundModel
from worker.listings.entries import is_web
from worker.listings.objects import read_object
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages.known import Known, KnownImages
from worker.stages.since import adds_nothing, earlier_of, says_the_same
from worker.stages.transition import Outcome, end_chunk

MAX_ATTEMPTS = 4
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_HOLD_SECONDS = 10.0
DECODE_TIMEOUT_SECONDS = 30  # of a suspect; the slowest sound picture takes a few seconds

log = structlog.get_logger(__name__)

_isolated = threading.Lock()


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image on its way to encode: `pixels` is uint8 (height, width, 3), the model's input size."""

    image: Image
    pixels: NDArray[np.uint8]
    validators: Validators | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """An image that the collection has, as this item brings it, and its `vector` (dimension,).

    `unchanged` where it was not even downloaded. Of an entry of a source, `updates` where the source said
    something else of it before, or nothing.
    """

    image: Image
    vector: NDArray[np.float32]
    validators: Validators | None = None
    unchanged: bool = False
    updates: bool = False


@dataclass(frozen=True, slots=True)
class Unchanged:
    """An image that was not downloaded, of which the item says nothing that the collection does not have."""

    image_id: str
    validators: Validators | None


Attempt = Fetched | Recognised | Unchanged | ItemError | HostBusy
Reader = Callable[[bytes], DecodedImage]
Downloads = Callable[..., Download]


def run(
    services: Services,
    model: BoundModel,
    claim: Claim,
    lost: threading.Event | None = None,
    headers: HostHeaders | None = None,
) -> None:
    """Fetch the pending items of a claimed chunk for a model and advance it.

    `lost` is set when the claim is no longer held, as when its job is cancelled: then nothing comes of it.
    """
    if claim.deliveries > 1:  # the one before may have found other pictures, and been killed
        vector_log.forget(services.blobs, claim)
    indices = services.ledger.pending(claim)
    span = (claim.chunk.job_id, claim.first_item, claim.last_item)
    items = dict(enumerate(read_items(services.blobs, *span), claim.first_item)) if indices else {}
    waiting = len(indices)
    indices = [i for i in indices if not items[i].withdraws]
    most, keep = services.settings.max_image_pixels, services.settings.keep
    reader: Reader = partial(decode, preprocess=model.preprocess, max_pixels=most, keep=keep)
    if claim.deliveries >= SUSPICIOUS_DELIVERIES:
        log.warning("decoding_in_isolation", chunk=claim.chunk.ref, items=len(indices))
        reader = partial(_decode_alone, reader)
    limits = HostLimits(services.ledger.hosts, services.settings.host_rate)
    download = partial(services.downloader.download, limits=limits, called_off=lost, headers=headers)
    # The last try asks without conditions: some hosts break on them.
    earlier = earlier_of(services, claim, lost) if indices and _tries(claim) < MAX_ATTEMPTS else {}
    known = KnownImages(services, claim.collection, model)
    known.expect([earlier[i].image_id for i in indices if i in earlier])
    fetch = carried(partial(fetch_item, services, reader, download, known))
    with ThreadPoolExecutor(services.settings.fetch_concurrency, "fetch") as pool:
        attempts = pool.map(lambda i: fetch(items[i], earlier=earlier.get(i)), indices)
        found = dict(zip(indices, attempts, strict=True))
    if lost is None or not lost.is_set():
        _end(services, claim, model, items, found, others=waiting - len(indices))
    else:
        LEASES_LOST.labels(claim.stage).inc()


def _decode_alone(reader: Reader, data: bytes) -> DecodedImage:
    """Decode one file at a time in a throwaway process, so that one that kills it fails alone."""
    with _isolated:
        decoded: DecodedImage = run_isolated(reader, data, timeout_s=DECODE_TIMEOUT_SECONDS)
        return decoded


def fetch_item(
    services: Services,
    reader: Reader,
    download: Downloads,
    known: KnownImages,
    item: Item,
    *,
    earlier: Earlier | None = None,
) -> Attempt:
    """Fetch one image and keep its thumbnail and rendition; return its own errors, raise all others.

    `earlier` is what the item's URL brought in an earlier job: it counts while the collection has that.
    """
    try:
        before = known.record(earlier.image_id) if earlier else None
        got = _bytes_of(services, download, item, earlier.validators if earlier and before else None)
        if earlier and before and _is_same(item, earlier, got):
            if (unchanged := _unchanged(known, item, earlier, before, got.validators)) is not None:
                return unchanged
            if got.content is None:  # deleted since it was looked for
                got = _bytes_of(services, download, item, None)
        data = got.content
        assert data is not None  # noqa: S101 - there was no condition
        image_id = hashlib.sha256(data).hexdigest()
        if (found := known.of(image_id)) is not None:
            return _recognised(found, item, got.validators)
        with known.decoding(), DECODE_SECONDS.time():
            decoded = reader(data)
    except (ItemError, HostBusy) as error:
        return error.bare()
    except Unavailable:
        raise
    except MemoryError:
        return ItemError("too_many_pixels", "The picture does not fit into the worker's memory.")
    except Exception:
        log.exception("item_failed", source=item.source)
        return ItemError("internal", "The picture could not be processed; the worker's log says why.")
    _keep(services, known.collection, image_id, decoded, data)
    return Fetched(_image(image_id, item, decoded, len(data)), decoded.pixels, got.validators)


def _bytes_of(services: Services, download: Downloads, item: Item, validators: Validators | None) -> Download:
    if item.error is not None:
        code, _, detail = item.error.partition(": ")
        raise ItemError(code, detail)
    if item.upload is None:
        return _downloaded(services, download, item, validators)
    try:
        return Download(services.blobs.get(item.upload))
    except KeyError:
        raise ItemError("internal", "The uploaded file has expired; upload it again.") from None


def _downloaded(
    services: Services, download: Downloads, item: Item, validators: Validators | None
) -> Download:
    """Download a picture. It does not count where its host, being busy, was not asked."""
    url, started = item.url or "", time.monotonic()
    try:
        if item.of and url and not is_web(url):
            got = Download(read_object(services, url))
        else:
            got = download(url, known=validators)
    except ItemError:
        DOWNLOAD_SECONDS.observe(time.monotonic() - started)
        raise
    DOWNLOAD_SECONDS.observe(time.monotonic() - started)
    DOWNLOAD_BYTES.inc(len(got.content or b""))
    return got


def _keep(services: Services, collection: str, image_id: str, decoded: DecodedImage, data: bytes) -> None:
    services.blobs.put(file_key(collection, image_id, "thumbnail"), decoded.thumbnail)
    if decoded.rendition is not None:
        services.blobs.put(file_key(collection, image_id, "rendition"), decoded.rendition)
    if services.settings.keep == "original":
        services.blobs.put(file_key(collection, image_id, "original"), data)


def _image(image_id: str, item: Item, decoded: DecodedImage, size: int) -> Image:
    return Image(
        id=image_id,
        source=item.source,
        sources=[item.source],
        format=decoded.format,
        width=decoded.width,
        height=decoded.height,
        bytes=size,
        created_at=time.time(),
        taken_at=decoded.taken_at,
        lat=decoded.lat,
        lon=decoded.lon,
        colors=decoded.colors,
        phash=decoded.phash,
        metadata=item.metadata,
        keys=[] if item.key is None else [item.key],
    )


def _is_same(item: Item, earlier: Earlier, got: Download) -> bool:
    """Return whether a picture is the earlier one: by its bytes only for an entry of a source."""
    if got.content is None:
        return True
    return item.of is not None and hashlib.sha256(got.content).hexdigest() == earlier.image_id


def _unchanged(
    known: KnownImages, item: Item, earlier: Earlier, before: StoredImage, validators: Validators | None
) -> Unchanged | Recognised | None:
    if adds_nothing(item, before, earlier):
        return Unchanged(earlier.image_id, validators)
    found = known.of(earlier.image_id)
    if found is None:
        return None
    return _recognised(found, item, validators, unchanged=True)


def _recognised(
    known: Known, item: Item, validators: Validators | None, *, unchanged: bool = False
) -> Recognised:
    brought = replace(
        known.stored.image,
        source=item.source,
        sources=[item.source],
        created_at=time.time(),
        metadata=item.metadata,
        keys=[] if item.key is None else [item.key],
        jobs=[],
    )
    updates = item.of is not None and not says_the_same(item, known.stored)
    return Recognised(brought, known.vector, validators, unchanged, updates)


def _end(
    services: Services,
    claim: Claim,
    model: BoundModel,
    items: dict[int, Item],
    found: dict[int, Attempt],
    *,
    others: int,
) -> None:
    """End a claim; what it had `others` to do, removals, comes with the chunk's next attempt."""
    tries = _tries(claim)
    fetched = {i: one for i, one in found.items() if isinstance(one, Fetched)}
    recognised = {i: one for i, one in found.items() if isinstance(one, Recognised)}
    errors = {i: one for i, one in found.items() if isinstance(one, ItemError)}
    again = {i: error for i, error in errors.items() if _worth_retrying(error, tries)}
    busy = [one.wait_s for one in found.values() if isinstance(one, HostBusy)]
    delays = busy + [_retry_delay(error, tries) for error in again.values()]
    outcomes = [
        Outcome(i, items[i].source, ItemState.FETCHED, image_id=one.image.id)
        for i, one in (fetched | recognised).items()
    ]
    outcomes += [
        Outcome(i, items[i].source, ItemState.UNCHANGED, image_id=one.image_id)
        for i, one in found.items()
        if isinstance(one, Unchanged)
    ]
    outcomes += [Outcome(i, items[i].source, error=error) for i, error in errors.items() if i not in again]
    write_validators(services.blobs, claim.chunk, claim.token, _validators(items, found))
    known = _segment(claim, model, items, recognised) if recognised else None
    stage, payload = None, ""
    if fetched:
        header = {"version": claim.version + min(fetched), **model.header}
        if known is not None:  # encode writes it into one segment with the others
            header["known"] = b64encode(vector_log.packed(known)).decode()
        additions = _additions(claim, items, fetched)
        stage, payload = Stage.ENCODE, _write_scratch(services, claim, header, fetched.values(), additions)
    elif known is not None:
        name = vector_log.name_of(claim)
        stage, payload = Stage.INDEX, vector_log.write_segment(services.blobs, claim.collection, name, known)
    moved = end_chunk(
        services,
        claim,
        outcomes,
        next_stage=stage,
        payload=payload,
        retry_delay_s=max(delays, default=0.0 if others else None),
        waiting=(len(again), tries + 1, MAX_ATTEMPTS) if again else None,
        hold_s=min(max(busy, default=0.0), MAX_HOLD_SECONDS),
    )
    for error in again.values() if moved else ():
        RETRIES.labels(error.code).inc()


def _tries(claim: Claim) -> int:
    return claim.chunk.attempt + 1 - claim.postponed


def _validators(items: dict[int, Item], found: dict[int, Attempt]) -> dict[str, Earlier]:
    """Return what to ask for the URLs with in a later job."""
    said: dict[str, Earlier] = {}
    for i, one in found.items():
        if isinstance(one, Fetched | Recognised | Unchanged) and one.validators and (url := items[i].url):
            image_id = one.image_id if isinstance(one, Unchanged) else one.image.id
            said[url] = Earlier(image_id, one.validators)
    return said


def _segment(
    claim: Claim, model: BoundModel, items: dict[int, Item], recognised: dict[int, Recognised]
) -> vector_log.Segment:
    additions = _additions(claim, items, recognised)
    vectors = np.stack([one.vector for one in recognised.values()])
    return vector_log.Segment(additions[0].version, model.name, model.fingerprint, additions, vectors)


def _write_scratch(
    services: Services,
    claim: Claim,
    header: JsonObject,
    fetched: Iterable[Fetched],
    additions: Iterable[vector_log.Addition],
) -> str:
    chunk = claim.chunk
    name = f"{chunk.number}.{chunk.generation}.{chunk.attempt}.{claim.token}.npz"
    key = scratch_prefix(chunk.job_id) + name
    records = [addition.record() for addition in additions]
    pixels = np.stack([one.pixels for one in fetched])
    needs = max(vector_log.format_of(records), KNOWN if "known" in header else 0)
    services.blobs.put(key, pack(header, records, pixels, needs=needs))
    return key


def _additions(
    claim: Claim, items: dict[int, Item], outcomes: Mapping[int, Fetched | Recognised]
) -> list[vector_log.Addition]:
    return [_addition(claim, i, items[i], one) for i, one in outcomes.items()]


def _addition(claim: Claim, index: int, item: Item, one: Fetched | Recognised) -> vector_log.Addition:
    again = one.image.id in item.before
    return vector_log.Addition(
        index,
        claim.chunk.attempt + 1,
        f"{claim.chunk.job_id}:{index}",
        one.image,
        claim.version + index,
        item.skip_near,
        known=isinstance(one, Recognised),
        unchanged=again or (isinstance(one, Recognised) and one.unchanged),
        of=item.of,
        replaces=tuple(image_id for image_id in item.before if image_id != one.image.id),
        updates=isinstance(one, Recognised) and one.updates,
    )


def _worth_retrying(error: ItemError, attempts: int) -> bool:
    soon = (error.retry_after_s or 0) <= MAX_RETRY_AFTER_SECONDS
    return error.transient and attempts < MAX_ATTEMPTS and soon


def _retry_delay(error: ItemError, attempts: int) -> float:
    """Return seconds: 1, 3, 9 and up to half as much jitter, or what the server asked for if longer."""
    backoff = 3.0 ** (attempts - 1) * random.uniform(1.0, 1.5)  # noqa: S311 - jitter
    return max(backoff, error.retry_after_s or 0.0)
