"""The sweeper: what was lost goes round again, what is over is cleared away. Any number may run."""

import hashlib
import hmac
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import structlog

from shared.config import Settings
from shared.errors import ImageSearchError, ItemError, JobNotFound
from shared.job_view import job_document
from shared.logs import configure_logging
from shared.models import Job
from shared.services import Services, build_services
from shared.storage.blobs import job_prefix, scratch_prefix
from shared.storage.trash import delete_discarded

TICK_S = 1.0
HOUSEKEEPING_S = 30.0
ORPHANS_EVERY_S = 3600.0
ORPHAN_AGE_S = 86_400.0  # no request takes so long between its first file and its job
DISCARDED_AGE_S = 3_600.0  # items that bring a picture back are fetched and indexed much sooner
CALLBACK_TRIES = 8
CALLBACK_HOLD_S = 120.0  # longer than one try may take
CALLBACKS_AT_ONCE = 16  # so that one receiver that hangs does not hold up the others

log = structlog.get_logger(__name__)


def run_sweep(settings: Settings) -> None:
    """Sweeps every TICK_S until SIGTERM or SIGINT."""
    configure_logging(settings)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    services = build_services(settings)
    callbacks = threading.Thread(target=_call_back_until, args=(services, stopped), daemon=True)
    callbacks.start()
    housekeeping_at = orphans_at = 0.0
    while not stopped.is_set():
        try:
            sweep(services)
            if time.monotonic() >= housekeeping_at:
                clear_away(services)
                clear_discarded(services)
                housekeeping_at = time.monotonic() + HOUSEKEEPING_S
            if time.monotonic() >= orphans_at:
                clear_orphans(services)
                orphans_at = time.monotonic() + ORPHANS_EVERY_S
        except ImageSearchError as error:
            log.warning("sweep_postponed", reason=error.detail)
        stopped.wait(TICK_S)


def sweep(services: Services) -> None:
    """Sends again what waits for a message, and enqueues what may be enqueued."""
    due = services.ledger.sweep()
    for stage, chunk in due:
        services.dispatcher.send(stage, chunk)
    services.ledger.sent([chunk for _, chunk in due])
    services.dispatcher.pump()


def clear_away(services: Services) -> None:
    """Closes bodies whose reader is gone, deletes expired jobs and the scratch of jobs that have ended."""
    for job_id in services.ledger.abandoned_readers():
        services.ledger.close(job_id, truncated=True)
    for job_id in services.ledger.expired_jobs():
        if services.ledger.forget_job(job_id):  # else it was just retried
            services.blobs.delete_prefix(job_prefix(job_id))
    for job_id in services.blobs.folders("scratch/"):
        if _is_over(services, job_id):
            services.blobs.delete_prefix(scratch_prefix(job_id))


def clear_discarded(services: Services) -> None:
    """Deletes the files of pictures that were replaced long enough ago."""
    for collection, image_id in services.ledger.discarded_before(time.time() - DISCARDED_AGE_S):
        delete_discarded(services.ledger, services.blobs, collection, image_id)


def clear_orphans(services: Services) -> None:
    """Deletes the files of jobs that the ledger does not know: of requests that died, of half a clearing."""
    for job_id in services.blobs.folders("jobs/"):
        prefix = job_prefix(job_id)
        if services.ledger.exists(job_id) or services.blobs.modified_at(prefix) > time.time() - ORPHAN_AGE_S:
            continue
        log.info("orphan_deleted", job_id=job_id)
        services.blobs.delete_prefix(prefix)


def _is_over(services: Services, job_id: str) -> bool:
    try:
        return services.ledger.get(job_id).status.finished
    except JobNotFound:
        return True


def _call_back_until(services: Services, stopped: threading.Event) -> None:
    while not stopped.wait(TICK_S):
        try:
            send_callbacks(services)
        except ImageSearchError as error:
            log.warning("callbacks_postponed", reason=error.detail)
        except Exception:
            log.exception("callbacks_failed")


def send_callbacks(services: Services) -> None:
    """Sends every callback that is due, and schedules the next try of those that were not taken."""
    with ThreadPoolExecutor(CALLBACKS_AT_ONCE, "callback") as pool:
        due = iter(lambda: services.ledger.due_callback(CALLBACK_HOLD_S), None)
        while jobs := [services.ledger.get(job_id) for job_id in islice(due, CALLBACKS_AT_ONCE)]:
            # A retry may have come in between.
            list(pool.map(lambda job: _call_back(services, job), [j for j in jobs if j.status.finished]))


def _call_back(services: Services, job: Job) -> None:
    body = json.dumps(job_document(job)).encode()
    tries = services.ledger.callback_tried(job.job_id)
    try:
        status = services.downloader.post(job.callback_url or "", body, _signed_headers(services, body))
        outcome, delivered = str(status), 200 <= status < 300
    except ItemError as error:
        outcome, delivered = error.detail, False
    except Exception:
        log.exception("callback_failed", job_id=job.job_id)
        outcome, delivered = "internal", False
    log.info("callback", job_id=job.job_id, outcome=outcome, tries=tries)
    over = delivered or tries >= CALLBACK_TRIES
    services.ledger.schedule_callback(job.job_id, None if over else 5.0 * 2**tries)


def _signed_headers(services: Services, body: bytes) -> dict[str, str]:
    """`X-Image-Search-Signature: t=<epoch seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>`."""
    headers = {"Content-Type": "application/json"}
    secret = services.settings.callback_secret
    if secret is not None:
        moment = str(int(time.time()))
        signed = hmac.new(secret.get_secret_value().encode(), f"{moment}.".encode() + body, hashlib.sha256)
        headers["X-Image-Search-Signature"] = f"t={moment},v1={signed.hexdigest()}"
    return headers
