"""What the kernel says of a process's memory."""

from pathlib import Path


def resident_mib(pid: int) -> float:
    return _field(pid, "status", "VmRSS")


def peak_mib(pid: int) -> float:
    return _field(pid, "status", "VmHWM")


def anonymous_mib(pid: int) -> float:
    """What the process itself allocated; a page that n forks share counts as 1/n, so that a pool adds up.

    Files that are mapped are left out: who else maps them, another stack, say, would change the figure.
    """
    return _field(pid, "smaps_rollup", "Pss_Anon")


def _field(pid: int, file: str, name: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)
