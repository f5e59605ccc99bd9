"""The only place that chooses implementations."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from celery import Celery

from shared.blobs import Blobs, collection_prefix, discarded_prefix, log_prefix
from shared.config import Settings
from shared.download import Downloader
from shared.errors import IndexUnavailable, Unavailable
from shared.index import Index
from shared.ledger import Ledger
from shared.tasks import Dispatcher, make_celery

WRITER_PATIENCE_S = 20.0  # a writer that is asked to yields after the batch it is at, in a second or two
WRITER_POLL_S = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Services:
    """Everything a role talks to. Nothing connects before its first use, so all may be down at start."""

    settings: Settings
    blobs: Blobs
    ledger: Ledger
    index: Index
    downloader: Downloader
    celery: Celery
    dispatcher: Dispatcher

    def warn_of_foreign(self, model: str, fingerprint: str) -> None:
        """At a start: logs which collections this model cannot read, and what to do."""
        try:
            for fault in self.index.foreign(model, fingerprint):
                log.warning("collection_of_another_model", detail=fault)
        except Unavailable as error:  # each request says it, too
            log.warning("collections_not_looked_at", detail=error.detail)

    @contextmanager
    def writing(self, patience_s: float | None = None) -> Iterator[Callable[[], None]]:
        """The index writer's lease, for a change that is made at once.

        Yields what must be called before each write: it raises IndexUnavailable once the lease is lost.
        Raises that too when another process does not yield the lease in `patience_s` (WRITER_PATIENCE_S).
        """
        token, until = (
            secrets.token_hex(8),
            time.monotonic() + (WRITER_PATIENCE_S if patience_s is None else patience_s),
        )

        while not self.ledger.acquire_writer(token):
            if time.monotonic() > until:
                raise IndexUnavailable("The index is being written to; try again in some seconds.")
            self.ledger.want_writer(token)
            time.sleep(WRITER_POLL_S)
        try:
            yield lambda: self.ledger.check_writer(token)
        finally:
            if not self.ledger.release_writer(token):
                self.ledger.release_writer(token, force=True)
                self.dispatcher.wake_writer()

    def remove_collection(self, collection: str) -> None:
        """Removes a collection, its pictures and its vector log. Raises CollectionNotFound."""
        self.index.collection(collection)
        with self.writing() as check:
            self.ledger.record_removal(collection, "*", self.ledger.new_version())
            check()
            self.index.delete(collection)
        for prefix in (log_prefix, collection_prefix, discarded_prefix):
            self.blobs.delete_prefix(prefix(collection))


def build_services(settings: Settings) -> Services:
    celery = make_celery(settings)
    ledger = Ledger(settings.redis_url, job_ttl_s=settings.job_ttl_days * 86_400)
    token = settings.chroma_token.get_secret_value() if settings.chroma_token else None
    return Services(
        settings=settings,
        blobs=Blobs(settings.blob_url),
        ledger=ledger,
        index=Index(
            settings.chroma_url,
            tenant=settings.chroma_tenant,
            database=settings.chroma_database,
            token=token,
        ),
        downloader=Downloader(
            timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.max_image_bytes,
            allow_hosts=settings.allow_hosts,
            refused_robots_tags=settings.refused_robots_tags,
        ),
        celery=celery,
        dispatcher=Dispatcher(celery, ledger),
    )
