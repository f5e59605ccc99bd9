"""The sweeper: sends lost messages again and deletes what has expired. Any number may run."""

import resource
import signal
import threading
import time
from itertools import groupby
from operator import itemgetter

import structlog

from shared.config import Settings
from shared.errors import ImageSearchError, JobNotFound
from shared.logs import configure_logging
from shared.metrics.definitions import MESSAGES_RESENT
from shared.metrics.exporter import Page
from shared.metrics.ledger import LedgerMetrics
from shared.services import Services, build_services
from shared.sources.syncs import clear_deleted, restore_schedule, start_due
from shared.storage.blobs import JOBS, SCRATCH, job_prefix, scratch_prefix
from shared.storage.trash import delete_from_trash
from shared.tracing import tracing
from worker.recovery.callbacks import STOP_SECONDS, send_callbacks_until
from worker.recovery.documents import add_documents_until

TICK_SECONDS = 1.0
MAX_OPEN_FILES = 4096
HOUSEKEEPING_INTERVAL_SECONDS = 30.0
CLEARING_SECONDS = 5.0  # of them at most: what waits for a message waits meanwhile
ORPHANS_INTERVAL_SECONDS = 3600.0
ORPHAN_AGE_SECONDS = 86_400.0  # no request takes so long between its first file and its job
TRASH_TTL_SECONDS = 3_600.0  # items that bring a picture back are fetched and indexed much sooner

log = structlog.get_logger(__name__)


def run_sweep(settings: Settings) -> None:
    """Sweep every TICK_SECONDS until SIGTERM or SIGINT."""
    configure_logging(settings)
    tracing.set_up("sweep")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _allow_open_files(MAX_OPEN_FILES)
    services = build_services(settings)
    if settings.metrics_port:
        Page(["sweep"], LedgerMetrics(services.ledger)).serve(settings.metrics_host, settings.metrics_port)
    callbacks = threading.Thread(target=send_callbacks_until, args=(services, stopped), daemon=True)
    callbacks.start()
    documents = threading.Thread(target=add_documents_until, args=(services, stopped), daemon=True)
    documents.start()
    housekeeping_at = orphans_at = 0.0
    while not stopped.is_set():
        try:
            sweep(services)
            start_due(services)
            if time.monotonic() >= housekeeping_at:
                clear_away(services)
                empty_trash(services)
                housekeeping_at = time.monotonic() + HOUSEKEEPING_INTERVAL_SECONDS
            if time.monotonic() >= orphans_at:
                clear_orphans(services)
                clear_deleted(services)
                restore_schedule(services)
                orphans_at = time.monotonic() + ORPHANS_INTERVAL_SECONDS
        except ImageSearchError as error:
            log.warning("sweep_postponed", reason=error.detail)
        stopped.wait(TICK_SECONDS)
    callbacks.join(TICK_SECONDS + STOP_SECONDS)
    tracing.shut_down()


def _allow_open_files(count: int) -> None:
    """Raise the limit of open files: callbacks that hang, and look-ups, hold more sockets than most allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def sweep(services: Services) -> None:
    """Send again what waits for a message, and enqueue what may be enqueued."""
    due = services.ledger.sweep()
    for stage, chunk in due:
        services.dispatcher.send(stage, chunk)
        MESSAGES_RESENT.labels(stage).inc()
    services.ledger.sent([chunk for _, chunk in due])
    if services.ledger.writer.unfinished() and not services.ledger.writer.is_held():
        services.dispatcher.wake_writer()
    services.dispatcher.pump()


def clear_away(services: Services) -> None:
    """Close bodies whose reader is gone, delete expired jobs and the scratch of jobs that have ended."""
    for job_id in services.ledger.abandoned_readers():
        services.ledger.close(job_id, truncated=True)
    until = time.monotonic() + CLEARING_SECONDS
    while (expired := services.ledger.expired_jobs()) and time.monotonic() < until:
        for job_id in expired:
            if services.ledger.forget_job(job_id):  # else it was just retried
                services.blobs.delete_prefix(job_prefix(job_id))
    for job_id in services.blobs.folders(SCRATCH):
        if _is_over(services, job_id):
            services.blobs.delete_prefix(scratch_prefix(job_id))


def empty_trash(services: Services) -> None:
    """Delete the files of images that were replaced long enough ago."""
    until = time.monotonic() + CLEARING_SECONDS
    while (
        found := services.ledger.writer.trashed_before(time.time() - TRASH_TTL_SECONDS)
    ) and time.monotonic() < until:
        for collection, of_it in groupby(sorted(found), itemgetter(0)):
            delete_from_trash(services.ledger, services.blobs, collection, [one for _, one in of_it])


def clear_orphans(services: Services) -> None:
    """Delete the files of jobs that the ledger does not know: of requests that died, of half a clearing."""
    for job_id in services.blobs.folders(JOBS):
        prefix = job_prefix(job_id)
        newest = time.time() - ORPHAN_AGE_SECONDS
        if services.ledger.exists(job_id) or services.blobs.modified_at(prefix) > newest:
            continue
        log.info("orphan_deleted", job_id=job_id)
        services.blobs.delete_prefix(prefix)


def _is_over(services: Services, job_id: str) -> bool:
    try:
        return services.ledger.get(job_id).finished_at is not None  # a cancelled sync has a chunk left
    except JobNotFound:
        return True
