"""`image-search verify` and `rebuild`: a collection in Chroma and its vector log."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deploy.doctor import deployment
from shared.logs import configure_logging
from shared.services import Services, build_services
from worker.recovery import rebuild as recovery
from worker.recovery.rebuild import Faults

SHOWN = 20
_MEANINGS = {
    "missing": "in the log, not in Chroma",
    "extra": "in Chroma, not in the log",
    "wrong": "in both, with another vector",
    "unreachable": "in both, and found by no search",
}


def verify(
    data_dir: Path | None,
    collection: str,
    as_json: bool = False,
    *,
    sample: int | None = None,
    repair: bool = False,
) -> bool:
    """Print how a collection differs from its log; return whether it does not."""
    services = _services(data_dir)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("pictures", total=None)
        faults = recovery.verify(
            services,
            collection,
            sample=sample,
            repair=repair,
            told=lambda done, of: progress.update(task, completed=done, total=of),
        )
    if as_json:
        print(json.dumps({"collection": collection, **asdict(faults)}))
        return not faults
    _show(collection, faults)
    if faults.unreachable and not repair:
        print(f"Have searches find the unreachable: image-search verify --repair --collection {collection}")
    if faults.missing or faults.extra or faults.wrong:
        print(f"Make it anew from the log: image-search rebuild --collection {collection}")
    return not faults


def rebuild(data_dir: Path | None, collection: str, as_json: bool = False) -> None:
    """Make the collection anew and print what was wrong with the one before."""
    faults = recovery.rebuild(_services(data_dir), collection)
    if as_json:
        print(json.dumps({"collection": collection, **asdict(faults)}))
        return
    _show(collection, faults)
    print(f"{collection}: made anew from its vector log")


def _services(data_dir: Path | None) -> Services:
    settings, source, *_ = deployment(data_dir)
    configure_logging(settings.model_copy(update={"log_level": "error"}))
    print(source, file=sys.stderr)
    return build_services(settings)


def _show(collection: str, faults: Faults) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table("", "pictures", "", box=None, pad_edge=False)
    table.add_row("log", f"{faults.total:,}", f"pictures of {collection} in the vector log")
    for kind, meaning in _MEANINGS.items():
        table.add_row(kind, f"{len(getattr(faults, kind)):,}", meaning)
    console.print(table)
    for kind in _MEANINGS:
        ids = getattr(faults, kind)
        for image_id in ids[:SHOWN]:
            console.print(f"{kind} {image_id}")
        if len(ids) > SHOWN:
            console.print(f"{kind}: {len(ids) - SHOWN:,} more")
