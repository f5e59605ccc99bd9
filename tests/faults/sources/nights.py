"""Syncs in whose middle something breaks, and what must have come of them."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from secrets import token_hex
from typing import Any

from shared.storage.blobs import source_prefix
from tests.faults.rig import Rig
from tests.faults.sources.catalogues import Entry, Folder
from tests.faults.sources.phases import Fault, begun
from tests.faults.sources.synced import GONE, PICTURES, TWINS, Synced, change, counted, synced
from tests.stack import eventually

Lie = Callable[[Synced], AbstractContextManager[object]]

DUE, EVERY_SECONDS = 8, 300
SWEEPER_SECONDS = 4.0  # in which one has started, and swept a few times


def broken_sync(fault: Fault, phase: str, kind: str, *, exact: bool = True) -> Fault:
    """Breaks something at a phase of a sync that has to do all that a sync does; over when all is checked."""

    def inject(rig: Rig) -> None:
        with synced(rig, kind) as source:
            change(source.catalogue)
            job = begun(source, phase, fault)
            source.ended(job, exact=exact)
            source.check()
            source.ended(source.start())
            source.check()

    return inject


def cancelled_sync(phase: str, kind: str, fault: Fault = lambda _: None) -> Fault:
    """Cancels a sync at a phase, and breaks something then; the next one has all left to do."""

    def inject(rig: Rig) -> None:
        with synced(rig, kind) as source:
            change(source.catalogue)

            def cancel(rig: Rig) -> None:
                rig.delete(f"/v1/jobs/{source.jobs[-1]}")
                fault(rig)

            job = rig.finished(begun(source, phase, cancel))
            assert job["status"] == "cancelled", job
            eventually(lambda: rig.is_done_with(source.jobs), 60)
            source.check_nothing_is_lost()
            source.check_runs()
            rest = rig.finished(source.start())
            assert rest["status"] == ("partial" if counted(rest).get("failed") else "succeeded"), rest
            source.take()
            source.check()
            source.ended(source.start())
            source.check()

    return inject


def listing_that_lies(
    lie: Lie, kind: str, *, says: dict[str, Any], fault: Fault = lambda _: None, phase: str = "listing"
) -> Fault:
    """A listing that lacks what is there, after a night that changed things; the next one is right.

    `says` is what the job must: its status, and for one that withholds what is missing how many. `fault`
    breaks something besides.
    """

    def inject(rig: Rig) -> None:
        with synced(rig, kind) as source:
            change(source.catalogue)
            with lie(source):
                job = rig.finished(begun(source, phase, fault))
            withheld = sum(one["count"] for one in job["notes"] if one["code"] == "too_many_deletions")
            assert {"status": job["status"], "withheld": withheld} == {"withheld": 0} | says, job
            assert "removed" not in counted(job)
            eventually(lambda: rig.is_done_with(source.jobs), 60)
            source.check_nothing_is_lost()
            source.check_runs()
            rest = rig.finished(source.start())
            assert counted(rest).get("removed") == len(GONE), rest
            source.take()
            source.check()

    return inject


def deleted_source(fault: Fault, phase: str, kind: str) -> Fault:
    """Breaks something while a source is deleted with its images: those of others stay."""

    def inject(rig: Rig) -> None:
        with synced(rig, kind) as source:

            def delete() -> str:
                answer = rig.delete(f"/v1/sources/{source.name}", images="delete")
                assert answer.status_code == 202, answer.text
                job_id: str = answer.json()["job_id"]
                return job_id

            job = rig.finished(begun(source, phase, fault, delete))
            assert counted(job) == {"removed": PICTURES + len(TWINS)}, job
            assert rig.get(f"/v1/sources/{source.name}").status_code == 404
            source.catalogue.entries = source.brought = {}
            eventually(lambda: rig.is_done_with([*source.jobs, job["job_id"]]), 60)
            assert not rig.services.blobs.list(source_prefix(source.name))
            source.check_collection()
            assert rig.services.ledger.sources.running(source.name) is None

    return inject


def due_once(fault: Fault) -> Fault:
    """Sources whose syncs were missed, and two sweepers: each is made up for once."""

    def inject(rig: Rig) -> None:
        names = [f"due-{token_hex(4)}" for _ in range(DUE)]
        for number, name in enumerate(names):
            catalogue = Folder(rig, name)
            catalogue.entries = {f"e{n}": Entry(10 * number + n) for n in range(3)}
            catalogue.publish()
            body = {"from": catalogue.location, "collection": name, "every": f"{EVERY_SECONDS // 60}m"}
            rig.put(f"/v1/sources/{name}", body)
        with rig.stack.joined("sweep"):
            time.sleep(SWEEPER_SECONDS)
            for name in names:
                rig.ledger.sources.schedule(name, time.time() - 3.5 * EVERY_SECONDS)
            fault(rig)
            eventually(lambda: all(_source(rig, name)["last_run"] for name in names), 90)
            time.sleep(SWEEPER_SECONDS)  # for another run, if there was one
        for name in names:
            source = _source(rig, name)
            assert [run["status"] for run in source["runs"]] == ["succeeded"], source
            left_s = datetime.fromisoformat(source["next_run_at"]).timestamp() - time.time()
            assert 0 < left_s <= EVERY_SECONDS
            assert rig.get(f"/v1/collections/{name}").json()["count"] == 3
            rig.delete(f"/v1/sources/{name}")

    return inject


def _source(rig: Rig, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rig.get(f"/v1/sources/{name}").json()
    return found
