"""moto's S3 as a server of its own, for tests: it speaks HTTP, checks no signature, keeps all in memory."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deploy.ports import free_port, http_status
from deploy.supervisor import die_with_parent
from tests.faults.proxy import Proxy
from tests.stack import eventually

BUCKET = "pictures"
SECRET = "the-secret-of-the-store"  # not to be seen anywhere
START_SECONDS = 60.0
# What S3 is asked for, by what the request line says. DeleteObjects is a POST.
_LINE = re.compile(r"(GET|PUT|HEAD|POST|DELETE) (/\S*) HTTP/1")


class ObjectStore:
    """From `__enter__` to `__exit__` there is a bucket, `url`, behind a proxy that can be made to refuse.

    It lists up to `page` objects at once.
    """

    def __init__(self, folder: Path, page: int = 1_000) -> None:
        self._page = page
        self._log = folder / "moto.log"
        self._port = free_port()
        self.proxy = Proxy(lambda: socket.create_connection(("127.0.0.1", self._port), 5))
        self.url = f"s3://{BUCKET}/some/prefix"

    @property
    def env(self) -> dict[str, str]:
        """The usual variables, by which a role finds the store."""
        return {
            "AWS_ACCESS_KEY_ID": "the-key-of-the-store",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
        }

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                env=os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(self._page)},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - for a killed test run
            )
        try:
            eventually(lambda: http_status(self._address("/moto-api/")) == 200, START_SECONDS)
            httpx.put(self._address(f"/{BUCKET}")).raise_for_status()
            self.proxy.__enter__()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.proxy.__exit__(kind, error, trace)
        self._process.kill()
        self._process.wait()

    def _address(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside, the server takes connections and answers nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Inside, there is no connection to it."""
        self.proxy.refusing = True
        self.proxy.cut()
        try:
            yield
        finally:
            self.proxy.refusing = False

    @contextlib.contextmanager
    def checking_keys(self) -> Iterator[None]:
        """Inside, it refuses every access key: it knows none."""
        self._ask_for_keys_after("0")
        try:
            yield
        finally:
            self._ask_for_keys_after("inf")

    def _ask_for_keys_after(self, requests: str) -> None:
        httpx.post(self._address("/moto-api/reset-auth"), content=requests).raise_for_status()

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Counts the requests that come inside, by kind; LIST is a GET of a bucket."""
        found: Counter[str] = Counter()
        start = self._log.stat().st_size
        yield found
        with self._log.open(encoding="utf-8", errors="replace") as log:
            log.seek(start)
            for method, path in _LINE.findall(log.read()):
                found["LIST" if method == "GET" and "list-type=" in path else method] += 1
