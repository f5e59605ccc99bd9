"""`image-search doctor`: what is reachable, which model and device are in use, and what to fix."""

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from deploy.data_folder import Folder, data_folder
from deploy.embedded import OWN_SETTINGS
from deploy.ports import http_status
from shared.config import PREFIX, Settings, load_settings
from shared.embedding.checkpoints import AUTO, resolve_auto
from shared.errors import ConfigError, ImageSearchError
from shared.ledger.ledger import Ledger
from shared.logs import configure_logging
from shared.models import Stage
from shared.storage.blobs import MODEL_KEY, Blobs, probe_key

DEADLINE_SECONDS = 10.0
MODEL_DEADLINE_SECONDS = 180.0  # imports torch and reads the weights
DEFAULT_URL = "http://127.0.0.1:8000"
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[red]broken[/]"}


class Note(str):
    """What a check found that is worth saying and breaks nothing here."""

    __slots__ = ()


Check = tuple[str, Callable[[], str], float]  # its subject, what it does, its seconds


@dataclass(frozen=True)
class Finding:
    subject: str
    state: str  # a key of MARKS
    detail: str


def examine(data_dir: Path | None, as_json: bool = False) -> bool:
    """Print the findings; return False when something is broken."""
    settings, source, url = deployment(data_dir)
    configure_logging(settings.model_copy(update={"log_level": "error"}))
    found = [] if data_dir or settings.model_fields_set & set(OWN_SETTINGS) else _answers(url)
    if found:
        source = f"none says where Redis and Chroma are: this is what {url} says of itself"
    direct = {"redis": _redis, "broker": _broker, "chroma": _chroma, "blobs": _blobs, "workers": _workers}
    checks: Sequence[Check] = found or [
        *((subject, partial(check, settings), DEADLINE_SECONDS) for subject, check in direct.items()),
        ("api", lambda: _api(url), DEADLINE_SECONDS),
        ("model", lambda: _model(settings), MODEL_DEADLINE_SECONDS),
    ]
    findings = [Finding("settings", "ok", source), *_run(checks)]
    healthy = all(finding.state != "broken" for finding in findings)
    if as_json:
        print(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}))
        return healthy
    table = Table.grid("", "", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(finding.subject, MARKS[finding.state], finding.detail)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log is not to be folded at 80
    console.print(table)
    return healthy


def examine_this_worker(as_json: bool = False) -> bool:
    """Return whether a worker of this host (a container) sent a heartbeat of late, for health checks."""
    settings = load_settings()
    seen = any(worker.host == socket.gethostname() for worker in Ledger(settings.redis_url).workers.seen())
    if as_json:
        print(json.dumps({"healthy": seen}))
    return seen


def deployment(data_dir: Path | None) -> tuple[Settings, str, str]:
    """Return the settings to examine, where they come from, and the API's address.

    They are those of the `up` that runs in the data folder, unless REDIS_URL was set for something else.
    """
    settings = load_settings()
    url = os.environ.get(PREFIX + "URL", DEFAULT_URL)
    folder: Folder = data_folder(data_dir)
    running = folder.child_settings() if data_dir or "redis_url" not in settings.model_fields_set else {}
    if not running:
        names = ", ".join(PREFIX + name.upper() for name in sorted(settings.model_fields_set))
        where = " and .env" if Path(".env").is_file() else ""
        return settings, f"environment{where}: {names or 'nothing set, all defaults'}", url
    url = running.pop(PREFIX + "URL", url)
    update = {name.removeprefix(PREFIX).lower(): value for name, value in running.items()}
    return settings.model_copy(update=update), f"`up` with pid {folder.running()} in {folder.root}", url


def _answers(url: str) -> list[Check]:
    """Return checks of what the server at `url` says of itself; none where no server of ours answers."""
    from image_search import ApiError, Client  # noqa: PLC0415

    try:
        with Client(url, os.environ.get(PREFIX + "API_KEY"), timeout=DEADLINE_SECONDS, retries=0) as client:
            ready = client.ready()
            system, refused = None, ""
            try:
                system = client.system()
            except ApiError as error:
                refused = f"; it says no more: {error.detail} ({PREFIX}API_KEY)"
    except ApiError:
        return []

    def said(of: Any, told: Any, describe: Callable[[Any], str]) -> Callable[[], str]:
        def check() -> str:
            if not of.ok:
                raise ConfigError(of.detail or "does not work")
            return "works" if told is None else describe(told)

        return check

    checks = {
        "redis": said(ready.redis, None, str),
        "chroma": said(ready.chroma, system and system.collections, _contents),
        "blobs": said(ready.blobs, None, str),
        "workers": said(ready.redis, ready.workers.model_dump(), _staffed),
        "api": lambda: Note(f"{url} answers{refused}") if refused else f"{url} answers",
        "model": said(ready.model, system and system.model, _described),
    }
    return [(subject, check, DEADLINE_SECONDS) for subject, check in checks.items()]


def _run(checks: Sequence[Check]) -> list[Finding]:
    """Run all checks at once, each within its seconds; a hung one is left behind in its thread."""
    pending = [(subject, _in_thread(check), deadline_s) for subject, check, deadline_s in checks]
    return [_finding(subject, future, deadline_s) for subject, future, deadline_s in pending]


def _in_thread(check: Callable[[], str]) -> Future[str]:
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(check())
        except Exception as error:  # told to the user by _finding
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _finding(subject: str, future: Future[str], deadline_s: float) -> Finding:
    try:
        detail = future.result(deadline_s)
        return Finding(subject, "note" if isinstance(detail, Note) else "ok", detail)
    except TimeoutError:
        return Finding(subject, "broken", f"no answer within {deadline_s:.0f} s")
    except ImageSearchError as error:
        return Finding(subject, "broken", error.detail)
    except Exception as error:  # a table with a hole helps more than a stack trace
        return Finding(subject, "broken", f"{type(error).__name__}: {error}")


def _redis(settings: Settings) -> str:
    try:
        Ledger(settings.redis_url).ping()
    except ImageSearchError:
        raise ConfigError(
            f"does not answer at {_shown(settings.redis_url)}: start it (`image-search up` brings one), "
            f"or set {PREFIX}REDIS_URL"
        ) from None
    return _shown(settings.redis_url)


def _broker(settings: Settings) -> str:
    from shared.tasks import make_celery  # noqa: PLC0415 - Celery takes a while to import

    shown = _shown(settings.celery_broker_url)
    try:
        with make_celery(settings).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=DEADLINE_SECONDS / 2)
    except Exception:  # kombu's, redis' and the system's
        raise ConfigError(f"does not answer at {shown}: start it, or set {PREFIX}BROKER_URL") from None
    return shown


