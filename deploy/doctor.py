"""`image-search doctor`: what is reachable, which model and device are in use, and what to fix."""

import contextlib
import json
import secrets
import socket
from functools import partial
from pathlib import Path
from typing import Any

from deploy.data_folder import Folder, data_folder
from deploy.embedded import OWN_SETTINGS, metrics_ports
from deploy.findings import (
    DEADLINE_SECONDS,
    Check,
    Finding,
    Note,
    contents,
    described,
    models_of,
    run,
    server_checks,
    server_url,
    staffed,
    tell,
)
from deploy.ports import http_answer, http_status, page_url
from image_search import ApiError
from shared.config import PREFIX, Settings, load_settings
from shared.embedding.automatic import known_model
from shared.embedding.checkpoints import AUTO
from shared.errors import ConfigError, ImageSearchError, IndexUnavailable
from shared.ledger.ledger import Ledger
from shared.logs import configure_logging
from shared.models import Stage
from shared.storage.blobs import Blobs, probe_key

MODEL_DEADLINE_SECONDS = 180.0  # imports torch and reads the weights


def examine(data_dir: Path | None, as_json: bool = False) -> bool:
    """Print the findings; return False when something is broken."""
    settings, source, url, runs_up = deployment(data_dir)
    configure_logging(settings.model_copy(update={"log_level": "error"}))
    found: list[Check] = []
    if not data_dir and not settings.model_fields_set & set(OWN_SETTINGS):
        with contextlib.suppress(ApiError):  # then what can be reached from here is looked at
            found = server_checks(url)
    if found:
        source = f"none says where Redis and Chroma are: this is what {url} says of itself"
    direct = {"redis": _redis, "broker": _broker, "chroma": _chroma, "blobs": _blobs, "workers": _workers}
    checks: list[Check] = found or [
        *((subject, partial(check, settings), DEADLINE_SECONDS) for subject, check in direct.items()),
        ("api", lambda: _api(url), DEADLINE_SECONDS),
        ("model", lambda: _model(settings), MODEL_DEADLINE_SECONDS),
    ]
    if settings.fetch_headers is not None:
        checks.append(("headers", lambda: _headers(settings), DEADLINE_SECONDS))
    checks += _metrics(settings, runs_up)
    findings = [Finding("settings", "ok", source), *run(checks)]
    return tell(findings, as_json)


def examine_this_worker(as_json: bool = False) -> bool:
    """Return whether a worker of this host (a container) sent a heartbeat of late, for health checks."""
    settings = load_settings()
    seen = any(worker.host == socket.gethostname() for worker in Ledger(settings.redis_url).workers.seen())
    if as_json:
        print(json.dumps({"healthy": seen}))
    return seen


def deployment(data_dir: Path | None) -> tuple[Settings, str, str, bool]:
    """Return the settings to examine, where they come from, the API's address, and whether `up` runs it.

    They are those of the `up` that runs in the data folder, unless REDIS_URL was set for something else.
    """
    settings = load_settings()
    url = server_url()
    folder: Folder = data_folder(data_dir)
    running = folder.child_settings() if data_dir or "redis_url" not in settings.model_fields_set else {}
    if not running:
        names = ", ".join(PREFIX + name.upper() for name in sorted(settings.model_fields_set))
        where = " and .env" if Path(".env").is_file() else ""
        return settings, f"environment{where}: {names or 'nothing set, all defaults'}", url, False
    url = running.pop(PREFIX + "URL", url)
    update: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in running.items()}
    update["metrics_port"] = int(update["metrics_port"]) if "metrics_port" in update else None
    return settings.model_copy(update=update), f"`up` with pid {folder.running()} in {folder.root}", url, True


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
    return f"{settings.chroma_url}, {contents(index.collections())}"


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
    return staffed({stage: sum(one.slots for one in workers if stage in one.queues) for stage in Stage})


def _headers(settings: Settings) -> str:
    from shared.download.host_headers import HostHeaders  # noqa: PLC0415 - httpx

    headers = HostHeaders(settings.fetch_headers)
    said = f"of this deployment's own for {', '.join(headers.origins) or 'no origin'}"
    if headers.open_to_others:
        return Note(f"{said}; other users can read or change the file: chmod 600 {settings.fetch_headers}")
    return said


def _metrics(settings: Settings, runs_up: bool) -> list[Check]:
    """Return the checks of the pages of metrics: those of `up`, else the one that the environment names."""
    first = settings.metrics_port
    if first is None:
        return []
    ports = {f"metrics of {role}": port for role, port in metrics_ports(first).items()}
    return [
        (subject, partial(_page, page_url(settings.metrics_host, port), runs_up), DEADLINE_SECONDS)
        for subject, port in (ports if runs_up else {"metrics": first}).items()
    ]


def _page(url: str, must_answer: bool) -> str:
    status, body = http_answer(url, timeout_s=DEADLINE_SECONDS / 2)
    if status == 200 and b"image_search_build_info" in body:
        return f"{url} answers"
    found = f"{url} does not answer" if status is None else f"{url} is another program's"
    if must_answer:
        raise ConfigError(f"{found}: the logs in the data folder say why")
    return Note(f"{found}: start a worker or the sweeper with this {PREFIX}METRICS_PORT on this machine")


def _api(url: str) -> str:
    status = http_status(f"{url}/readyz", timeout_s=DEADLINE_SECONDS / 2)
    if status is None:
        return Note(f"does not answer at {url}: start `image-search api`, or set {PREFIX}URL to where it is")
    if status != 200:
        raise ConfigError(f"{url}/readyz answers {status}: its body says what is missing")
    with contextlib.suppress(ApiError):
        models = models_of(url)
        return type(models)(f"{url} is ready, with {models}")
    return f"{url} is ready"


def _model(settings: Settings) -> str:
    from shared.embedding.encoder import Encoder  # noqa: PLC0415
    from shared.embedding.tagging import caveat_of  # noqa: PLC0415
    from shared.index.index import build_index  # noqa: PLC0415

    name, index = settings.model, build_index(settings)
    if name == AUTO:
        known = None
        with contextlib.suppress(IndexUnavailable):
            known = known_model(Blobs(settings.blob_url), index.collections)
        if known is None:
            return Note("auto: the first start decides which")
        name = known
    encoder: Any = Encoder.load(name, device=settings.device, precision=settings.precision)
    encoder.warm()
    caveat = caveat_of(encoder, settings)
    return Note(f"{described(encoder)}. {caveat}") if caveat else described(encoder)


def _shown(url: str) -> str:
    """Return the URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://…@{tail}" if at else url
