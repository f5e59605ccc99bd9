"""Kills, restarts and cuts while a list is ingested a second time, and what must come of it."""

import contextlib
import hashlib
import itertools
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shared.storage.blobs import FileKind, file_key, job_prefix, log_prefix, scratch_prefix
from tests.faults.rig import JOB_SECONDS, Rig
from tests.image_server import small_picture
from tests.stack import eventually
from worker.recovery import rebuild

PICTURES = 72  # nine chunks
KEYED = 42  # that have a key each
REPEATED = range(37, 48)  # that the list has twice
CHANGED, GONE, SAID_OF = range(0, PICTURES, 12), range(5, PICTURES, 24), range(3, PICTURES, 6)  # with `since`
CALL_SECONDS = 0.4  # of each call to Chroma, for the fault to come in its middle

_numbers = itertools.count(10_000, PICTURES)  # each list has pictures of its own


def second_ingest(
    fault: Callable[[Rig], None], phase: str, *, since: bool, exact: bool = True
) -> Callable[[Rig], None]:
    """Breaks something at a phase of an ingest whose URLs were ingested before; over when all is checked.

    Not `exact`: where Chroma does not say what it has, a picture may be downloaded that has not changed.
    """

    def inject(rig: Rig) -> None:
        name, first = f"again-{secrets.token_hex(4)}", next(_numbers)
        earlier = rig.post({"items": _items(rig, first), "collection": name})
        assert _counts(rig.finished(earlier)) == {"indexed": PICTURES, "duplicate": len(REPEATED)}
        with _slow(rig, phase):
            if since:
                for n in CHANGED:
                    rig.pictures.versions[first + n] = 1
                for n in GONE:
                    rig.pictures.versions[first + n] = -1
            asked = _asked(rig)
            body = {"items": _items(rig, first, said_of=SAID_OF if since else ()), "collection": name}
            job = rig.post(body | ({"since": earlier} if since else {}))
            _until(lambda: PHASES[phase](rig, name, job, asked))
            fault(rig)
        counts = _counts(rig.finished(job))
        expected = {"duplicate": PICTURES + len(REPEATED)}
        if since:
            same = PICTURES + len(REPEATED) - len(CHANGED) - len(GONE)
            expected = {"indexed": len(CHANGED), "failed": len(GONE), "unchanged": same}
            if not exact:
                counts["unchanged"] = counts.get("unchanged", 0) + counts.pop("duplicate", 0)
        assert counts == expected, (job, counts)
        eventually(rig.at_rest, JOB_SECONDS)
        check(rig, name, first, job, since=since)
        eventually(lambda: not _left_by(rig, job), 90)

    return inject


def _items(rig: Rig, first: int, said_of: range | tuple[()] = ()) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [
        {"url": rig.pictures.url(f"/kept/{first + n}.png?ms=40"), "metadata": _said(n, said_of)}
        for n in range(PICTURES)
    ]
    items = [item | ({"key": f"k{n}"} if n < KEYED else {}) for n, item in enumerate(items)]
    return items + [items[n] for n in REPEATED]


def _said(n: int, said_of: range | tuple[()]) -> dict[str, Any]:
    return {"n": n} | ({"shop": "south"} if n in said_of else {})


def _counts(job: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in job["counts"].items() if count}


@contextlib.contextmanager
def _slow(rig: Rig, phase: str) -> Iterator[None]:
    rig.chroma.delay_s = CALL_SECONDS if phase in ("look-up", "log") else 0.0
    try:
        yield
    finally:
        rig.chroma.delay_s = 0.0


def join_folders(job: str) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"image-search-join-{job}*"))


def _asked(rig: Rig) -> int:
    """How often pictures of such lists were asked for."""
    return sum(rig.pictures.statuses.values())


# Look-up: some are downloaded, and Chroma, which is slow, is asked for them. Log: it has additions of the
# job, and the writer is in the middle of one of its slow calls.
PHASES: dict[str, Callable[[Rig, str, str, int], object]] = {
    "look-up": lambda rig, _, job, asked: (
        _asked(rig) > asked + 4 or rig.services.blobs.list(f"{job_prefix(job)}since/")
    ),
    "join": lambda _rig, _, job, _before: join_folders(job),
    "requests": lambda rig, _, _job, asked: _asked(rig) > asked + PICTURES // 3,
    "log": lambda rig, name, job, _: any(job in key for key in rig.services.blobs.list(log_prefix(name))),
}


def _until(reached: Callable[[], object]) -> None:
    """Waits without sparing the cores, as some phases are short; not for ever: another fault may be about."""
    deadline = time.monotonic() + JOB_SECONDS / 4
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)


def _left_by(rig: Rig, job: str) -> list[str]:
    """What a job that has ended should not have left: crops on their way, and what its list was joined in."""
    return [*map(str, join_folders(job)), *rig.services.blobs.list(scratch_prefix(job))]


def check(rig: Rig, name: str, first: int, job: str, *, since: bool) -> None:
    """Each item has one end and its picture; each picture its sources, keys, metadata, files and log."""
    ended = {
        item["index"]: item.get("image_id")
        for state in ("indexed", "duplicate", "unchanged", "failed")
        for item in rig.items(job, state)
    }
    assert sorted(ended) == list(range(PICTURES + len(REPEATED)))
    now = {n: _id(first + n, 1 if since and n in CHANGED else 0) for n in range(PICTURES)}
    places = [*range(PICTURES), *REPEATED]
    wrong = {i for i, n in enumerate(places) if ended[i] != (None if since and n in GONE else now[n])}
    assert not wrong, {i: ended[i] for i in wrong}
    stayed = {n: _id(first + n, 0) for n in CHANGED if since and n >= KEYED}
    replaced = [_id(first + n, 0) for n in CHANGED if since and n < KEYED]

    services = rig.services
    opened = services.index.collection(name)
    stored = opened.stored(list(opened.ids()))
    assert sorted(stored) == sorted([*now.values(), *stayed.values()])
    logged = rebuild.read_log(services.blobs, name, opened.pointer.fingerprint).images
    files: tuple[FileKind, ...] = ("thumbnail", "original")
    for n, image_id in [*now.items(), *stayed.items()]:
        image = stored[image_id].image
        assert image.sources == [rig.pictures.url(f"/kept/{first + n}.png?ms=40")]
        assert image.keys == ([f"k{n}"] if n < KEYED else [])
        assert image.metadata == _said(n, SAID_OF if since else ()), n
        assert len(image.jobs) == len(set(image.jobs)) <= 2
        assert logged[image_id].stored.contributions == stored[image_id].contributions, n
        assert all(services.blobs.exists(file_key(name, image_id, kind)) for kind in files)
        if n < KEYED:
            held = opened.by_key(f"k{n}")
            assert held and held.image.id == image_id, n
    assert not any(services.blobs.exists(file_key(name, one, "thumbnail")) for one in replaced)
    faults = rebuild.verify(services, name)
    assert not (faults.missing or faults.wrong or faults.extra), faults


def _id(number: int, version: int) -> str:
    return hashlib.sha256(small_picture(number, version)).hexdigest()
