"""The programs of the system that these tests start.

`python -m tests.system.programs` installs those that are not there, or ends with a line that says which.
"""

import os
import shutil
import sys

from tests import system_packages

PACKAGES = {
    "curl": "curl",
    "exiftool": "libimage-exiftool-perl",
    "ip": "iproute2",
    "jq": "jq",
    "nginx": "nginx",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}  # Debian's, by the program


def find(program: str) -> str | None:
    """Debian has servers in a folder that is on no user's PATH."""
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


def main() -> None:
    if missing := _missing():
        system_packages.install(*missing)
    if missing := _missing():
        names = " ".join(missing)
        sys.exit(f"The system tests need {names}: install that first (Debian: apt-get install {names}).")


def _missing() -> list[str]:
    return sorted({package for program, package in PACKAGES.items() if not find(program)})


if __name__ == "__main__":
    main()
