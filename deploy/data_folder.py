"""The data folder of `image-search up`: where things are in it, and which process holds it.

It holds everything: `redis/` and `chroma/` (their files), `blobs/` (thumbnails, vector log, keys), `logs/`
(one file per child), `run/` (socket, lock, port, the settings that the children were given).
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from deploy.ports import free_port, is_free
from shared.errors import ConfigError

DEFAULT_DATA_DIR = Path("~/.local/share/image-search")


@dataclass(frozen=True)
class Folder:
    """The paths in a data folder."""

    root: Path

    @property
    def blob_url(self) -> str:
        return f"file://{self.root}/blobs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def _settings(self) -> Path:
        return self.run / "settings.json"

    def make_private(self) -> None:
        """Make the folder, or take others' rights to one that exists, and to all in it, away."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.root.stat().st_mode & 0o077:
            for path in chain([self.root], self.root.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o700 if path.is_dir() else 0o600)
        self.run.mkdir(exist_ok=True, mode=0o700)

    def running(self) -> int | None:
        """Return the pid of the `up` that holds this folder, if one does."""
        try:
            with locked(self.run / "lock", os.O_RDWR):
                return None
        except OSError:
            return _number_in(self.run / "lock")

    def child_settings(self) -> dict[str, str]:
        """Return the variables that the running `up` gave its children; empty when none runs."""
        if self.running() is None or not self._settings.exists():
            return {}
        loaded: dict[str, str] = json.loads(self._settings.read_text(encoding="utf-8"))
        return loaded

    def write_child_settings(self, settings: dict[str, str]) -> None:
        unfinished = self._settings.with_suffix(".tmp")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(settings), encoding="utf-8")
        unfinished.replace(self._settings)

    def remembered_port(self, name: str, taken: Collection[int] = ()) -> int:
        """Return the port of the last start if it is still free, else a new one, which is remembered.

        It is none of `taken`, which others will listen on.
        """
        path = self.run / f"{name}.port"
        remembered = _number_in(path)
        if remembered is not None and remembered not in taken and is_free("127.0.0.1", remembered):
            return remembered
        port = next(port for port in iter(free_port, None) if port not in taken)
        path.write_text(str(port), encoding="utf-8")
        return port


def data_folder(path: Path | None) -> Folder:
    return Folder((path or DEFAULT_DATA_DIR).expanduser().absolute())


@contextlib.contextmanager
def hold(folder: Folder) -> Iterator[int]:
    """Hold the data folder for this process; yields the lock's descriptor.

    The guard of `deploy.supervisor` inherits it, so the folder stays taken until the children of a killed
    `up` are gone, which a new `up` waits for. Raises ConfigError while the holder lives.
    """
    path = folder.run / "lock"
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked(path, os.O_RDWR | os.O_CREAT) as descriptor:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                yield descriptor
                return
        except BlockingIOError:
            holder = _number_in(path)
            if (holder is not None and _alive(holder)) or time.monotonic() > deadline:
                raise ConfigError(
                    f"{folder.root} is in use by another `image-search up` (pid {holder})"
                ) from None
            time.sleep(0.1)


@contextlib.contextmanager
def locked(path: Path, flags: int) -> Iterator[int]:
    """Hold a file or folder that is there, or made by `flags`. Raises BlockingIOError while another does."""
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def _number_in(path: Path) -> int | None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return int(text) if text.isdigit() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
