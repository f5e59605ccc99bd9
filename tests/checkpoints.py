"""The tiny random checkpoint, made once in a test run: its maker imports torch, which takes seconds."""

import fcntl
import shutil
from pathlib import Path

from benchmarks.random_checkpoint import make_random_checkpoint

_SEEDS = (0, 1)
_kept: list[Path] = []  # the folder that all processes of the run know; none where no tests run


def keep_in(folder: Path) -> None:
    _kept[:] = [folder]


def tiny_checkpoint(folder: Path, *, seed: int = 0) -> None:
    """Writes a checkpoint like any other call's with this seed into `folder`, which is created."""
    if not _kept:
        make_random_checkpoint(folder, seed=seed, shape="tiny")
        return
    with (_kept[0] / "checkpoints.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for each in _SEEDS:
            if not (_kept[0] / f"tiny-{each}").exists():
                make_random_checkpoint(_kept[0] / f"tiny-{each}", seed=each, shape="tiny")
    shutil.copytree(_kept[0] / f"tiny-{seed}", folder)
