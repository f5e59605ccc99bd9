"""A real stack whose connections, processes and disk can be broken, and the check that nothing came of it."""

import contextlib
import functools
import resource
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from redis import Redis
from redis.exceptions import RedisError

from shared.errors import ImageSearchError
from shared.index.index import Index
from shared.ledger.ledger import Ledger
from shared.services import Services
from tests.checkpoints import tiny_checkpoint
from tests.faults import up
from tests.faults.proxy import Proxy
from tests.image_server import ImageServer
from tests.object_store import ObjectStore
from tests.services import services_of
from tests.stack import Stack, eventually
from worker.recovery import rebuild

DISTINCT, REPEATED, MISSING = 96, 12, 4
POISONED_JOB, POISONED = 20, 2
POISON = "refused by the index"  # in the metadata of pictures that Chroma is to refuse
BLOB_BYTES = 256 * 2**20  # what a hundred rounds write, and more
JOB_SECONDS = 240.0  # far beyond what any injection may cost


class ProxiedStack(Stack):
    module = "tests.faults.up"


@dataclass(frozen=True)
class Outcome:
    """What became of a job that was disturbed. `seconds` counts from the end of the last fault."""

    seconds: float
    job: dict[str, Any]
    lost: int
    doubled: int
    wrong: int
    extra: int

    @property
    def sound(self) -> bool:
        expected = {"indexed": DISTINCT, "duplicate": REPEATED, "failed": MISSING}
        counts = {state: count for state, count in self.job["counts"].items() if count}
        return counts == expected and not (self.lost or self.doubled or self.wrong or self.extra)


