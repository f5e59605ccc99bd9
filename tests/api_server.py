"""`image-search api` as a process of its own, for tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.ports import free_port, http_status
from deploy.supervisor import die_with_parent
from tests.stack import ROOT, eventually

START_SECONDS = 90.0


@contextmanager
def api_server(
    folder: Path, *options: str, path: str = "/healthz", **settings: str
) -> Iterator[tuple[str, int]]:
    """Its address and pid, once `path` answers 200; keywords are settings, the log is in `folder`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IMAGE_SEARCH_")}
    own = {"BLOB_URL": f"file://{folder}/blobs", "DEVICE": "cpu", **settings}
    env = clean | {f"IMAGE_SEARCH_{name}": value for name, value in own.items()} | {"PYTHONPATH": str(ROOT)}
    port = free_port()
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "api", "--port", str(port), *options],
            env=env,
            cwd=folder,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: http_status(f"{url}{path}") == 200, START_SECONDS)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(30)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
