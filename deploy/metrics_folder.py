"""The folder in which the processes of one worker or server keep their counts: a scrape of one gives all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.data_folder import locked
from shared.errors import ConfigError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported
FOLDER_PREFIX = "image-search-metrics-"
# A process ends (SIGBUS) when it counts in a mapped file and the disk is full: not one that uploads fill.
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is made as one in TMPDIR
ROOM_BYTES = 2**20  # some five processes'
FIRST_USER = 1000  # the ids below are the system's


@contextmanager
def shared_metrics_folder() -> Iterator[None]:
    """Have this process, and those that it forks inside, keep their counts in one folder, until the end.

    It is locked meanwhile, so what is not was left by a process that was killed, and goes now. Enter this
    before anything imports prometheus_client. Raises ConfigError where no folder can be made.
    """
    made_by = os.getpid()
    try:
        hidden = _made()
    except OSError as error:
        raise ConfigError(
            f"there is no folder for what several processes count ({error.strerror}): "
            "set TMPDIR to one that can be written, with a few MB free"
        ) from None
    with locked(hidden, os.O_RDONLY):
        folder = hidden.rename(hidden.with_name(hidden.name[1:]))  # locked before another start sees it
        os.environ[VARIABLE] = str(folder)
        try:
            yield
        finally:
            if os.getpid() == made_by:  # gunicorn's processes come by here, too
                shutil.rmtree(folder, ignore_errors=True)


def _made() -> Path:
    """Return a new folder with room in it, in memory unless TMPDIR says where. Raises OSError."""
    # systemd empties /dev/shm of a user's files when the user, if that is no system's, logs out (RemoveIPC).
    is_kept = os.getuid() < FIRST_USER or not Path("/run/systemd/system").exists()
    if "TMPDIR" not in os.environ and is_kept:
        with suppress(OSError):
            return _made_in(MEMORY)
    return _made_in(Path(tempfile.gettempdir()))


def _made_in(parent: Path) -> Path:
    _remove_left_behind(parent)
    folder = Path(tempfile.mkdtemp(prefix=f".{FOLDER_PREFIX}", dir=parent))
    try:
        (folder / "room").write_bytes(bytes(ROOM_BYTES))
        (folder / "room").unlink()
    except OSError:
        shutil.rmtree(folder)
        raise
    return folder


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError), locked(folder, os.O_RDONLY):  # it is in use, or another user's
            shutil.rmtree(folder)
