"""Giving the records of earlier versions' collections the documents that keywords find them by."""

import threading
import time

import structlog

from shared.errors import ImageSearchError
from shared.ledger.writer_lease import writing
from shared.services import Services

INTERVAL_SECONDS = 30.0
LEAST_PAUSE_SECONDS = 0.1

log = structlog.get_logger(__name__)


def add_documents_until(services: Services, stopped: threading.Event) -> None:
    """Look every INTERVAL_SECONDS for collections whose records lack documents, and write these."""
    while not stopped.is_set():
        try:
            names = [pointer.name for pointer in services.index.pointers()]
        except ImageSearchError as error:
            names = []
            log.warning("documents_postponed", reason=error.detail)
        for name in names:
            try:
                if not services.index.has_documents(name):
                    add_documents(services, name, stopped)
            except ImageSearchError as error:  # what is written stays: the next look goes on from there
                log.warning("documents_postponed", collection=name, reason=error.detail)
            except Exception:  # else nobody would ever look again
                log.exception("documents_failed", collection=name)
        stopped.wait(INTERVAL_SECONDS)


def add_documents(services: Services, name: str, stopped: threading.Event) -> None:
    """Write the documents that a collection lacks, a page at a time; between two others write for as long."""
    while not stopped.is_set():
        started = time.monotonic()
        with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
            added = services.index.add_documents(name, check)
        if not added:
            log.info("keywords_ready", collection=name)
            return
        stopped.wait(max(LEAST_PAUSE_SECONDS, time.monotonic() - started))
