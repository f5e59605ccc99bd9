import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.supervisor import Child, Supervisor, kill_groups
from shared.errors import ConfigError
from tests.stack import eventually, group_members

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# A parent and a child that both ignore SIGTERM: what only a killed process group gets rid of.
STUBBORN = [
    sys.executable,
    "-c",
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
    "print('up', flush=True); time.sleep(600)",
]
CHATTY = [sys.executable, "-c", "import itertools\nfor n in itertools.count(): print(n, flush=True)"]
PARENT = """
import sys, time
from pathlib import Path
from deploy.supervisor import Child, Supervisor
run, logs = Path(sys.argv[1]), Path(sys.argv[2])
supervisor = Supervisor(run, logs, {}, print)
supervisor.open()
supervisor.start(Child("stubborn", sys.argv[3:]))
time.sleep(600)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    made = Supervisor(tmp_path / "children.json", tmp_path / "logs", dict(os.environ), said.append)
    said.clear()
    made.open()
    yield made
    made.stop()
    for number, handler in handlers.items():
        signal.signal(number, handler)


said: list[str] = []


def _pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def _tick_until_running(supervisor: Supervisor, child: Child, other_than: int) -> None:
    def again() -> bool:
        supervisor.tick()
        return child.running and _pid(child) != other_than

    eventually(again)


def test_a_nice_child_gives_way_also_where_sessions_are_weighed(supervisor: Supervisor) -> None:
    child = Child("sleeper", SLEEPER, niceness=7)
    supervisor.start(child)
    assert os.getpriority(os.PRIO_PROCESS, _pid(child)) == 7
    group = Path(f"/proc/{_pid(child)}/autogroup")
    assert not group.exists() or group.read_text().endswith("nice 7\n")


def test_a_child_has_an_environment_beside_that_of_all(supervisor: Supervisor, tmp_path: Path) -> None:
    told = "import os; print(os.environ['OF_IT'], 'HOME' in os.environ, flush=True)"
    supervisor.start(Child("own", [sys.executable, "-c", told], env={"OF_IT": "alone"}))
    eventually(lambda: (tmp_path / "logs" / "own.log").read_text() == "alone True\n")
    assert "OF_IT" not in supervisor.env


def test_a_killed_child_is_started_again_and_the_user_is_told_why(supervisor: Supervisor) -> None:
    child = Child("sleeper", SLEEPER)
    supervisor.start(child)
    first = _pid(child)
    os.kill(first, signal.SIGKILL)
    _tick_until_running(supervisor, child, first)
    assert "sleeper ended (signal SIGKILL)" in said[0]


def test_a_child_that_dies_at_once_fails_the_start_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start(Child("broken", [sys.executable, "-c", "print('no luck'); raise SystemExit(3)"]))
    with pytest.raises(ConfigError, match="broken does not start: no luck"):
        supervisor.wait_until(lambda: False, "it", 60)


def test_waiting_ends_at_its_deadline(supervisor: Supervisor) -> None:
    with pytest.raises(ConfigError, match="the API was not ready within 0 s"):
        supervisor.wait_until(lambda: False, "the API", 0.0)


def test_a_signal_ends_the_waiting(supervisor: Supervisor) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        supervisor.wait_until(lambda: False, "it", 60)


def test_stop_ends_the_groups_in_order(supervisor: Supervisor, tmp_path: Path) -> None:
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[2], 'a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    record = tmp_path / "order"
    for name, group in (("c", 3), ("a", 1), ("b", 2)):
        supervisor.start(Child(name, [sys.executable, "-c", script, name, str(record)], stop_group=group))
    eventually(lambda: all("up" in (tmp_path / "logs" / f"{name}.log").read_text() for name in "abc"))
    supervisor.stop()
    assert record.read_text() == "abc"


def test_stop_kills_a_group_that_ignores_sigterm(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.STOP_SECONDS", 0.2)
    child = Child("stubborn", STUBBORN)
    supervisor.start(child)
    pid = _pid(child)
    eventually(lambda: len(group_members(pid)) == 2)
    eventually(lambda: "up" in (tmp_path / "logs" / "stubborn.log").read_text())
    supervisor.stop()
    eventually(lambda: not group_members(pid))


def test_a_parent_killed_with_9_leaves_no_process(tmp_path: Path) -> None:
    run = tmp_path / "children.json"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(run), str(tmp_path / "logs"), *STUBBORN])
    eventually(lambda: run.exists() and json.loads(run.read_text()))
    pid = json.loads(run.read_text())[0]["pid"]
    eventually(lambda: len(group_members(pid)) == 2)
    parent.kill()
    parent.wait()
    eventually(lambda: not group_members(pid))


def test_the_next_start_kills_what_was_left_but_no_process_that_took_over_the_id(tmp_path: Path) -> None:
    left, other = (subprocess.Popen(SLEEPER, start_new_session=True) for _ in range(2))
    try:
        born = Path(f"/proc/{left.pid}/stat").read_text().rpartition(")")[2].split()[19]
        entries = [
            {"name": "left", "pid": left.pid, "born": born},
            {"name": "other", "pid": other.pid, "born": "1"},
        ]
        run = tmp_path / "children.json"
        run.write_text(json.dumps(entries))
        kill_groups(run)
        assert left.wait(10) == -signal.SIGKILL
        assert other.poll() is None
        assert not run.exists()
    finally:
        left.kill()
        other.kill()
        left.wait()
        other.wait()


def test_the_end_of_a_large_log_is_put_aside_at_the_next_start(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.MAX_LOG_BYTES", 10)
    (tmp_path / "logs" / "sleeper.log").write_text("x" * 11 + "the end")
    supervisor.start(Child("sleeper", SLEEPER))
    assert (tmp_path / "logs" / "sleeper.log").stat().st_size == 0
    assert (tmp_path / "logs" / "sleeper.log.1").read_text() == "xxxthe end"


def test_a_log_stays_small_while_its_child_goes_on_writing(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.MAX_LOG_BYTES", 10_000)
    log, aside = tmp_path / "logs" / "chatty.log", tmp_path / "logs" / "chatty.log.1"
    child = Child("chatty", CHATTY)
    supervisor.start(child)
    first, written = _pid(child), []

    def again() -> bool:
        """Whether it was put aside, and the child went on after that, three times."""
        supervisor.tick()
        if log.stat().st_size == 0 and aside.exists():
            assert 0 < aside.stat().st_size <= 10_000
            eventually(lambda: log.read_text().count("\n") > 1)
            written.append(int(log.read_text().split("\n")[1]))
        return len(written) == 3

    eventually(again)
    assert written == sorted(set(written)), "what it wrote last is there, without a hole of the old length"
    assert _pid(child) == first


def test_a_log_that_cannot_be_put_aside_is_emptied(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.MAX_LOG_BYTES", 10)
    supervisor.start(Child("sleeper", SLEEPER))
    log = tmp_path / "logs" / "sleeper.log"
    log.write_text("x" * 11)
    log.with_suffix(".log.1").mkdir()  # as good as a full disk
    supervisor.tick()
    assert log.stat().st_size == 0


def test_what_supervises_nothing_is_interrupted_by_a_signal(supervisor: Supervisor) -> None:
    with pytest.raises(KeyboardInterrupt), supervisor.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    with pytest.raises(KeyboardInterrupt), supervisor.interruptible():
        pytest.fail("the signal came before")
    os.kill(os.getpid(), signal.SIGTERM)  # waited for, as ever
    assert supervisor.stopping
