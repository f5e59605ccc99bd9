"""Packages of the system that tests need."""

import os
import shutil
import subprocess


def install(*packages: str) -> bool:
    """Installs Debian packages as root, or by a sudo that asks nothing; False where that cannot be done."""
    root = _as_root()
    if root is None or not shutil.which("apt-get"):
        return False
    print(f"Installing {', '.join(packages)} with apt-get.", flush=True)
    apt = [*root, "apt-get", "-qq"]
    _run(*apt, "update")
    return _run(*apt, "install", "--yes", "--no-install-recommends", *packages)


def _as_root() -> list[str] | None:
    """What a command of root's begins with."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    return sudo if shutil.which("sudo") and _run(*sudo, "true", stderr=subprocess.DEVNULL) else None


def _run(*command: str, stderr: int | None = None) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, env=environment, stdin=quiet, stdout=quiet, stderr=stderr, check=False)
    return done.returncode == 0
