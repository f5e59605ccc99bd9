"""A fork of a process that has imported much: to all who look, it is a process that was started anew."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.preloaded import Preloaded
from tests.stack import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks what has threads elsewhere")
TELL = """
import json, os, signal, sys
told = {
    "argv": sys.argv[1:],
    "env": dict(os.environ),
    "files": len(os.listdir("/proc/self/fd")) - 1,
    "handlers": [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
    "preloaded": "colorsys" in sys.modules,
    "session": os.getsid(0),
}
print(json.dumps(told))
"""
# A supervisor whose child's pid is its output.
PARENT = """
import os, signal, sys, time
from deploy import supervisor
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print(supervisor.launch(sys.argv[2:], os.environ, log, signal.SIGKILL).pid, flush=True)
time.sleep(600)
"""
TEST_RUN = """
import os, signal, sys
from tests.preloaded import Preloaded
print(Preloaded(sys.argv[1:], os.environ, 1, modules=("colorsys",)).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Program:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def script(self, code: str) -> str:
        path = self._folder / f"script{len(list(self._folder.iterdir()))}"
        path.write_text(f"#!{sys.executable}\n{code}")
        return str(path)

    def start(self, code: str, *arguments: str, **env: str) -> Preloaded:
        argv = [self.script(code), *arguments]
        with (self._folder / "log").open("wb") as log:
            return Preloaded(argv, {"PATH": os.environ["PATH"]} | env, log.fileno(), modules=("colorsys",))

    @property
    def output(self) -> str:
        return (self._folder / "log").read_text()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_has_its_own_arguments_environment_files_signals_and_session(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "red")
    process = program.start(TELL, "one", "two", COLOUR="blue")
    assert process.wait(30) == 0
    told: dict[str, Any] = json.loads(program.output)
    assert told == {
        "argv": ["one", "two"],
        "env": {"PATH": os.environ["PATH"], "COLOUR": "blue"},
        "files": 3,
        "handlers": [signal.SIG_DFL] * 3,
        "preloaded": True,
        "session": process.pid,
    }


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no luck')", 1, "no luck\n"),
        ("raise ValueError('no luck')", 1, "ValueError: no luck\n"),
        ("import atexit; atexit.register(print, 'over')", 0, "over\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_its_end_is_that_of_any_program(program: Program, code: str, status: int, words: str) -> None:
    process = program.start(code)
    assert process.wait(30) == status
    assert program.output.endswith(words)
    assert process.poll() == status


def test_who_waits_too_long_for_it_is_told_so_and_can_end_it(program: Program) -> None:
    process = program.start("import time; time.sleep(600)")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


def test_what_a_supervisor_starts_is_forked_too_and_dies_with_it(program: Program, tmp_path: Path) -> None:
    child = program.script(TELL + "import time; sys.stdout.flush(); time.sleep(600)")
    parent = program.start(PARENT, str(tmp_path / "child"), child)
    eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().endswith("}\n"))
    told = json.loads((tmp_path / "child").read_text())
    pid = int(program.output)
    assert (told["preloaded"], told["files"], told["session"]) == (True, 3, pid)
    parent.kill()
    assert parent.wait(30) == -signal.SIGKILL
    eventually(lambda: gone(pid))


def test_a_killed_test_run_leaves_none(program: Program) -> None:
    command = [sys.executable, "-c", TEST_RUN, program.script("import time; time.sleep(600)")]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    eventually(lambda: gone(pid))
