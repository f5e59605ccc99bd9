"""A round: one job, some faults while it runs, and what came of it."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.faults.injections import INJECTIONS
from tests.faults.rig import Outcome, Rig

JOB_SECONDS = 6.0  # what an undisturbed job takes, about


def run_round(rig: Rig, name: str, faults: Sequence[str], seed: int) -> Outcome:
    """Breaks what `faults` name, one after the other at random moments, while a job runs."""
    chance = random.Random(seed)
    moments = [chance.uniform(0, JOB_SECONDS / len(faults)) for _ in faults]

    def break_things() -> float:
        for fault, moment in zip(faults, moments, strict=True):
            time.sleep(moment)
            INJECTIONS[fault](rig)
        return time.time()

    with ThreadPoolExecutor(1) as pool:
        calm_at = pool.submit(break_things)
        job = rig.finished(rig.submit(name))
        return rig.outcome(name, job, calm_at.result())
