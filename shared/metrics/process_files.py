"""The files in which the processes of one target keep their numbers."""

import fcntl
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

_turn = threading.Lock()  # that of files is a process's
_ENTRY_BYTES = 32  # at most, beside the key: two numbers, the key's length and what pads it


def read_all(folder: Path) -> Iterable[Metric]:
    """Return the numbers of all processes together; of those that ended the counters and histograms alone."""
    with _turn, (folder / "lock").open("w") as lock:
        # Two processes of an API may be scraped at once. Not `flock`: a process that is forked meanwhile, as
        # those of a worker's pool are, would have the lock, too, and keep it for as long as it lives.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        for path in folder.glob("gauge_*.db"):
            if _has_ended(path):
                path.unlink()
        for kind in ("counter", "histogram"):
            with suppress(OSError):  # a full disk: they stay as they are
                _merge_ended(folder, kind)
        # A process that has just started has made its file, and not yet written to it.
        files = [str(path) for path in folder.glob("*.db") if path.stat().st_size]
        found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return found


def _merge_ended(folder: Path, kind: str) -> None:
    """Have one file for all processes that ended: each would cost every scrape milliseconds for ever."""
    ended = [path for path in folder.glob(f"{kind}_*.db") if _has_ended(path)]
    if not ended:
        return
    merged, new = folder / f"{kind}_ended.db", folder / f"{kind}_ended.new"
    numbers: defaultdict[str, float] = defaultdict(float)
    for path in [*ended, merged]:
        if path.exists() and path.stat().st_size:
            for key, number, *_ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                numbers[key] += number
    # Written first: a mapped file that finds no place on a disk ends its process (SIGBUS).
    new.write_bytes(bytes(_ENTRY_BYTES + sum(len(key.encode()) + _ENTRY_BYTES for key in numbers)))
    file = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, number in numbers.items():
        file.write_value(key, number, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    new.replace(merged)
    for path in ended:
        path.unlink()


def _has_ended(path: Path) -> bool:
    pid = path.stem.rpartition("_")[2]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
