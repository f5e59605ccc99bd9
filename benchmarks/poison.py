"""What pictures that the index refuses cost the jobs of others."""

import time

from benchmarks.results import Result
from tests.faults.rig import POISON, Rig

JOBS, POISONED_JOBS, TURNS = 40, 5, 2
PICTURES = 10  # of each innocent job


def measure() -> list[Result]:
    """The innocent jobs' time, in turn without and with jobs that hold pictures which Chroma refuses."""
    with Rig() as rig:
        _seconds(rig, "warm", poisoned=0)
        times = {
            count: min(_seconds(rig, f"of-{count}-{turn}", poisoned=count) for turn in range(TURNS))
            for count in (0, POISONED_JOBS)
        }
    return [
        Result(
            f"{JOBS} jobs beside {POISONED_JOBS} with pictures that the index refuses, times alone",
            times[POISONED_JOBS] / times[0],
            goal=2,
            most=True,
        ),
        Result("  alone", times[0], "s"),
        Result("  beside them", times[POISONED_JOBS], "s"),
    ]


def _seconds(rig: Rig, name: str, *, poisoned: int) -> float:
    """Until the innocent jobs have ended, each with every picture indexed."""
    rig.chroma.refused = POISON.encode()
    started = time.monotonic()
    guilty = [rig.submit_poisoned(f"{name}-poisoned-{n % 2}") for n in range(poisoned)]
    urls = [rig.pictures.url(f"/photo/{n}.jpg?w=48&h=48") for n in range(JOBS * PICTURES)]
    jobs = [
        rig.post({"urls": urls[n * PICTURES : (n + 1) * PICTURES], "collection": f"{name}-{n % 2}"})
        for n in range(JOBS)
    ]
    for job_id in jobs:
        counts = rig.finished(job_id)["counts"]
        if counts["indexed"] != PICTURES:
            raise RuntimeError(f"not every picture was indexed: {counts}")
    seconds = time.monotonic() - started
    for job_id in guilty:
        rig.finished(job_id)
    return seconds
