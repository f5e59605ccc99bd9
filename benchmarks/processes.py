"""What the kernel says of a process: its memory, and its time on the processor."""

import os
from pathlib import Path


def resident_mib(pid: int) -> float:
    return _field(pid, "status", "VmRSS")


def peak_mib(pid: int) -> float:
    return _field(pid, "status", "VmHWM")


def pss_mib(pid: int) -> float:
    """What the process has in memory, files that it maps included; a page that n share counts as 1/n."""
    return _field(pid, "smaps_rollup", "Pss")


def anonymous_mib(pid: int) -> float:
    """What the process itself allocated; a page that n forks share counts as 1/n, so that a pool adds up.

    Files that are mapped are left out: who else maps them, another stack, say, would change the figure.
    """
    return _field(pid, "smaps_rollup", "Pss_Anon")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process's threads since its start; 10 ms is the least that is told."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> tuple[float, float]:
    """What all cores together have worked since the machine's start, whoever for, and not worked."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    user, nice, system, idle, waiting, *other = (
        int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in line.split()[1:9]
    )
    return user + nice + system + sum(other), idle + waiting


def _field(pid: int, file: str, name: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)
