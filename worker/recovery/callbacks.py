"""Telling whoever asked for it that a job has ended: a signed POST, repeated until it is taken."""

import hashlib
import hmac
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import structlog

from shared.errors import ImageSearchError, ItemError
from shared.job_document import job_document
from shared.models import Job
from shared.services import Services

TICK_S = 1.0
CALLBACK_TRIES = 8
CALLBACK_HOLD_S = 120.0  # longer than one try may take
CALLBACKS_AT_ONCE = 16  # so that one receiver that hangs does not hold up the others

log = structlog.get_logger(__name__)


def send_callbacks_until(services: Services, stopped: threading.Event) -> None:
    """Sends what is due, every TICK_S."""
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
