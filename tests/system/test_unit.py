"""deploy/image-search.service, as systemd reads it."""

import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT
from tests.system import programs

UNIT = ROOT / "deploy/image-search.service"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = programs.find("systemd-analyze")
    assert program, "make test-system installs it"
    command = Path(sys.executable).with_name("image-search")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/image-search/.venv/bin/image-search", str(command))
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    verify = [program, "verify", "--man=no", str(tmp_path / UNIT.name)]
    told = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr) == (0, "")
