"""Syncs in whose middle something breaks, and what must have come of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from shared.storage.blobs import source_prefix
from tests.faults.rig import Rig
from tests.faults.sources.phases import Fault, begun
from tests.faults.sources.synced import GONE, PICTURES, TWINS, Synced, change, counted, synced
from tests.stack import eventually

Lie = Callable[[Synced], AbstractContextManager[object]]


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
            eventually(rig.at_rest, 60)
            source.check_nothing_is_lost()
            source.check_runs()
            rest = rig.finished(source.start())
            assert rest["status"] == ("partial" if counted(rest).get("failed") else "succeeded"), rest
            source.take()
            source.check()
            source.ended(source.start())
            source.check()

    return inject


def listing_that_lies(lie: Lie, kind: str, *, says: dict[str, Any]) -> Fault:
    """A listing that lacks what is there, after a night that changed things; the next one is right.

    `says` is what the job must: its status, and for one that withholds what is missing how many.
    """

    def inject(rig: Rig) -> None:
        with synced(rig, kind) as source:
            change(source.catalogue)
            with lie(source):
                job = rig.finished(source.start())
            withheld = sum(one["count"] for one in job["notes"] if one["code"] == "too_many_deletions")
            assert {"status": job["status"], "withheld": withheld} == {"withheld": 0} | says, job
            assert "removed" not in counted(job)
            eventually(rig.at_rest, 60)
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
            eventually(rig.at_rest, 60)
            assert not rig.services.blobs.list(source_prefix(source.name))
            source.check_collection()
            assert rig.services.ledger.sources.running(source.name) is None

    return inject
