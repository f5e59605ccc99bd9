"""Releasing work that cannot be done now, and when to stop trying."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import structlog

from shared.errors import ConfigError, ItemError, LedgerUnavailable, ModelUnavailable, Unavailable
from shared.ledger.ledger import Ledger
from shared.metrics.definitions import POISON_CHUNKS, POSTPONED_CHUNKS, REDELIVERIES
from shared.models import Claim
from shared.tracing import tracing

SUSPICIOUS_DELIVERIES = 3  # a chunk that came this often may hold a picture that kills its worker
MAX_DELIVERIES = 10  # far beyond isolation: what still fails is not the pictures' fault
UNAVAILABLE_DELAY_SECONDS = 3.0
ERROR_DELAY_SECONDS = 10.0  # doubled with each delivery that waits for a model, up to
MAX_DELAY_SECONDS = 300.0
_FAILED = "The worker failed on it; its log says why."

log = structlog.get_logger(__name__)


def count_delivery(claim: Claim) -> None:
    """Count a delivery that is not the chunk's first, and what is done with one that comes too often."""
    if claim.deliveries > 1:
        REDELIVERIES.labels(claim.stage).inc()
    if claim.deliveries >= SUSPICIOUS_DELIVERIES:
        action = "given_up" if claim.deliveries > MAX_DELIVERIES else "isolated"
        POISON_CHUNKS.labels(claim.stage, action).inc()


@contextmanager
def releasing(ledger: Ledger, claims: Sequence[Claim]) -> Iterator[None]:
    """Release `claims` when the block raises; a dependency's failure does not count as a delivery."""
    refs = [claim.chunk.ref for claim in claims]
    try:
        try:
            yield
        except Unavailable as error:
            postpone(ledger, claims, error)
        except Exception as error:
            log.exception("chunks_failed", chunks=refs)
            _count_postponed(claims, "error")
            tracing.current().record(error)
            ledger.release(claims, ERROR_DELAY_SECONDS, count_delivery=True, reason=_FAILED)
    except LedgerUnavailable as error:
        log.warning("chunks_left_to_the_sweeper", chunks=refs, reason=error.detail)
        tracing.current().record(error)


def postpone(ledger: Ledger, claims: Sequence[Claim], error: Unavailable) -> None:
    """Release claims because a dependency failed; that does not count as a delivery."""
    log.warning("chunks_postponed", chunks=[claim.chunk.ref for claim in claims], reason=error.detail)
    _count_postponed(claims, "unavailable")
    tracing.current().record(error)
    ledger.release(claims, UNAVAILABLE_DELAY_SECONDS, count_delivery=False, waits=True, reason=error.detail)


def wait_for_model(ledger: Ledger, claim: Claim, error: ConfigError) -> bool:
    """Release a claim whose model may be had later; return False when it is not worth waiting (any more)."""
    if not isinstance(error, ModelUnavailable) or not error.passing or claim.deliveries >= MAX_DELIVERIES:
        return False
    delay_s = min(ERROR_DELAY_SECONDS * 2 ** (claim.deliveries - 1), MAX_DELAY_SECONDS)
    log.warning("chunk_waits_for_its_model", chunk=claim.chunk.ref, reason=error.detail, delay_s=delay_s)
    _count_postponed([claim], "unavailable")
    tracing.current().record(error)
    ledger.release([claim], delay_s, count_delivery=True, waits=True, reason=error.detail)
    return True


def _count_postponed(claims: Sequence[Claim], reason: Literal["unavailable", "error"]) -> None:
    for claim in claims:
        POSTPONED_CHUNKS.labels(claim.stage, reason).inc()


def exhausted(claim: Claim) -> ItemError:
    """Return the error of a chunk that was delivered MAX_DELIVERIES times in vain."""
    detail = f"The {claim.stage} worker failed on this chunk {MAX_DELIVERIES} times; its log says why."
    return ItemError("internal", detail)
