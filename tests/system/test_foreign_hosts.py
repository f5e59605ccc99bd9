"""Runs tests/system/foreign_hosts.py in a network of its own, in which every address is this machine's."""

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT
from tests.system import programs

ALONE = """
mount --bind "$FOREIGN_NAMES" /etc/hosts
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo || true
exec "$@"
"""


def test_foreign_hosts_are_treated_as_docs_hosts_says(tmp_path: Path) -> None:
    assert programs.find("unshare"), "make test-system installs it"
    assert programs.find("ip"), "make test-system installs it"
    names = tmp_path / "hosts"
    names.write_text("127.0.0.1 localhost\n", encoding="utf-8")
    inside = [sys.executable, "-m", "pytest", "-n0", "-q", "-m", "system", "-p", "no:cacheprovider"]
    inside += ["--basetemp", str(tmp_path / "inside"), "--durations=20", "tests/system/foreign_hosts.py"]
    told = subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", "sh", "-ec", ALONE, "sh", *inside],
        cwd=ROOT,
        env=os.environ | {"FOREIGN_NAMES": str(names), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(told.stdout)
    assert told.returncode == 0, told.stderr
