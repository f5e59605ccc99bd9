"""What a million and a billion pictures need: arithmetic on the recorded runs and the assumptions below."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.records import Recording

CORES = 16  # of a machine
CORE_HOUR = 0.05  # US dollars, about what the clouds ask for a core of a general machine on demand
MEMORY = 256 * 10**9  # bytes of the largest machine that is meant for Chroma
COUNTS = {"1 million": 10**6, "1 billion": 10**9}
LARGEST = "1,000,000"  # the largest collection that `vectors` builds
SERVER = "photo server"  # of the benchmark, no part of the product

_ROLE = re.compile(r"(\w+): core time of the processes: (.+)")


@dataclass(frozen=True)
class Index:
    """Of one Chroma server: bytes per vector in memory and on disk, and the vectors per second it takes."""

    memory: float
    disk: float
    rate: float

    @property
    def most(self) -> float:
        """Vectors that MEMORY holds."""
        return MEMORY / self.memory

    def hours(self, count: float) -> float:
        """Of the one writer."""
        return count / self.rate / 3600


@dataclass(frozen=True)
class Ingest:
    """Of one precision: core-seconds a picture of each role, as they ran together; bytes kept of it."""

    precision: str
    roles: Mapping[str, float]
    kept: float

    @property
    def cost(self) -> float:
        return sum(self.roles.values())

    @property
    def without_encode(self) -> float:
        """What is left for the cores of a machine whose GPU encodes."""
        return self.cost - self.roles["encode"]

    def hours(self, count: int, machines: int = 1) -> float:
        return count * self.cost / (machines * CORES) / 3600

    def dollars(self, count: int) -> float:
        return count * self.cost / 3600 * CORE_HOUR

    def machines(self, rate: float) -> int:
        """As many as bring `rate` pictures per second."""
        return math.ceil(rate * self.cost / CORES)


def ingests(recordings: Mapping[str, Recording]) -> list[Ingest]:
    """One a recorded precision."""
    found: dict[str, dict[str, float]] = {}
    values = _values(recordings, "ingest")
    for name, milliseconds in values.items():
        if (match := _ROLE.fullmatch(name)) and match[2] != SERVER:
            found.setdefault(match[1], {})[match[2]] = milliseconds / 1000
    return [
        Ingest(precision, roles, values[f"{precision}: kept in the blob store"] * 1024)
        for precision, roles in found.items()
    ]


def index(recordings: Mapping[str, Recording]) -> Index | None:
    """None before `vectors` is recorded."""
    values = _values(recordings, "vectors")
    if not values:
        return None
    pictures = int(LARGEST.replace(",", ""))
    return Index(
        memory=values[f"resident memory of Chroma, {LARGEST} just written"] * 2**20 / pictures,
        disk=values[f"disk of {LARGEST}"] * 2**20 / pictures,
        rate=values[f"written up to {LARGEST}"],
    )


def _values(recordings: Mapping[str, Recording], part: str) -> dict[str, float]:
    if part not in recordings:
        return {}
    return {result.name.strip(): result.value for result in recordings[part].results}
