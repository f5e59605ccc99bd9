"""Kills while a collection goes to another model, under searches and ingests, and what must come of it."""

import contextlib
import os
import secrets
import signal
from collections.abc import Callable

from shared.errors import ImageSearchError
from tests.faults.rig import JOB_SECONDS, Rig
from tests.searches import Searches, mixed
from tests.stack import eventually
from worker.recovery import rebuild

BEFORE, MEANWHILE = 40, 24  # pictures
SEARCHES_PER_SECOND = 4
HARMLESS = {0, 200, 503}  # statuses of searches while a role is away; 0 where nobody answered

PHASES: dict[str, Callable[[Rig, str], object]] = {
    "load": lambda rig, _: rig.chunks_encoding(),
    "announcement": lambda rig, _: rig.ledger.models.announced(),
    "switch": lambda rig, name: rig.index.collection(name).pointer.model == str(rig.other_model),
}


def kill_at(role: str, phase: str) -> Callable[[Rig], None]:
    """`kill -9` of every process of a role at a phase of a reindex; over when all is checked."""

    def inject(rig: Rig) -> None:
        name = f"switched-{secrets.token_hex(4)}"
        pictures = [rig.pictures.url(f"/photo/{n}.jpg?w=48&h=48") for n in range(BEFORE + MEANWHILE)]
        rig.finished(rig.post({"urls": pictures[:BEFORE], "collection": name}))
        with Searches(rig.stack.url, name, SEARCHES_PER_SECOND) as searches:
            switch = rig.post({"model": str(rig.other_model)}, f"/v1/collections/{name}/reindex")
            ingest = rig.post({"urls": pictures[BEFORE:], "collection": name})
            eventually(lambda: _reached(rig, name, phase, switch), JOB_SECONDS)
            before = rig.stack.leader(role)
            for pid in rig.stack.processes(role):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            switched, ingested = rig.finished(switch), rig.finished(ingest)
            eventually(lambda: rig.stack.leader(role) not in (None, before), 60)
            answered = searches.statuses[200]
            eventually(lambda: searches.statuses[200] > answered + 20, 60)
        assert searches.statuses.keys() <= HARMLESS, searches.others
        assert (switched["status"], switched["result"]["switched"]) == ("succeeded", True), switched
        assert ingested["counts"]["indexed"] == MEANWHILE, ingested
        eventually(rig.at_rest, JOB_SECONDS)
        services = rig.services
        assert services.index.collection(name).count() == len(pictures)
        assert not mixed(services, name)
        faults = rebuild.verify(services, name)
        assert not (faults.missing or faults.wrong or faults.extra), faults

    return inject


def _reached(rig: Rig, name: str, phase: str, job_id: str) -> bool:
    try:
        return bool(PHASES[phase](rig, name)) or bool(rig.ledger.get(job_id).finished_at)
    except ImageSearchError:  # another fault
        return False
