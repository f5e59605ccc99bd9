"""Kills and restarts in the middle of jobs that delete and update many pictures, and what must come of it."""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from shared.storage.blobs import file_key
from tests.faults.rig import JOB_SECONDS, Rig
from tests.stack import eventually
from worker.recovery import rebuild

PICTURES = 120
KEYED = 30  # that have a key each
GONE, KEPT = range(0, PICTURES, 2), range(1, PICTURES, 2)
ABSENT = [f"{number:064x}" for number in range(160)]  # with which there are several chunks of changes
MOMENT_SECONDS = 0.6  # about as long as such a job takes


def in_the_middle(fault: Callable[[Rig], None], kind: str) -> Callable[[Rig], None]:
    """Breaks something while a job deletes or updates; over when all is checked."""

    def inject(rig: Rig) -> None:
        name = f"bulk-{secrets.token_hex(4)}"
        ids = _ingested(rig, name)
        by_key = {"keys": [f"k{n}" for n in GONE if n < KEYED]}
        by_id = {"ids": [ids[n] for n in GONE if n >= KEYED] + ABSENT}
        change = {"metadata": {"shop": "south", "n": None}} if kind == "update" else {}
        jobs = [
            rig.post(which | change | {"collection": name}, f"/v1/images/{kind}") for which in (by_key, by_id)
        ]
        time.sleep(random.uniform(0, MOMENT_SECONDS))
        fault(rig)
        done = "removed" if kind == "delete" else "updated"
        counts = [
            {state: count for state, count in rig.finished(job)["counts"].items() if count} for job in jobs
        ]
        keyed = len(by_key["keys"])
        assert counts == [{done: keyed}, {done: len(GONE) - keyed, "unchanged": len(ABSENT)}], counts
        eventually(rig.at_rest, JOB_SECONDS)
        check(rig, name, ids, kind)

    return inject


def _ingested(rig: Rig, name: str) -> dict[int, str]:
    """Brings the pictures into a collection; returns their ids by their numbers."""
    items: list[dict[str, Any]] = [
        {"url": rig.pictures.url(f"/photo/{n}.jpg?w=32&h=32"), "metadata": {"n": n}} for n in range(PICTURES)
    ]
    items = [item | ({"key": f"k{n}"} if n < KEYED else {}) for n, item in enumerate(items)]
    job = rig.finished(rig.post({"items": items, "collection": name}))
    assert job["counts"]["indexed"] == PICTURES, job
    opened = rig.index.collection(name)
    return {one.image.metadata["n"]: one.image.id for one in opened.stored(list(opened.ids())).values()}  # type: ignore[misc]


def check(rig: Rig, name: str, ids: dict[int, str], kind: str) -> None:
    """Record, key, log and files of each picture say the same."""
    services = rig.services
    opened = services.index.collection(name)
    stored = opened.stored(list(opened.ids()))
    left = KEPT if kind == "delete" else range(PICTURES)
    assert stored.keys() == {ids[n] for n in left}
    for number in range(PICTURES):
        is_changed = number in GONE
        key = f"k{number}"
        if number < KEYED:
            held = opened.by_key(key)
            assert (held and held.image.id) == (ids[number] if number in left else None), key
        assert services.blobs.exists(file_key(name, ids[number], "thumbnail")) is (number in left), number
        if number in left:
            expected = {"shop": "south"} if is_changed else {"n": number}
            assert stored[ids[number]].image.metadata == expected
    faults = rebuild.verify(services, name)
    assert not (faults.missing or faults.wrong or faults.extra), faults