def _chroma(settings: Settings) -> str:
    from shared.index.index import build_index  # noqa: PLC0415 - chromadb takes seconds to import

    index = build_index(settings)
    try:
        index.ping()
    except ImageSearchError:
        raise ConfigError(
            f"does not answer at {settings.chroma_url}: start it (`chroma run`), or set {PREFIX}CHROMA_URL"
        ) from None
    return f"{settings.chroma_url}, {_contents(index.collections())}"


def _contents(collections: Sequence[Any]) -> str:
    return f"{len(collections)} collections, {sum(one.count for one in collections)} pictures"


def _blobs(settings: Settings) -> str:
    blobs = Blobs(settings.blob_url)
    if "blob_url" not in settings.model_fields_set and not blobs.exists(""):
        return Note(f"{settings.blob_url} is made by the first start, or set {PREFIX}BLOB_URL")
    key, value = probe_key(secrets.token_hex(8)), secrets.token_bytes(16)
    blobs.put(key, value)
    same = blobs.get(key) == value
    blobs.delete(key)
    if not same:
        raise ConfigError(f"{settings.blob_url} gives back other bytes than were written")
    return f"{settings.blob_url} (written, read, deleted)"


def _workers(settings: Settings) -> str:
    workers = Ledger(settings.redis_url).workers.seen()
    return _staffed({stage: sum(one.slots for one in workers if stage in one.queues) for stage in Stage})


def _staffed(counts: Mapping[str, int]) -> str:
    idle = [stage for stage in Stage if not counts[stage]]
    if idle:
        raise ConfigError(
            f"no worker for {', '.join(idle)}: start `image-search worker --queues {','.join(idle)}`"
        )
    return ", ".join(f"{stage} {counts[stage]}" for stage in Stage)


def _api(url: str) -> str:
    status = http_status(f"{url}/readyz", timeout_s=DEADLINE_SECONDS / 2)
    if status is None:
        return Note(f"does not answer at {url}: start `image-search api`, or set {PREFIX}URL to where it is")
    if status != 200:
        raise ConfigError(f"{url}/readyz answers {status}: its body says what is missing")
    return f"{url} is ready"


def _model(settings: Settings) -> str:
    from shared.embedding.encoder import Encoder  # noqa: PLC0415

    name = settings.model
    if name == AUTO:
        blobs = Blobs(settings.blob_url)
        if not blobs.exists(MODEL_KEY):
            return Note("auto: the first start decides which")
        name = resolve_auto(blobs)
    encoder: Any = Encoder.load(name, device=settings.device, precision=settings.precision)
    encoder.warm()
    return _described(encoder)


def _described(model: Any) -> str:
    return f"{model.name} ({model.dimension} dimensions) on {model.device_name}, {model.precision}"


def _shown(url: str) -> str:
    """Return the URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://…@{tail}" if at else url
