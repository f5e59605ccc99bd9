"""Recorded runs: one JSON file a part in `benchmarks/recorded`, which later runs are compared with."""

import os
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.results import Curve, Result

FOLDER = Path(__file__).parent / "recorded"
# Rounds of the recorded ratios lie within 6 % of their medians (of p99s, up to 56 %: hence from the spread's
# worse end), but the same index stage on the same machine, busy, came out a fifth lower: less would cry wolf.
TOLERANCE = 0.2


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` are those that this process may run on; `gpu` is None without CUDA."""

    cpu: str
    cores: int
    gpu: str | None


@dataclass(frozen=True, slots=True)
class Recording:
    """One run of a part, which took `seconds`; `options` are those that differ from their defaults."""

    part: str
    date: str
    commit: str
    options: dict[str, Any]
    machine: Machine
    seconds: float
    results: list[Result]
    curves: list[Curve]

    @property
    def command(self) -> str:
        """What runs it again."""
        words = [f"--{name} {shlex.quote(str(value))}" for name, value in self.options.items()]
        return " ".join(["python -m benchmarks --only", self.part, *words])


def make(part: str, options: dict[str, Any], seconds: float, outcomes: Iterable[Result | Curve]) -> Recording:
    """Of a run that has just ended, on this machine, of this checkout."""
    found = list(outcomes)
    return Recording(
        part=part,
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        options=options,
        machine=this_machine(),
        seconds=seconds,
        results=[outcome for outcome in found if isinstance(outcome, Result)],
        curves=[outcome for outcome in found if isinstance(outcome, Curve)],
    )


_JSON = TypeAdapter(Recording)


def save(recording: Recording, folder: Path = FOLDER) -> str:
    """Returns a sentence that says what was written over."""
    path = folder / f"{recording.part}.json"
    before = load(recording.part, folder)
    folder.mkdir(exist_ok=True)
    path.write_bytes(_JSON.dump_json(recording, indent=2) + b"\n")
    what = "nothing before" if before is None else f"the run of {before.date} at {before.commit}"
    return f"{recording.part}: recorded in {path}, over {what}."


def load(part: str, folder: Path = FOLDER) -> Recording | None:
    path = folder / f"{part}.json"
    return _JSON.validate_json(path.read_bytes()) if path.exists() else None


def load_all(folder: Path = FOLDER) -> dict[str, Recording]:
    """By part, in the order of their names."""
    return {path.stem: _JSON.validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def incomparable(now: Recording, then: Recording) -> str | None:
    """Why the two cannot be compared, or None when they can."""
    if now.machine != then.machine:
        return f"the record is of another machine ({then.machine.cores} cores of {then.machine.cpu})"
    if now.options != then.options:
        return f"the record is of other sizes: {then.command}"
    return None


def regressions(now: Recording, then: Recording) -> dict[str, float]:
    """The recorded values of the ratios with a goal that are worse than their record, by name.

    Worse by more than TOLERANCE than the worse end of the record's spread.
    """
    recorded = {result.name: result for result in then.results}
    return {
        result.name: recorded[result.name].value
        for result in now.results
        if result.goal is not None and not result.unit and result.name in recorded
        if _worse(result, recorded[result.name])
    }


def _worse(now: Result, then: Result) -> bool:
    least, greatest = then.spread or (then.value, then.value)
    if now.most:
        return now.value > greatest * (1 + TOLERANCE)
    return now.value < least * (1 - TOLERANCE)


def this_machine() -> Machine:
    import torch  # noqa: PLC0415 - seconds, and only a run needs it

    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        gpu=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    )


def _cpu_name() -> str:
    """With the widest of the instructions that encoding uses, since virtual machines hide the model."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = facts.get("flags", "").split()
    widest = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "none")
    return f"{facts.get('model name', 'unknown')}, {widest}"


def _commit() -> str:
    """The short hash, with a + when files differ from it; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=FOLDER.parent, text=True).strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--short", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
