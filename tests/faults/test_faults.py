"""A few jobs that are disturbed all the way; `make faults` runs many more."""

from collections.abc import Iterator

import pytest

from tests.faults.injections import INJECTIONS
from tests.faults.rig import Rig
from tests.faults.rounds import run_round


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.mark.timeout(600)  # two minutes on cores of its own
@pytest.mark.parametrize(
    "faults",
    [
        ["kill fetch", "kill index", "kill sweep", "kill api"],
        [
            "kill redis",
            "flood of duplicates",
            "kill chroma",
            "refuse a payload",
            "fill the disk",
            "cut redis off",
        ],
        [
            "pause index",
            "kill encode at the switch of a reindex",
            "kill index in the middle of a bulk delete",
            "restart redis in the middle of a bulk update",
        ],
        [
            "kill fetch at the join of an ingest since another",
            "kill index at the log of a second ingest",
            "kill fetch at the plan of a sync of half a feed",
        ],
    ],
    ids=" + ".join,
)
def test_nothing_is_lost_or_doubled_whatever_breaks(rig: Rig, faults: list[str]) -> None:
    outcome = run_round(rig, f"broken-{len(faults)}-{faults[0].replace(' ', '-')}", faults, seed=1)
    assert outcome.sound, (outcome, rig.stack.logs())


def test_every_role_is_killed_and_paused_by_some_fault(rig: Rig) -> None:
    roles = {"redis", "chroma", "api", "fetch", "encode", "index", "sweep"}
    assert {f"{verb} {role}" for verb in ("kill", "pause") for role in roles} <= INJECTIONS.keys()
