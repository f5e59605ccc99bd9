"""Queue and task names, Celery's settings, and the sending of messages."""

import math

import structlog
from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from shared.config import Settings
from shared.errors import BrokerUnavailable, LedgerUnavailable
from shared.ledger.ledger import Ledger
from shared.models import Chunk, Stage

TASK_NAMES = {stage: f"image_search.{stage}" for stage in Stage}
# Both beside the time that a chunk's downloads may take.
TIME_LIMIT_SECONDS = 900  # a task that runs longer is killed, and its chunk given to another
VISIBILITY_TIMEOUT_SECONDS = 3600  # above TIME_LIMIT_SECONDS; a dead worker's lease is over long before

log = structlog.get_logger(__name__)


def make_celery(settings: Settings) -> Celery:
    app = Celery("image_search", broker=settings.celery_broker_url)
    rounds = math.ceil(settings.chunk_size / settings.fetch_concurrency)
    downloads = math.ceil(rounds * settings.whole_download_s)
    visibility_timeout = VISIBILITY_TIMEOUT_SECONDS + downloads
    transport = {
        "visibility_timeout": visibility_timeout,
        "socket_timeout": 30,
        "socket_connect_timeout": 2,
        "socket_keepalive": not settings.celery_broker_url.startswith("redis+socket"),
    }
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_time_limit=TIME_LIMIT_SECONDS + downloads,
        task_routes={name: {"queue": str(stage)} for stage, name in TASK_NAMES.items()},
        task_default_queue=str(Stage.FETCH),
        task_create_missing_queues=True,
        visibility_timeout=visibility_timeout,
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": visibility_timeout},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        worker_proc_alive_timeout=600,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        # A chunk belongs to its lease, not to its message: work goes on while the broker restarts.
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


class Dispatcher:
    """The sender of chunks' messages to the broker. A message is one chunk reference, nothing else."""

    def __init__(self, celery: Celery, ledger: Ledger) -> None:
        self._celery = celery
        self._ledger = ledger

    def send(self, stage: Stage, chunk: Chunk) -> None:
        """Send a chunk's message to the queue of `stage`. Raises BrokerUnavailable.

        The sweeper then sends it again. While the index writer is at work none is sent to it: one task drains
        what hundreds of messages would ask for, and they would pile up in the broker for as long as a job
        lasts.
        """
        if stage is Stage.INDEX and self._ledger.writer.is_held():
            return
        try:
            self._celery.send_task(TASK_NAMES[stage], args=[chunk.ref], queue=str(stage))
        except (KombuError, CeleryError, OSError) as error:
            raise BrokerUnavailable("The message broker does not answer.") from error

    def wake_writer(self) -> None:
        """Wake the index writer for ready chunks. A failure is only logged: the sweeper wakes it too."""
        try:
            self._celery.send_task(TASK_NAMES[Stage.INDEX], args=[""], queue=str(Stage.INDEX))
        except (KombuError, CeleryError, OSError) as error:
            log.warning("writer_not_woken", reason=str(error))

    def pump(self) -> None:
        """Send the messages of all chunks to be fetched now; failures are logged, the sweeper repeats."""
        try:
            for chunk in self._ledger.dispatch():
                self.send(Stage.FETCH, chunk)
        except (BrokerUnavailable, LedgerUnavailable) as error:
            log.warning("dispatch_postponed", reason=error.detail)
