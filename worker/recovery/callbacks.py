"""Callbacks: a signed POST to whoever asked to hear that a job has ended, repeated until it is taken."""

import hashlib
import hmac
import json
import threading
import time

import structlog

from shared.errors import ImageSearchError, ItemError
from shared.job_document import job_document
from shared.ledger.callbacks import Call, CallResult, Lane
from shared.metrics.definitions import CALLBACKS
from shared.services import Services

TICK_SECONDS = 1.0
CALLBACK_TRIES = 8
HOLD_SECONDS = 10.0  # beyond a call's time-out: then whoever made it is taken for dead, and it is made again
# Short, so that a host that hangs holds little; one that answers later has a lane with more time.
TIMEOUT_SECONDS = 3.0
TIMEOUTS_SECONDS = {Lane.KNOWN: TIMEOUT_SECONDS, Lane.NEW: TIMEOUT_SECONDS, Lane.FAILING: 10.0}
# Threads, which mostly wait. Over TIMEOUT_SECONDS: the hosts per second that may hang before others wait.
THREADS = {Lane.KNOWN: 128, Lane.NEW: 384, Lane.FAILING: 64}
STOP_SECONDS = 4.0  # for the calls under way at the end; one that is broken off is made again

log = structlog.get_logger(__name__)


def send_callbacks_until(services: Services, stopped: threading.Event) -> None:
    """Send the callbacks that are due, every TICK_SECONDS until `stopped`."""
    sender = CallbackSender(services, stopped)
    while not stopped.wait(TICK_SECONDS):
        try:
            sender.start()
        except ImageSearchError as error:
            log.warning("callbacks_postponed", reason=error.detail)
        except Exception:
            log.exception("callbacks_failed")
    sender.wait(STOP_SECONDS)


class CallbackSender:
    """Threads of each lane, which go on with the next call as long as one is due. Use it from one thread."""

    def __init__(self, services: Services, stopped: threading.Event) -> None:
        self._services = services
        self._stopped = stopped
        self._threads: dict[Lane, list[threading.Thread]] = {lane: [] for lane in Lane}

    def start(self) -> None:
        """Start threads for the calls that are due, as far as threads are free. Raises LedgerUnavailable."""
        for lane in Lane:
            running = self._threads[lane] = [one for one in self._threads[lane] if one.is_alive()]
            while len(running) < THREADS[lane] and (call := self._take(lane)):
                # Daemons: one that hangs does not hold up the end of the process.
                running.append(threading.Thread(target=self._work, args=(lane, call), daemon=True))
                running[-1].start()

    def wait(self, timeout_s: float) -> None:
        """Wait until the calls that were started have been made."""
        deadline = time.monotonic() + timeout_s
        for thread in [one for running in self._threads.values() for one in running]:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self, lane: Lane) -> Call | None:
        if self._stopped.is_set():
            return None
        return self._services.ledger.callbacks.take(lane, TIMEOUTS_SECONDS[lane] + HOLD_SECONDS)

    def _work(self, lane: Lane, first: Call) -> None:
        call: Call | None = first
        try:
            while call:
                _call_back(self._services, call, TIMEOUTS_SECONDS[lane])
                call = self._take(lane)
        except ImageSearchError as error:  # a call without its end is due again after HOLD_SECONDS
            log.warning("callbacks_postponed", reason=error.detail)
        except Exception:
            log.exception("callbacks_failed")


def _call_back(services: Services, call: Call, timeout_s: float) -> None:
    job = services.ledger.get(call.job_id)
    if not job.status.finished:  # a retry came in between
        return
    body = json.dumps(job_document(job)).encode()
    delivered, result, started = False, CallResult.NOTHING, time.monotonic()
    try:
        status = services.downloader.post(
            job.callback_url or "", body, _signed_headers(services, body), timeout_s
        )
        said, delivered = str(status), 200 <= status < 300
        # Whatever it is, an answer shows that the host works, unless it takes too long for the other lanes.
        if time.monotonic() - started < TIMEOUT_SECONDS:
            result = CallResult.ANSWERED
    except ItemError as error:
        said = error.detail
        if error.blames_host:
            result = CallResult.FAILED
    except Exception:
        log.exception("callback_failed", job_id=job.job_id)
        said = "internal"
    log.info("callback", job_id=job.job_id, outcome=said, tries=call.tries)
    over = delivered or call.tries >= CALLBACK_TRIES
    next_in_s = None if over else 5.0 * 2**call.tries
    CALLBACKS.labels("taken" if delivered else "given_up" if over else "retried").inc()
    services.ledger.callbacks.over(call, result, next_in_s=next_in_s)


def _signed_headers(services: Services, body: bytes) -> dict[str, str]:
    """Sign `body`: `X-Image-Search-Signature: t=<epoch seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>`."""
    headers = {"Content-Type": "application/json"}
    secret = services.settings.callback_secret
    if secret is not None:
        moment = str(int(time.time()))
        signed = hmac.new(secret.get_secret_value().encode(), f"{moment}.".encode() + body, hashlib.sha256)
        headers["X-Image-Search-Signature"] = f"t={moment},v1={signed.hexdigest()}"
    return headers
