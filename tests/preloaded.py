"""Processes that need not import for seconds what they run: forks of one that has imported it, for tests.

`python -m tests.preloaded MODULES` is that one. It starts when a test process first asks for a fork and ends
with it. What it forks, `up` say, forks its own children too, where it would start Python anew.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy import chroma_tenant, supervisor

ROLES_IMPORT = (
    "api.wsgi",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "chromadb.api.rust",
    "chromadb.cli.cli",
    "deploy.embedded",
    "deploy.gunicorn_worker",
    "deploy.server",
    "gunicorn.glogging",
    "httpcore",
    "kombu.transport.redis",
    "torch",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "worker.app",
    "worker.recovery.sweep",
)
_MAX_REQUEST = 2**17
_ENV = dict(os.environ)  # while no test has changed it
_launch = supervisor.launch


class Preloaded:
    """A command's process, with what is used of `Popen`; a process that has imported `modules` forks it."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        log_fd: int,
        modules: tuple[str, ...] = ROLES_IMPORT,
    ) -> None:
        self._minder, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps([*argv, dict(env)]).encode()
            preloader = _preloader(modules, env.get("OMP_NUM_THREADS"))
            socket.send_fds(preloader, [request], [log_fd, theirs.fileno()])
        self.args = argv
        self.pid = int(self._minder.recv(64))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._minder.settimeout(timeout)
            try:
                self.returncode = int(self._minder.recv(64) or -signal.SIGKILL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._minder.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _preloader(modules: tuple[str, ...], threads: str | None) -> socket.socket:
    """The connection to the process that forks, where OpenMP has so many threads."""
    # Read when torch is imported, and never again.
    openmp = {"OMP_WAIT_POLICY": "PASSIVE"} | ({"OMP_NUM_THREADS": threads} if threads else {})
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-um", __name__, *modules],
            env={name: value for name, value in _ENV.items() if name != "OMP_NUM_THREADS"} | openmp,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=supervisor.die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - for a killed test run
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


class Forked:
    """A child that this process forked, with what is used of `Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def fork(run: Callable[[], object]) -> Forked:
    """A child that ends with `run`, as Python does with a program."""
    if pid := os.fork():
        return Forked(pid)
    code: object = 1
    try:
        atexit._clear()  # the parent's
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 1)


def launch(
    argv: Sequence[str], env: Mapping[str, str], log_fd: int, last_signal: signal.Signals
) -> "Forked | subprocess.Popen[bytes]":
    """Does what the supervisor's `launch` does, by a fork if it is Python that is to run."""
    module = argv[2] if argv[:2] == [sys.executable, "-m"] else None
    if module is None and b"python" not in Path(argv[0]).read_bytes()[:200]:  # no script's first lines
        return _launch(argv, env, log_fd, last_signal)
    die_with_parent = supervisor.die_with_parent(last_signal)
    assert die_with_parent

    def run() -> None:
        os.setsid()
        die_with_parent()
        _leave_behind(env, log_fd)
        if module is None:
            sys.argv = [*argv]
            runpy.run_path(argv[0], run_name="__main__")
        else:
            sys.argv = [module, *argv[3:]]
            runpy.run_module(module, run_name="__main__", alter_sys=True)

    return fork(run)


def _leave_behind(env: Mapping[str, str], log_fd: int) -> None:
    """Gives a fork the signals, files and environment of a process that was started anew."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(env)


def serve(requests: socket.socket, modules: Sequence[str]) -> None:
    """Forks what is asked for, until the other end of `requests` is closed."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.unfreeze = lambda: None  # a worker has its collector go through all that was imported
    supervisor.launch = launch  # type: ignore[assignment]
    chroma_tenant.make_file = _make_file
    minders: list[Forked] = []
    while True:
        request, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 2)
        minders = [one for one in minders if one.poll() is None]
        if not request:
            return
        arm = supervisor.die_with_parent(signal.SIGKILL)
        minders.append(fork(functools.partial(_mind, request, *fds, arm)))
        for fd in fds:
            os.close(fd)


def _mind(request: bytes, log_fd: int, answer_fd: int, die_with_parent: Callable[[], None]) -> None:
    """Starts what is asked for, says its pid and, when it ends, how."""
    die_with_parent()
    *argv, env = json.loads(request)
    process = launch(argv, env, log_fd, signal.SIGTERM)
    os.write(answer_fd, str(process.pid).encode())
    os.write(answer_fd, str(process.wait()).encode())


def _make_file(folder: Path) -> None:
    from shared.index.connection import in_process_server  # noqa: PLC0415 - chromadb

    fork(lambda: in_process_server(folder)).wait()


if __name__ == "__main__":
    serve(socket.socket(fileno=0), sys.argv[1:])
