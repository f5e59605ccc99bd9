"""The Celery worker: claims the chunk that a message names and runs its stage."""

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any

import structlog
from celery import Celery, signals

from shared.config import Settings
from shared.download.host_headers import HostHeaders
from shared.embedding import tagging
from shared.embedding.automatic import resolve_auto
from shared.embedding.checkpoints import AUTO, resolve_model
from shared.errors import (
    ConfigError,
    ImageSearchError,
    IndexUnavailable,
    ItemError,
    LedgerUnavailable,
    ModelUnavailable,
    Unavailable,
)
from shared.ledger.leases import renewing
from shared.ledger.ledger import BEGIN, CHUNK_LEASE_SECONDS, FINAL
from shared.ledger.processes import WORKER_SEEN_SECONDS
from shared.logs import configure_logging
from shared.metrics.exporter import Page
from shared.models import Chunk, Claim, Stage
from shared.services import build_services
from shared.tasks import TASK_NAMES, make_celery
from shared.tracing import tracing
from worker.aside import BUSY_SECONDS, BUSY_SECONDS_EACH, Aside
from worker.celery_request import AcknowledgedRequest
from worker.chunk_spans import in_span
from worker.database import clear_left
from worker.encoders import CollectionModels, EncoderClock, Encoders
from worker.pipelines import handler_of, is_long, store_of
from worker.recovery.lease import MAX_DELIVERIES, count_delivery, exhausted, releasing, wait_for_model
from worker.stages import index
from worker.stages.transition import fail_chunk

log = structlog.get_logger(__name__)

_DECISION_RETRY_SECONDS = 5.0
LISTINGS_AT_ONCE = 3  # of a pool process; each has some 200 MB


class Process:
    """The clients of one pool process, made after the fork, which neither they nor CUDA survive.

    One whose model cannot be had works on what needs none, exports for instance.
    """

    models: CollectionModels
    encoders: Encoders
    clock: EncoderClock
    lost: threading.Event  # set when the present claim is no longer held

    def __init__(self, settings: Settings, model: str, stages: Sequence[Stage], headers: HostHeaders) -> None:
        self.headers = headers
        # A server that is slow on purpose holds up a listing for hours: not also the end of other syncs.
        self._asides = {BEGIN: Aside(LISTINGS_AT_ONCE), FINAL: Aside(1)}
        self.services = build_services(settings)
        self.models = CollectionModels(self.services.index, model)
        if Stage.FETCH in stages:
            clear_left()
        if Stage.ENCODE in stages:
            self.encoders = Encoders(settings, model)
            self.clock = EncoderClock()

    def deliver(self, stage: Stage, ref: str) -> None:
        """Handle one message. A chunk that cannot be finished now is released, never lost."""
        if stage is Stage.INDEX:
            index.drain(self.services, store_of)
            return
        ledger = self.services.ledger
        claim = ledger.claim(Chunk.parse(ref), stage)
        if claim is None:
            return
        if is_long(claim):
            if not self._asides[claim.payload].start(
                partial(copy(self)._work, claim)
            ):  # a copy, as `lost` is the claim's
                delay = BUSY_SECONDS + BUSY_SECONDS_EACH * ledger.sources.count_running()
                ledger.release([claim], delay, count_delivery=False, waits=True)
            return
        self._work(claim)

    def _work(self, claim: Claim) -> None:
        ledger = self.services.ledger
        with (
            in_span(claim),
            renewing(lambda: ledger.renew([claim]), CHUNK_LEASE_SECONDS) as self.lost,
            releasing(ledger, [claim]),
        ):
            self._handle(claim)
        self.services.dispatcher.pump()

    def _handle(self, claim: Claim) -> None:
        count_delivery(claim)
        if claim.deliveries > MAX_DELIVERIES:
            fail_chunk(self.services, claim, exhausted(claim))
            return
        try:
            handler_of(claim)(self, claim)
        except ItemError as error:  # it concerns every item alike
            fail_chunk(self.services, claim, error)
        except ConfigError as error:  # of the model that the job asks for
            if not wait_for_model(self.services.ledger, claim, error):
                fail_chunk(self.services, claim, ItemError("encode_error", error.detail), stops=True)


