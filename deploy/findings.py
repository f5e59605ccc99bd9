"""What `image-search doctor` finds, and what a server says of itself, without the server's packages."""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from image_search import ApiError, Client
from image_search.cli.common import counted
from image_search.cli.errors import printable
from shared.errors import ConfigError, ImageSearchError
from shared.models import Stage

DEADLINE_SECONDS = 10.0
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


def server_url() -> str:
    """Return where the client's commands look for a server, too."""
    return os.environ.get("IMAGE_SEARCH_URL", DEFAULT_URL)


def examine_server(as_json: bool = False) -> bool:
    """Print what the server says of itself. False when something is broken, or no server answers."""
    url = server_url()
    source = Finding("settings", "ok", f"only the client is installed: this is what {url} says of itself")
    try:
        checks = server_checks(url)
    except ApiError as error:
        return tell([source, Finding("api", "broken", error.detail)], as_json)
    return tell([source, *run(checks)], as_json)


def tell(findings: Sequence[Finding], as_json: bool) -> bool:
    """Print the findings. False when something is broken."""
    healthy = all(finding.state != "broken" for finding in findings)
    if as_json:
        print(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}))
        return healthy
    table = Table.grid("", "", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for finding in findings:
        detail = Text(printable(" ".join(finding.detail.split())))  # may be a foreign server's
        table.add_row(finding.subject, MARKS[finding.state], detail)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log is not to be folded at 80
    console.print(table)
    return healthy


def server_checks(url: str) -> list[Check]:
    """Return checks of what a server says of itself. Raises ApiError where none of ours answers."""
    with Client(url, os.environ.get("IMAGE_SEARCH_API_KEY"), timeout=DEADLINE_SECONDS, retries=0) as client:
        ready = client.ready()
        system, refused = None, ""
        try:
            system = client.system()
        except ApiError as error:
            refused = f"; it says no more: {error.detail}"

    def said(of: Any, told: Any, describe: Callable[[Any], str], without: str = "") -> Callable[[], str]:
        def check() -> str:
            if not of.ok:
                raise ConfigError(without or of.detail or "does not work")
            return "works" if told is None else describe(told)

        return check

    checks = {
        "redis": said(ready.redis, None, str),
        "chroma": said(ready.chroma, system and system.collections, contents),
        "blobs": said(ready.blobs, None, str),
        "workers": said(ready.redis, ready.workers.model_dump(), staffed, "not known: they report to Redis"),
        "api": lambda: Note(f"{url} answers{refused}") if refused else f"{url} answers",
        "model": said(ready.model, system and system.model, described),
    }
    if system and (limit := system.ingestion):
        checks["ingestion"] = lambda: limit.detail
    if system and system.models:
        checks["models"] = lambda: _listed(system.models)
    return [(subject, check, DEADLINE_SECONDS) for subject, check in checks.items()]


def run(checks: Sequence[Check]) -> list[Finding]:
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


def contents(collections: Sequence[Any]) -> str:
    pictures = sum(one.count for one in collections)
    return f"{counted(len(collections), 'collection')}, {counted(pictures, 'picture')}"


def staffed(counts: Mapping[str, int]) -> str:
    idle = [stage for stage in Stage if not counts[stage]]
    if idle:
        raise ConfigError(
            f"no worker for {', '.join(idle)}: start `image-search worker --queues {','.join(idle)}`"
        )
    return ", ".join(f"{stage} {counts[stage]}" for stage in Stage)


def models_of(url: str) -> str:
    """Return what models a server has, and what they wait for. Raises ApiError where it does not say."""
    with Client(
        url, os.environ.get("IMAGE_SEARCH_API_KEY"), timeout=DEADLINE_SECONDS / 2, retries=0
    ) as client:
        return _listed(client.system().models)


def _listed(models: Sequence[Any]) -> str:
    def line(model: Any) -> str:
        progress = "" if model.progress is None else f" ({model.progress:.0%})"
        return f"{model.name} {model.state}{progress}" + (f": {model.detail}" if model.detail else "")

    listed = ", ".join(map(line, models)) or "no model"
    return Note(listed) if any(one.detail for one in models) else listed


def described(model: Any) -> str:
    facts = f"{model.kind}, {model.dimension} dimensions, texts of up to {model.max_tokens} tokens"
    return f"{model.name} ({facts}) on {model.device_name}, {model.precision}"
