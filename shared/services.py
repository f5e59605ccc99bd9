"""The only place that chooses implementations."""

from contextlib import suppress
from dataclasses import dataclass

import structlog
from celery import Celery

from shared import vectorlog
from shared.blobs import PICTURE_KINDS, Blobs, collection_prefix, log_prefix, picture_key
from shared.config import Settings
from shared.download import Downloader
from shared.errors import IndexUnavailable
from shared.index import Index
from shared.ledger import Ledger
from shared.tasks import Dispatcher, make_celery

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
        with suppress(IndexUnavailable):  # then each request says it
            for fault in self.index.foreign(model, fingerprint):
                log.warning("collection_of_another_model", detail=fault)

    def remove_image(self, collection: str, image_id: str) -> None:
        """Removes a picture everywhere. Raises CollectionNotFound, ImageNotFound."""
        opened = self.index.collection(collection)
        opened.get(image_id)
        version = vectorlog.new_version()
        vectorlog.write_removal(self.blobs, collection, opened.info.fingerprint, image_id, version)
        self.ledger.record_removal(collection, image_id, version)
        opened.delete([image_id])
        self.blobs.delete(*(picture_key(collection, image_id, kind) for kind in PICTURE_KINDS))

    def remove_collection(self, collection: str) -> None:
        """Removes a collection, its pictures and its vector log. Raises CollectionNotFound."""
        self.index.collection(collection)
        self.ledger.record_removal(collection, "*", vectorlog.new_version())
        self.index.delete(collection)
        self.blobs.delete_prefix(log_prefix(collection))
        self.blobs.delete_prefix(collection_prefix(collection))


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
        ),
        celery=celery,
        dispatcher=Dispatcher(celery, ledger),
    )