def make_worker(settings: Settings, stages: Sequence[Stage]) -> Celery:
    """Make the Celery application with the tasks of `stages`; each pool process makes its own `Process`."""
    app = make_celery(settings)
    made: list[Process] = []
    model = settings.model
    if set(stages) & {Stage.FETCH, Stage.ENCODE}:
        # Decided once, by the parent: a model that cannot be had stops the start with one line, unless there
        # is work without it.
        model = _decided(settings) if model == AUTO else model
        try:
            resolve_model(model)
        except ModelUnavailable as error:
            if Stage.FETCH not in stages:
                raise
            log.error("only_exports_and_imports", reason=error.detail)  # noqa: TRY400 - the sentence says it
    if Stage.ENCODE in stages:
        tagging.read_vocabulary(settings.tag_vocabulary)
    # Credentials: no other role reads them. A pool process that starts later has them even if the file broke.
    headers = HostHeaders(settings.fetch_headers if Stage.FETCH in stages else None)

    def process() -> Process:
        if not made:
            made.append(Process(settings, model, stages, headers))
            log.info("process_ready", stages=[str(stage) for stage in stages])
        return made[0]

    def task(stage: Stage) -> Callable[[str], None]:
        def deliver(ref: str) -> None:
            try:
                process().deliver(stage, ref)
            except (Unavailable, ConfigError) as error:
                log.warning("message_left_to_the_sweeper", chunk=ref, reason=error.detail)

        return deliver

    _connect_signals(settings, process, role="-".join(stages))
    for stage in stages:
        app.task(task(stage), name=TASK_NAMES[stage], Request=AcknowledgedRequest, shared=False)
    return app


def _decided(settings: Settings) -> str:
    """Return what `auto` means, once Chroma, which may start later, says what its collections need."""
    services = build_services(settings)
    while True:
        try:
            return resolve_auto(services.blobs, services.index.collections)
        except IndexUnavailable as error:
            log.warning("model_not_decided", reason=error.detail, retry_s=_DECISION_RETRY_SECONDS)
        time.sleep(_DECISION_RETRY_SECONDS)


def _connect_signals(settings: Settings, start: Callable[[], object], role: str) -> None:
    """Make Celery log as all roles do, and call `start` in each pool process, which makes a role's spans."""

    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def configure(**_: Any) -> None:
        configure_logging(settings)

    @signals.worker_before_create_process.connect(weak=False)  # type: ignore[untyped-decorator]
    def limit_arenas(**_: Any) -> None:
        # A full collection in a pool process marks every object that it inherited, and so copies their pages.
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    @signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def start_process(**_: Any) -> None:
        configure_logging(settings)
        tracing.set_up(role)
        try:
            start()
        except ImageSearchError as error:  # Celery only logs what this raises; each message tries again
            log.error("process_not_ready", reason=error.detail)  # noqa: TRY400 - the sentence says it

    @signals.worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def end_process(**_: Any) -> None:
        tracing.shut_down()  # what is left to atexit never runs in a pool process


def run_worker(settings: Settings, queues: Sequence[str], concurrency: int) -> None:
    """Run a prefork worker for `queues` until SIGTERM (finish what is running) or SIGQUIT."""
    configure_logging(settings)
    tracing.is_wanted()  # refuses, before there are processes, what none of them could do
    stages = [Stage(queue) for queue in queues]
    if settings.metrics_port:  # first, as it may be taken
        Page([stage.value for stage in stages]).serve(settings.metrics_host, settings.metrics_port)
    app = make_worker(settings, stages)
    with suppress(LedgerUnavailable):  # may come later; a newer version's stops the start with one line
        build_services(settings).ledger.ping()
    _beat_from_parent(settings, queues, concurrency)
    app.worker_main(
        [
            "worker",
            f"--queues={','.join(queues)}",
            f"--concurrency={concurrency}",
            "--pool=prefork",
            f"--hostname={'-'.join(queues)}-{os.getpid()}@%h",
            f"--loglevel={settings.log_level}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "-O",
            "fair",
        ]
    )


def _beat_from_parent(settings: Settings, queues: Sequence[str], slots: int) -> None:
    """Send the ledger this worker's heartbeat every few seconds, from its ready to its shutdown."""
    stopped = threading.Event()
    worker_id = f"{socket.gethostname()}-{os.getpid()}"

    def beat() -> None:
        ledger = build_services(settings).ledger
        while True:
            try:
                ledger.workers.heartbeat(worker_id, socket.gethostname(), queues, slots)
                if stopped.wait(WORKER_SEEN_SECONDS / 4):
                    ledger.workers.forget(worker_id)
                    return
            except Unavailable:
                if stopped.wait(1):
                    return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def start(**_: Any) -> None:
        thread.start()

    @signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def stop(**_: Any) -> None:
        stopped.set()
        if thread.is_alive():
            thread.join(2)
