"""A real `chroma run` on a free port, for tests; survives `kill -9` and starts again on the same folder."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deploy.ports import is_free

START_TIMEOUT_SECONDS = 60.0
# A hundred ports of this process alone, below those that the system gives out: Chroma takes a second to bind
# its own, and another test process that was given the same one meanwhile would use this one's server.
_ports = cycle(range(first := 10_000 + os.getpid() % 200 * 100, first + 100))


class ChromaServer:
    """Serves `folder`; `url` stays the same through restarts."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        self.port = port or next(port for port in _ports if is_free("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        command = Path(sys.executable).with_name("chroma")
        found = str(command) if command.exists() else shutil.which("chroma")
        assert found, "the `chroma` command is not installed"
        arguments = ["run", "--path", str(self._folder), "--host", "127.0.0.1", "--port", str(self.port)]
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            # A working directory of its own: `chroma run` reads files from where it is started.
            self._process = subprocess.Popen(
                [found, *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=self._folder
            )
        self._wait()
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._end()

    def kill(self) -> None:
        """As the kernel does when memory runs out: no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._end()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the server hangs: it takes connections and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=30)
        self._process = None

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_TIMEOUT_SECONDS
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while time.monotonic() < until:
                if self._process.poll() is not None:
                    raise RuntimeError(f"chroma ended at once with {self._process.returncode}")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.url}/api/v2/heartbeat").is_success:
                        return
                time.sleep(0.05)
        self.kill()
        raise TimeoutError(f"chroma did not answer within {START_TIMEOUT_SECONDS} s")