class Rig:
    """From `__enter__` to `__exit__` a stack behind proxies, its blob store on a small disk of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))  # a socket's path is short
        data = self._folder / "data"
        self.other_model = self._folder / "models" / "siglip"
        self.redis = Proxy(lambda: _unix(up.redis_socket(data)))
        self.chroma = Proxy(lambda: socket.create_connection(("127.0.0.1", up.chroma_port(data)), 5))
        self.pictures = ImageServer()
        self.source_folder = self._folder / "sources"
        self._bucket = ObjectStore(self._folder)
        self.stack = ProxiedStack(
            self._folder,
            CHUNK_SIZE="8",
            FETCH_CONCURRENCY="4",
            HOST_RATE="1000",
            KEEP="original",
            LOG_LEVEL="warning",
            MODELS_FOLDER=str(self.other_model.parent),
            RATE_LIMIT="off",
            SOURCE_FOLDERS=str(self.source_folder),
        )
        self.stack.configure_process(
            **{up.REDIS_PORT: str(self.redis.port), up.CHROMA_PORT: str(self.chroma.port)},
            **self._bucket.env,
        )
        self.blobs = data / "blobs"
        self.reference: dict[str, np.ndarray] = {}
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            exits.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self.blobs.mkdir(parents=True)
            self.source_folder.mkdir()
            tiny_checkpoint(self.other_model, shape="tiny siglip", spread=3.0)
            self._own_disk = exits.enter_context(_small_disk(self.blobs))
            for part in (self.redis, self.chroma, self.pictures, self.stack):
                exits.enter_context(part)
            self._exits = exits.pop_all()
        self._make_reference()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def submit(self, collection: str) -> str:
        """A job of sound, repeated and missing pictures; asked for until it is taken, as clients do."""
        photos = [self.pictures.url(f"/photo/{n}.jpg?w=48&h=48&ms=150") for n in range(DISTINCT)]
        missing = [self.pictures.url(f"/status/404?n={n}") for n in range(MISSING)]
        return self.post({"urls": photos + photos[:REPEATED] + missing, "collection": collection})

    def submit_poisoned(self, collection: str) -> str:
        """A job of POISONED_JOB pictures, of which POISONED have POISON in their metadata."""
        items = [{"url": self.pictures.url(f"/photo/{n}.jpg?w=48&h=48")} for n in range(POISONED_JOB)]
        poisoned = [item | {"metadata": {"note": POISON}} for item in items[:POISONED]]
        return self.post({"items": items[POISONED:] + poisoned, "collection": collection})

    @functools.cached_property
    def bucket(self) -> ObjectStore:
        """A bucket that the stack's sources can read; it starts when it is first asked for."""
        return self._exits.enter_context(self._bucket)

    def get(self, path: str, **params: str) -> httpx.Response:
        """An answer; asked for until a server is there that can give it."""
        return self._answered("GET", path, params={**params})

    def put(self, path: str, body: dict[str, Any]) -> None:
        answer = self._answered("PUT", path, json=body)
        assert answer.is_success, answer.text

    def delete(self, path: str, **params: str) -> httpx.Response:
        return self._answered("DELETE", path, params={**params})

    def post(self, body: dict[str, Any], path: str = "/v1/jobs") -> str:
        """Asks for a job until it is taken; returns its id."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        job_id = ""

        def taken() -> bool:
            nonlocal job_id
            answer = self._request("POST", path, json=body, headers=headers)
            assert answer is None or answer.status_code in (202, 503), answer.text
            job_id = answer.json()["job_id"] if answer is not None and answer.status_code == 202 else ""
            return bool(job_id)

        eventually(taken, JOB_SECONDS)
        return job_id

    def finished(self, job_id: str) -> dict[str, Any]:
        """The job, once it has ended; its counts sum to its total whenever it is asked for."""
        job: dict[str, Any] = {}

        def over() -> bool:
            answer = self._request("GET", f"/v1/jobs/{job_id}")
            if answer is None or answer.status_code == 503:
                return False
            assert answer.status_code == 200, answer.text
            job.update(answer.json())
            assert sum(job["counts"].values()) == job["total"], job
            return bool(job["finished_at"])

        eventually(over, JOB_SECONDS)
        return job

    def outcome(self, collection: str, job: dict[str, Any], calm_at: float) -> Outcome:
        """Compares what Chroma and the vector log have with the undisturbed reference."""
        seconds = max(0.0, time.time() - calm_at)
        eventually(self.at_rest, JOB_SECONDS)
        listed = Counter(item["image_id"] for item in self.items(job["job_id"], "indexed"))
        opened = self.index.collection(collection)
        there = opened.vectors(list(opened.ids()))
        faults = rebuild.verify(self.services, collection)
        return Outcome(
            seconds=seconds,
            job=job,
            lost=len(self.reference.keys() - there.keys()) + len(self.reference.keys() - listed.keys()),
            doubled=sum(count - 1 for count in listed.values()),
            wrong=sum(
                float(there[i] @ self.reference[i]) < 0.9999 for i in there.keys() & self.reference.keys()
            )
            + len(faults.wrong),
            extra=len(there.keys() - self.reference.keys()) + len(faults.extra) + len(faults.missing),
        )

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """No byte more can be written to the blob store, or, without a disk of its own, to any file."""
        if self._own_disk:
            filler = self.blobs / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**16))
            yield
            filler.unlink()
            return
        roles = ("api", "fetch", "encode", "index", "sweep")
        writers = [pid for role in roles for pid in self.stack.processes(role)]
        _limit_files(writers, 0)
        yield
        _limit_files(writers, resource.RLIM_INFINITY)

    @property
    def services(self) -> Services:
        return services_of(self.stack)

    @property
    def index(self) -> Index:
        return self.stack.index(f"http://127.0.0.1:{up.chroma_port(self.stack.data_dir)}")

    @property
    def ledger(self) -> Ledger:
        return Ledger(f"unix://{up.redis_socket(self.stack.data_dir)}?db=0")

    def _make_reference(self) -> None:
        job = self.finished(self.submit("reference"))
        assert job["counts"]["indexed"] == DISTINCT, job
        opened = self.index.collection("reference")
        self.reference = opened.vectors(list(opened.ids()))
        assert len(self.reference) == DISTINCT

    def at_rest(self) -> bool:
        try:
            self.index.ping()  # it may have been killed after the job's last write
            return not any(one.waiting + one.running for one in self.ledger.workers.backlog().queues)
        except ImageSearchError:
            return False

    def chunks_encoding(self) -> int:
        """How many chunks are at encode, with a worker or without."""
        encode = self.ledger.workers.backlog().queues[1]
        return encode.waiting + encode.running

    def chunks(self, job_id: str) -> list[dict[str, str]]:
        """What the ledger has of each chunk of a job that is not yet done."""
        socket_path = str(up.redis_socket(self.stack.data_dir))
        with Redis(unix_socket_path=socket_path, decode_responses=True) as redis:
            return [redis.hgetall(key) for key in redis.scan_iter(f"is:chunk:{job_id}:*", 1_000)]

    def is_done_with(self, jobs: Sequence[str]) -> bool:
        """Chroma answers, and nothing of these jobs is under way."""
        try:
            self.index.ping()
            return not any(self.chunks(job) for job in jobs)
        except (ImageSearchError, RedisError):
            return False

    def items(self, job_id: str, status: str) -> Iterator[dict[str, Any]]:
        """The items of a job that ended so, page by page."""
        cursor = None
        while True:
            params = {"status": status, "limit": 500} | ({"cursor": cursor} if cursor else {})
            answer = httpx.get(f"{self.stack.url}/v1/jobs/{job_id}/items", params=params, timeout=30)
            page = answer.raise_for_status().json()
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _answered(self, method: str, path: str, **options: Any) -> httpx.Response:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answer = self._request(method, path, **options)
            if answer is not None and answer.status_code != 503:
                answers.append(answer)
            return bool(answers)

        eventually(answered, JOB_SECONDS)
        return answers[0]

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """None when the server is away."""
        try:
            return httpx.request(method, self.stack.url + path, timeout=10, **options)
        except httpx.TransportError:
            return None


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A file system of BLOB_BYTES at `folder`; whether there is one: it takes root."""
    options = ["-t", "tmpfs", "-o", f"size={BLOB_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _limit_files(pids: list[int], size: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
