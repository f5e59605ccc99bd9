"""A supervisor of child processes: it restarts them, ends them in order and leaves none behind.

Each child leads its own process group, so that Ctrl-C reaches the parent alone and a child's own children
(Celery's pool, gunicorn's worker) can be ended with it. `python -m deploy.supervisor FILE` is the guard: it
waits until the parent's end of its standard input closes, which the kernel does even after `kill -9`, then
kills every group named in FILE.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import ConfigError

POLL_SECONDS = 0.1
STOP_SECONDS = 10.0  # of the 15 s that `up` may take to end; the rest is for the groups after the first
LAST_STOP_SECONDS = 2.0
BACKOFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0  # a child that lived this long starts again at the first backoff
START_TRIES = 3
MAX_LOG_BYTES = 20 * 2**20
_PR_SET_PDEATHSIG = 1


@dataclass(eq=False)
class Child:
    """A command to keep running. Children of a lower `stop_group` are ended first.

    One with a `niceness` (0 to 19) leaves the processor to those with less when all want it. `env` is what
    its environment has beside the supervisor's.
    """

    name: str
    argv: Sequence[str]
    stop_group: int = 0
    niceness: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float = field(default=0.0, repr=False)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """A supervisor that gives children the environment `env` and writes their output to `logs`/NAME.log.

    Use it from the main thread only: Linux ends a child with the thread that started it.
    """

    def __init__(
        self, run_file: Path, logs: Path, env: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.children: list[Child] = []
        self._run_file = run_file
        self._logs = logs
        self.env = dict(env)  # of the children that are started from now on
        self._say = say
        self._signals = 0
        self._interrupts = False
        self._guard: subprocess.Popen[bytes] | None = None

    def open(self, keep_fds: Sequence[int] = ()) -> None:
        """Kill what an earlier run left, start the guard (which inherits `keep_fds`), handle signals."""
        kill_groups(self._run_file)
        self._logs.mkdir(exist_ok=True)
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "deploy.supervisor", str(self._run_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=keep_fds,
            start_new_session=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._interrupts:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise KeyboardInterrupt on a signal that comes in the block, which supervises nothing."""
        self._interrupts = True
        try:
            if self.stopping:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    @property
    def stopping(self) -> bool:
        return self._signals > 0

    def start(self, child: Child) -> None:
        self.children.append(child)
        self._spawn(child)

    def wait_until(self, ready: Callable[[], bool], name: str, timeout_s: float) -> None:
        """Supervise until `ready()`.

        Raises ConfigError for a child that keeps dying or after `timeout_s`, KeyboardInterrupt on a signal.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.tick()
            if self.stopping:
                raise KeyboardInterrupt
            for child in self.children:
                if child.failures >= START_TRIES:
                    raise ConfigError(f"{child.name} does not start: {self._last_line(child)}")
            if time.monotonic() > deadline:
                raise ConfigError(f"{name} was not ready within {timeout_s:.0f} s; see {self._logs}")
            time.sleep(POLL_SECONDS)

    def run(self) -> None:
        """Supervise until SIGINT, SIGTERM or SIGHUP."""
        while not self.stopping:
            self.tick()
            time.sleep(POLL_SECONDS)

    def tick(self) -> None:
        """Restart what died and is due, and keep the logs small."""
        now = time.monotonic()
        for child in self.children:
            self._bound_log(child)
            if child.running:
                continue
            if child.process is not None:
                self._schedule_restart(child, now)
            elif now >= child.due_at:
                self._spawn(child)

    def stop(self) -> None:
        """End every child, group by group: SIGTERM, then SIGKILL; a second Ctrl-C skips the waiting."""
        patience = STOP_SECONDS
        for group in sorted({child.stop_group for child in self.children}):
            members = [child for child in self.children if child.stop_group == group]
            for child in members:
                self._signal(child, signal.SIGTERM)
            deadline = time.monotonic() + patience
            hurry = self._signals + 1
            while any(c.running for c in members) and time.monotonic() < deadline and self._signals < hurry:
                time.sleep(POLL_SECONDS / 2)
                for child in self.children:
                    self._bound_log(child)
            for child in members:
                self._signal(child, signal.SIGKILL)
                if child.process is not None:
                    child.process.wait()
            patience = LAST_STOP_SECONDS
        self.children.clear()
        self._record()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(timeout=1)

    def _spawn(self, child: Child) -> None:
        self._bound_log(child)
        with self._log(child).open("ab") as log:
            child.process = launch(child.argv, {**self.env, **child.env}, log.fileno(), signal.SIGKILL)
        if child.niceness:
            set_niceness(child.process.pid, child.niceness)
        child.started_at = time.monotonic()
        self._record()

    def _schedule_restart(self, child: Child, now: float) -> None:
        assert child.process is not None  # noqa: S101 - the caller looked
        self._signal(child, signal.SIGKILL)
        if now - child.started_at > STEADY_SECONDS:
            child.failures = 0
        wait_s = BACKOFF_SECONDS[min(child.failures, len(BACKOFF_SECONDS) - 1)]
        child.failures += 1
        child.due_at = now + wait_s
        self._say(
            f"{child.name} ended ({_how(child.process.returncode)}), starting it again in {wait_s:g} s; "
            f"its last words: {self._last_line(child)}"
        )
        child.process = None

    def _signal(self, child: Child, number: int) -> None:
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS zombies
                os.killpg(child.process.pid, number)

    def _record(self) -> None:
        entries = [
            {"name": child.name, "pid": child.process.pid, "born": _birth(child.process.pid)}
            for child in self.children
            if child.process is not None
        ]
        partial = self._run_file.with_suffix(".tmp")
        partial.write_text(json.dumps(entries), encoding="utf-8")
        partial.replace(self._run_file)

    def _log(self, child: Child) -> Path:
        return self._logs / f"{child.name}.log"

    def _bound_log(self, child: Child) -> None:
        """Copy the end of a large log to NAME.log.1 and empty it; the child goes on appending to it."""
        path = self._log(child)
        with contextlib.suppress(OSError):  # a full disk, say, on which emptying helps most
            if (size := path.stat().st_size) <= MAX_LOG_BYTES:
                return
            with path.open("rb") as log:
                log.seek(size - MAX_LOG_BYTES)
                path.with_suffix(".log.1").write_bytes(log.read(MAX_LOG_BYTES))
        with contextlib.suppress(OSError):
            os.truncate(path, 0)

    def _last_line(self, child: Child) -> str:
        path = self._log(child)
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 4096))
            lines = log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing") + f" ({path})"


def launch(
    argv: Sequence[str], env: Mapping[str, str], log_fd: int, last_signal: signal.Signals
) -> subprocess.Popen[bytes]:
    """Start a process that leads a session and gets `last_signal` when this one ends (Linux only)."""
    return subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log_fd,
        stderr=log_fd,
        start_new_session=True,
        preexec_fn=die_with_parent(last_signal),  # noqa: PLW1509 - there is one thread
    )


def kill_groups(run_file: Path) -> None:
    """Kill the process groups that `run_file` names, unless the id now belongs to another process."""
    try:
        entries = json.loads(run_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for entry in entries:
        if _birth(entry["pid"]) in (entry["born"], None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(entry["pid"], signal.SIGKILL)
    run_file.unlink(missing_ok=True)


def _birth(pid: int) -> str | None:
    """Return when the process started, in whatever unit the system has; None without such a process.

    None for a leader that is gone while its group lives on: a group's id is not given away meanwhile.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        if sys.platform == "linux":
            return None
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    )
    return found.stdout.strip() or None


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` that has the kernel send the child `number` when its parent ends (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arm


def set_niceness(pid: int, niceness: int) -> None:
    """Set a group's niceness, also as `autogroup`, by which Linux may weigh whole sessions."""
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, pid, niceness)
    for _ in range(5):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")
        except BlockingIOError:  # the kernel lets an ordinary user do it ten times per second
            time.sleep(POLL_SECONDS)
        except OSError:  # no autogroups here, or the child has ended
            return
        else:
            return


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _guard(run_file: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    kill_groups(run_file)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
