"""Tiny random checkpoints, each made once in a test run: its maker imports torch, which takes seconds."""

import fcntl
import shutil
from pathlib import Path

from benchmarks.random_checkpoint import Shape, make_random_checkpoint

_SEEDS = (0, 1)
_kept: list[Path] = []  # the folder that all processes of the run know; none where no tests run


def keep_in(folder: Path) -> None:
    _kept[:] = [folder]


def tiny_checkpoint(folder: Path, *, seed: int = 0, shape: Shape = "tiny", spread: float = 1.0) -> None:
    """Writes a checkpoint like any other call's with these arguments into `folder`, which is created."""
    if not _kept:
        make_random_checkpoint(folder, seed=seed, shape=shape, spread=spread)
        return
    with (_kept[0] / "checkpoints.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for each in _SEEDS:
            kept = _kept[0] / f"{shape}-{spread}-{each}"
            if not kept.exists():
                make_random_checkpoint(kept, seed=each, shape=shape, spread=spread)
    shutil.copytree(_kept[0] / f"{shape}-{spread}-{seed}", folder)
