"""A whole `image-search up` for tests: real Redis, real Chroma, real workers, a tiny random checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from deploy.embedded import WORKER_NICENESS
from deploy.ports import free_port, http_status
from deploy.supervisor import launch, set_niceness
from shared.config import Settings
from shared.index.index import Index
from shared.models import Stage
from shared.tasks import make_celery
from tests.checkpoints import tiny_checkpoint
from tests.preloaded import Preloaded

ROOT = Path(__file__).parent.parent
START_SECONDS = 120.0
ROLES = ("redis", "chroma", "api", "fetch", "encode", "index", "sweep")


class Stack:
    """`with Stack(tmp_path, KEEP="none") as stack:` gives a ready stack; keywords are settings.

    `url` is the API's address, `data_dir` the data folder, `env` what another role needs to join the stack,
    `output` what `up` has printed. `module` is what runs as `image-search`. If `preloaded`, its processes are
    forks: 3 s of a core in place of 25, but not what a user starts.
    """

    module = "deploy.cli"

    def __init__(
        self,
        folder: Path,
        *,
        fetch_workers: int = 1,
        encode_workers: int = 1,
        preloaded: bool = sys.platform == "linux",
        **settings: str,
    ) -> None:
        self.data_dir = folder / "data"
        self._model = folder / "model"
        self._workers = ["--fetch-workers", str(fetch_workers), "--encode-workers", str(encode_workers)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IMAGE_SEARCH_")}
        own = {"MODEL": str(self._model), "ALLOW_HOSTS": "127.0.0.1", "DEVICE": "cpu", **settings}
        self._env = clean | {f"IMAGE_SEARCH_{name}": value for name, value in own.items()}
        self._env |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), clean.get("PYTHONPATH", "")]),
        }
        if "MODEL" not in settings:  # the tiny one gains nothing from a second core
            self._env |= {"OMP_NUM_THREADS": "1"}
        self._log = folder / "up.log"
        self._preloaded = preloaded
        self.process: subprocess.Popen[bytes] | Preloaded | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts `up` and waits until it is ready, for the first time or again on the same data."""
        if not self._model.exists():
            tiny_checkpoint(self._model)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = self.spawn("--port", str(port), *self._workers)
        try:
            eventually(lambda: http_status(f"{self.url}/readyz") == 200 or not self.alive, START_SECONDS)
            assert self.alive, "up has ended"
        except AssertionError:
            self.stop()
            raise AssertionError(f"{self.output}\n{self.logs()}") from None

    def configure(self, **settings: str) -> None:
        """Other settings from the next start on."""
        self._env |= {f"IMAGE_SEARCH_{name}": value for name, value in settings.items()}

    def configure_process(self, **variables: str) -> None:
        """Further environment variables from the next start on."""
        self._env |= variables

    def spawn(self, *options: str) -> subprocess.Popen[bytes] | Preloaded:
        """Another `image-search up` on the same data folder."""
        return self._run(self._env, "up", "--data-dir", str(self.data_dir), *options)

    def _run(self, env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes] | Preloaded:
        command = [sys.executable, "-m", self.module, *arguments]
        with self._log.open("ab") as log:
            if self._preloaded:
                return Preloaded(command, env, log.fileno())
            return launch(command, env, log.fileno(), signal.SIGTERM)  # for a killed test run

    @contextmanager
    def joined(self, *arguments: str) -> Iterator[None]:
        """Inside, `image-search ARGUMENTS` is at work too, another worker, say, as nice as those of `up`."""
        process = self._run(self.env, *arguments)
        set_niceness(process.pid, WORKER_NICENESS)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def tasks(self, stage: Stage, workers: int | None = None) -> dict[str, list[int]]:
        """How many messages each worker of this stage alone was given since it started, by its name.

        One number a pool process; those that were given none are left out. Does not wait for more than
        `workers` answers.
        """
        app = make_celery(Settings(broker_url=self.env["IMAGE_SEARCH_BROKER_URL"]))
        asked = app.control.inspect(timeout=5, pattern=f"{stage}-*", matcher="glob", limit=workers)
        return {
            name: [int(writes) for writes in answer["pool"]["writes"]["raw"].split(", ") if writes]
            for name, answer in (asked.stats() or {}).items()
        }

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def env(self) -> dict[str, str]:
        given: dict[str, str] = json.loads(
            (self.data_dir / "run" / "settings.json").read_text(encoding="utf-8")
        )
        return self._env | given

    def index(self, url: str | None = None, timeout_s: float = 5.0) -> Index:
        """The stack's collections, past its API; by another way to its Chroma if `url` is given."""
        tenant = self.env["IMAGE_SEARCH_CHROMA_TENANT"]
        return Index(url or self.env["IMAGE_SEARCH_CHROMA_URL"], tenant=tenant, timeout_s=timeout_s)

    def log(self, role: str) -> str:
        return (self.data_dir / "logs" / f"{role}.log").read_text(encoding="utf-8", errors="replace")

    def logs(self) -> str:
        """The ends of all logs, to be shown with a failure."""
        folder = self.data_dir / "logs"
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in folder.glob("*")
        )

    def leader(self, role: str) -> int | None:
        """The pid that `up` started for `role` and watches."""
        try:
            children = json.loads((self.data_dir / "run" / "children.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return next((child["pid"] for child in children if child["name"] == role), None)

    def processes(self, role: str) -> list[int]:
        """Every process of a role, the leader first: a worker's pool is led by its parent."""
        leader = self.leader(role)
        if leader is None:
            return []
        return sorted(group_members(leader), key=lambda pid: (pid != leader, pid))

    @contextmanager
    def paused(self, role: str) -> Iterator[None]:
        """Every process of a role is there and does nothing."""
        stopped = self.processes(role)
        assert stopped
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def mine(self) -> list[int]:
        """Every process whose environment, command or output names this folder, `up` itself included."""
        marks = (str(self.data_dir).encode(), str(self._model).encode(), str(self._log).encode())
        return [pid for pid, text in _all_processes() if any(mark in text for mark in marks)]


def eventually(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Waits until `condition()` is true, or fails. Asks ever less often: others need the cores."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < timeout_s, f"not within {timeout_s} s"
        time.sleep(min(0.05 + waited / 20, 0.5))


def finished(http: httpx.Client, answer: httpx.Response, timeout_s: float = 90.0) -> dict[str, Any]:
    """The job that `answer` accepted, once it has ended; its counts always sum to its total."""
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = {}

    def done() -> bool:
        job.update(http.get(answer.headers["Location"]).json())
        assert sum(job["counts"].values()) == job["total"]
        return bool(job["finished_at"])

    eventually(done, timeout_s)
    return job


def group_members(pgid: int) -> list[int]:
    """The living processes of a process group (zombies left out)."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == pgid and state != "Z":
            members.append(int(path.parent.name))
    return members


def _all_processes() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            yield int(folder.name), text + os.fsencode(os.path.realpath(folder / "fd" / "1"))
        except OSError:
            continue
