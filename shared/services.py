"""The one module that chooses the implementations of blob store, ledger, index and broker."""

from dataclasses import dataclass

from celery import Celery

from shared.config import Settings
from shared.download.downloader import Downloader
from shared.index.index import Index, build_index
from shared.ledger.ledger import Ledger
from shared.storage.blobs import Blobs
from shared.tasks import Dispatcher, make_celery


@dataclass(frozen=True)
class Services:
    """The clients of a role. None connects before its first use, so all servers may be down at start."""

    settings: Settings
    blobs: Blobs
    ledger: Ledger
    index: Index
    downloader: Downloader
    celery: Celery
    dispatcher: Dispatcher


def build_services(settings: Settings, listens_at: str | None = None) -> Services:
    """Make the clients that the settings name; `listens_at` is the URL at which this process serves."""
    celery = make_celery(settings)
    ledger = Ledger(
        settings.redis_url,
        job_ttl_s=settings.job_ttl_days * 86_400,
        most_jobs=settings.max_jobs_per_key,
        most_bytes=settings.max_job_bytes_per_key,
    )
    own = (settings.redis_url, settings.broker_url, settings.chroma_url, settings.url, listens_at)
    return Services(
        settings=settings,
        blobs=Blobs(settings.blob_url),
        ledger=ledger,
        index=build_index(settings),
        downloader=Downloader(
            timeout_s=settings.fetch_timeout_s,
            whole_s=settings.whole_download_s,
            max_bytes=settings.max_image_bytes,
            allow_hosts=settings.allow_hosts,
            own_urls=[url for url in own if url],
            refused_robots_tags=settings.refused_robots_tags,
            user_agent=settings.fetch_user_agent,
            ca_bundle=settings.ca_bundle,
        ),
        celery=celery,
        dispatcher=Dispatcher(celery, ledger),
    )
