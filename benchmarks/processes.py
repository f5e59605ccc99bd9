"""What the kernel says of a process's memory."""

from pathlib import Path


def resident_mib(pid: int) -> float:
    return _field(pid, "status", "VmRSS")


def peak_mib(pid: int) -> float:
    return _field(pid, "status", "VmHWM")


def proportional_mib(pid: int) -> float:
    """Resident, where a page that n processes share counts as 1/n: the sum over a pool is what it takes."""
    return _field(pid, "smaps_rollup", "Pss")


def _field(pid: int, file: str, name: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)
