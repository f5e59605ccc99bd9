"""Starting the syncs of sources: when somebody asks, and when they are due."""

import time

import structlog

from shared.errors import BrokerUnavailable, ImageSearchError, SourceNotFound, SyncRunning
from shared.ledger.ledger import new_job_id
from shared.ledger.sources import NotDue
from shared.models import Chunk, JobKind, Label, Stage
from shared.services import Services
from shared.sources.definition import Source
from shared.sources.store import MAX_SOURCES, clear_source, get_source, list_sources, runs, source_exists
from shared.storage.blobs import SOURCES
from shared.tracing.tracing import cause, span

CLOCKS_APART_SECONDS = 60.0  # that machines may be, and nobody minds

log = structlog.get_logger(__name__)


def start_sync(
    services: Services,
    source: Source,
    *,
    dry_run: bool = False,
    max_delete_share: float | None = None,
    removing: bool = False,
    made_by: str = "",
    due_at: float | None = None,
    next_due: float | None = None,
    idempotency: tuple[str, str] | None = None,
) -> str:
    """Make the job of a sync, as the source is defined now, and return its id.

    `max_delete_share` is in place of the source's. With `removing` everything that the source has brought
    goes. `due_at`, in epoch seconds, is when the schedule has it; the same step sets that to `next_due`. The
    rest is as for Ledger.create. Raises SyncRunning, NotDue, TooManyJobs and IdempotencyMismatch.
    """
    job_id = services.ledger.create(
        new := new_job_id(),
        collection=source.collection,
        total=0,
        chunk_size=services.settings.chunk_size,
        callback_url=source.callback_url,
        kind=JobKind.SYNC,
        options={
            "source": source.name,
            "definition": source.to_json(),
            "dry_run": dry_run,
            "max_delete_share": source.max_delete_share if max_delete_share is None else max_delete_share,
            "removing": removing,
        },
        begins=True,
        final_stage=Stage.FETCH,
        source=source.name,
        due_at=due_at,
        next_due=next_due,
        made_by=made_by,
        label=Label(name=source.name, origin="source", made_of=source.name),
        idempotency=idempotency,
        cause=cause(),
    )
    if job_id == new:
        try:
            services.dispatcher.send(Stage.FETCH, Chunk(job_id, 0, 0))
        except BrokerUnavailable as error:  # the sweeper sends it again
            log.warning("dispatch_postponed", reason=error.detail)
    return job_id


def start_due(services: Services) -> None:
    """Start the syncs that are due, of each source one, however many were missed.

    One that cannot start stays due. Raises LedgerUnavailable.
    """
    for name, due_at in services.ledger.sources.due(limit=MAX_SOURCES):
        try:
            _start_due(services, name, due_at)
        except ImageSearchError as error:
            log.warning("sync_postponed", source=name, reason=error.detail)


def _start_due(services: Services, name: str, due_at: float) -> None:
    try:
        source = get_source(services.blobs, name)
    except SourceNotFound:
        source = None
    if source is None or source.every_s is None or source.removing:
        services.ledger.sources.unschedule(name)
        return
    with span("scheduled sync", attributes={"image_search.source": name}):  # whose parts the chunks' are
        try:
            job_id = start_sync(
                services,
                source,
                made_by=source.made_by,
                due_at=due_at,
                next_due=next_due(due_at, source.every_s, time.time()),
            )
        except (NotDue, SyncRunning):  # another sweeper, or somebody who asked, was faster
            return
        log.info("sync_started", source=name, job_id=job_id)


def next_due(due_at: float, every_s: int, now: float) -> float:
    """Return the first time after `now` that is a multiple of `every_s` seconds after `due_at`."""
    return due_at + every_s * (1 + max(0.0, now - due_at) // every_s)


def restore_schedule(services: Services) -> None:
    """Schedule the sources that should be and are not, as after a loss of the ledger.

    Each is due `every` after its latest run, which may be now. One that is due later than `every` from now,
    as after a clock that was ahead, is due then.
    """
    now = time.time()
    sources = {source.name: source for source in list_sources(services.blobs)}
    for name, due in services.ledger.sources.next_due([*sources]).items():
        source = sources[name]
        if source.every_s is None or source.removing:
            continue
        if due is None:
            latest = next(iter(runs(services.blobs, name, 1)), None)
            since = latest.started_at if latest else source.created_at
            services.ledger.sources.schedule(name, since + source.every_s)
        elif due > now + source.every_s + CLOCKS_APART_SECONDS:
            log.warning("schedule_brought_forward", source=name)
            services.ledger.sources.schedule(name, now + source.every_s)


def clear_deleted(services: Services) -> None:
    """Delete what syncs that ended after their source was deleted have left."""
    for name in services.blobs.folders(SOURCES):
        if not source_exists(services.blobs, name) and not services.ledger.sources.running(name):
            clear_source(services.blobs, name)
