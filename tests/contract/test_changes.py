"""Jobs that delete and update, with the real parts: what the vector log says of them is what there is."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.index.index import Index
from shared.ledger.ledger import Ledger
from shared.models import Item, JobKind, JobStatus, MetadataValue, Stage
from shared.services import Services
from shared.storage.blobs import change_key, file_key
from shared.storage.manifest import ManifestWriter
from tests.contract.test_keys import image, image_id, make_job, make_services, rebuild, to_index
from tests.unit.stages import drain
from worker.recovery.rebuild import verify
from worker.stages import changes


def change_job(
    services: Services,
    job_id: str,
    items: Sequence[Item],
    metadata: dict[str, MetadataValue | None] | None = None,
    chunk_size: int = 2,
) -> None:
    """A job of these items, as the API makes it: a deletion, or an update by `metadata`."""
    writer = ManifestWriter(services.blobs, job_id)
    for item in items:
        writer.add(item)
    writer.flush()
    if metadata is not None:
        services.blobs.put(change_key(job_id), json.dumps(metadata).encode())
    kind = JobKind.DELETE if metadata is None else JobKind.UPDATE
    services.ledger.workers.heartbeat(
        "test", "test", [Stage.FETCH], 10
    )  # so that all chunks are sent at once
    services.ledger.create(
        job_id, collection="images", total=len(items), chunk_size=chunk_size, kind=kind, options={}
    )


def hand_on(services: Services) -> None:
    for chunk in services.ledger.dispatch():
        claim = services.ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        changes.begin(services, claim)


def named(*numbers: int) -> list[Item]:
    return [Item(source=image_id(number)) for number in numbers]


def under(*keys: str) -> list[Item]:
    return [Item(source=key, key=key) for key in keys]


def test_the_vector_log_says_all_that_changes_in_bulk_have_left(
    tmp_path: Path, index: Index, ledger: Ledger
) -> None:
    services = make_services(tmp_path, index, ledger)
    make_job(services, "first", 6)
    to_index(
        services,
        ledger.dispatch()[0],
        [image(1, "k", n=1), image(2, "l", n=2), image(3), image(4, "m", n=4), image(5, n=5), image(6, "o")],
    )
    drain(services)
    for number in range(1, 7):
        services.blobs.put(file_key("images", image_id(number), "thumbnail"), b"webp")
    change_job(services, "update", [*under("k", "nonesuch", "m"), *named(3, 5)], {"n": None, "shop": "x"})
    hand_on(services)
    drain(services)
    change_job(services, "delete", [*named(1, 9), *under("l", "none")])
    make_job(services, "second", 3)  # made after it, so that what it brings stays
    chunks = ledger.dispatch()
    for chunk in chunks:
        if chunk.job_id == "second":
            to_index(services, chunk, [image(1, "k", shop="y"), image(2, source="t"), image(4, "none")])
            continue
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim is not None
        changes.begin(services, claim)
    drain(services)
    collection = index.collection("images")
    everything = [image_id(n) for n in range(1, 8)]
    assert {i: (one.image.keys, one.image.metadata) for i, one in collection.stored(everything).items()} == {
        image_id(1): (["k"], {"shop": "y"}),
        image_id(2): ([], {}),
        image_id(3): ([], {"shop": "x"}),
        image_id(4): (["m", "none"], {"shop": "x"}),
        image_id(5): ([], {"shop": "x"}),
        image_id(6): (["o"], {}),
    }
    rebuilt = rebuild(services, "rebuilt")
    said, there = rebuilt.stored(everything), collection.stored(everything)
    assert {i: one.contributions for i, one in said.items()} == {
        i: one.contributions for i, one in there.items()
    }
    for key in ("k", "l", "m", "none", "o"):
        held = [one.by_key(key) for one in (rebuilt, collection)]
        assert len({one and one.image.id for one in held}) == 1
    assert not verify(services, "images")
    assert all(services.blobs.exists(file_key("images", one, "thumbnail")) for one in everything[:6])


@pytest.mark.parametrize("seed", range(6))
def test_however_jobs_are_delivered_the_collection_is_what_their_versions_say(
    tmp_path: Path, index: Index, ledger: Ledger, seed: int
) -> None:
    """Ingests, updates and deletions wait for the writer together, and come to it in any order."""
    order = random.Random(seed)
    services = make_services(tmp_path, index, ledger)
    make_job(services, "a", 4)
    to_index(services, ledger.dispatch()[0], [image(1, "k"), image(2), image(3, "l"), image(4)])
    drain(services)
    make_job(services, "b", 3)
    change_job(services, "c", [*named(1, 2, 5), *under("l", "p")])
    make_job(services, "d", 2)
    brings = {"b": [image(5), image(2), image(6, "p")], "d": [image(2, source="later"), image(3, "l")]}
    chunks = ledger.dispatch()
    order.shuffle(chunks)
    for chunk in chunks:
        if chunk.job_id in brings:
            to_index(services, chunk, brings[chunk.job_id])
        else:
            claim = ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            changes.begin(services, claim)
        drain(services)
    found = index.collection("images").stored([image_id(n) for n in range(1, 7)])
    assert found.keys() - {image_id(5)} == {image_id(n) for n in (2, 3, 4)}, "5 was not there, or was by then"
    assert found[image_id(2)].image.sources == ["later"]
    assert not verify(services, "images")
    for job_id in "bcd":
        job = ledger.get(job_id)
        assert (job.status, sum(job.counts.values())) == (JobStatus.SUCCEEDED, job.total)
