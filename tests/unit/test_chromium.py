"""Where the browser tests get their Chromium, on machines that have none or the wrong one."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.browser import chromium
from tests.stack import eventually


def program(path: Path, prints: str, status: int = 0) -> str:
    path.write_text(f"#!/bin/sh\necho '{prints}'\nexit {status}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_chromium_that_is_too_old_or_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    own = str(tmp_path / "none")
    playwright: Any = SimpleNamespace(chromium=SimpleNamespace(executable_path=own))
    program(tmp_path / "chromium", "Chromium 131.0.6778.85 built on Debian")
    program(tmp_path / "chromium-browser", "this needs the chromium snap to be installed", status=1)
    assert chromium.find(playwright) is None
    program(Path(own), "Google Chrome for Testing 159.0.8154.6")
    assert chromium.find(playwright) == own
    recent = program(tmp_path / "chromium", "Chromium 132.0.6834.83 built on Debian")
    assert chromium.find(playwright) == recent


def test_a_machine_on_which_none_can_be_had_is_told_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get and no sudo
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "FETCH", (sys.executable, "-c", "raise SystemExit('refused')"))
    with pytest.raises(SystemExit) as ended:
        chromium.main()
    assert ended.value.code == chromium.NONE
    assert "apt-get install chromium" in chromium.NONE
    assert "\n" not in chromium.NONE


def test_a_download_that_stands_still_is_given_up_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(tmp_path))
    monkeypatch.setattr(chromium, "FETCH", ("sh", "-c", "sleep 60 & sleep 60"))
    began = time.monotonic()
    chromium.fetch(limit_s=1)
    assert time.monotonic() - began < 20
    eventually(lambda: not any(_has(path, str(tmp_path)) for path in Path("/proc").glob("[0-9]*/environ")))


def _has(environ: Path, text: str) -> bool:
    try:
        return text.encode() in environ.read_bytes()
    except OSError:
        return False
