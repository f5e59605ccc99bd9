"""Every role as processes of its own, as on machines of their own, for tests; they share their settings."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.ports import free_port, http_status
from deploy.supervisor import die_with_parent
from tests import short_waits
from tests.checkpoints import tiny_checkpoint
from tests.chroma_server import ChromaServer
from tests.redis_server import redis_server
from tests.stack import ROOT, eventually, group_members

START_SECONDS = 120.0
STAGES = ("fetch", "encode", "index")


class Roles:
    """From `__enter__` to `__exit__` there are Redis, Chroma, an API of two processes, workers and a sweeper.

    `url` is the API's address, `env` what any other command needs; keywords are settings.
    """

    def __init__(self, folder: Path, blob_url: str, variables: dict[str, str], **settings: str) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IMAGE_SEARCH_", "AWS_"))
        }
        own = {
            "BLOB_URL": blob_url,
            "MODEL": str(folder / "model"),
            "DEVICE": "cpu",
            "ALLOW_HOSTS": "127.0.0.1",
        }
        self.env = (
            clean | variables | {f"IMAGE_SEARCH_{name}": value for name, value in (own | settings).items()}
        )
        self.env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        tiny_checkpoint(self._folder / "model")
        with ExitStack() as exits:
            redis_url = exits.enter_context(redis_server(self._folder))
            chroma = exits.enter_context(ChromaServer(self._folder / "chroma"))
            self.env |= {"IMAGE_SEARCH_REDIS_URL": redis_url, "IMAGE_SEARCH_CHROMA_URL": chroma.url}
            exits.callback(self._stop_all)
            for role in ("api", *STAGES, "sweep"):
                self.start(role)
            self._wait()
            self._servers = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def start(self, role: str) -> None:
        arguments = ["worker", "--queues", role] if role in STAGES else [role]
        if role == "api":
            arguments += ["--port", str(self._port), "--processes", "2"]
        with (self._folder / f"{role}.log").open("ab") as log:
            self._running[role] = subprocess.Popen(
                [sys.executable, "-m", short_waits.__name__, *arguments],
                env=self.env,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - for a killed test run
            )

    def kill(self, role: str) -> None:
        """As the kernel does when memory runs out: every process of the role, with no goodbye."""
        process = self._running[role]
        for pid in group_members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def restart(self, role: str) -> None:
        self._running[role].terminate()
        self._running[role].wait(60)
        self.start(role)
        self._wait()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """What `image-search ARGUMENTS` does with the deployment's settings."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env=self.env | {"IMAGE_SEARCH_URL": self.url},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def logs(self) -> str:
        """What all roles have logged."""
        names = ("api", *STAGES, "sweep")
        return "\n".join((self._folder / f"{name}.log").read_text(errors="replace") for name in names)

    def _wait(self) -> None:
        try:
            eventually(lambda: http_status(f"{self.url}/readyz") == 200, START_SECONDS)
        except AssertionError:
            raise AssertionError(self.logs()) from None

    def _stop_all(self) -> None:
        for process in self._running.values():
            process.terminate()
        for role, process in self._running.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(role)
