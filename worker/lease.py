"""Holding a lease while work goes on, and giving the work back, or up, when it cannot be done."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from shared.errors import IndexUnavailable, ItemError, LedgerUnavailable, Unavailable
from shared.ledger import CHUNK_LEASE_S, Ledger
from shared.manifest import read_results, write_results
from shared.models import Claim, ItemResult, ItemState, JobError, Stage
from shared.services import Services

SUSPICIOUS_DELIVERIES = 3  # a chunk that came this often may hold a picture that kills its worker
MAX_DELIVERIES = 10  # far beyond isolation: what still fails is not the pictures' fault
UNAVAILABLE_DELAY_S = 3.0
WRITER_PATIENCE_S = 150.0  # longer than the writer works on one message
ERROR_DELAY_S = 10.0

log = structlog.get_logger(__name__)


@contextmanager
def renewing(renew: Callable[[], object], every_s: float = CHUNK_LEASE_S / 3) -> Iterator[None]:
    """Calls `renew` from a thread for as long as the block runs."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(every_s):
            try:
                renew()
            except LedgerUnavailable as error:
                log.warning("lease_not_renewed", reason=error.detail)

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def writer_paused(services: Services) -> Iterator[Callable[[], None]]:
    """`Services.writing` for long: more patient, and the lease is renewed for as long as the block runs."""
    with services.writing(WRITER_PATIENCE_S) as check:

        def renew() -> None:
            with suppress(IndexUnavailable):  # the next `check` says so where it counts
                check()

        with renewing(renew):
            yield check


@contextmanager
def giving_back(ledger: Ledger, claims: Sequence[Claim]) -> Iterator[None]:
    """Ends trouble in the block by releasing `claims`; that of a dependency does not count as a delivery."""
    refs = [claim.chunk.ref for claim in claims]
    try:
        try:
            yield
        except Unavailable as error:
            postpone(ledger, claims, error)
        except Exception:
            log.exception("chunks_failed", chunks=refs)
            ledger.release(claims, ERROR_DELAY_S, count_delivery=True)
    except LedgerUnavailable as error:
        log.warning("chunks_left_to_the_sweeper", chunks=refs, reason=error.detail)


def postpone(ledger: Ledger, claims: Sequence[Claim], error: Unavailable) -> None:
    log.warning("chunks_postponed", chunks=[claim.chunk.ref for claim in claims], reason=error.detail)
    ledger.release(claims, UNAVAILABLE_DELAY_S, count_delivery=False)


def exhausted(claim: Claim) -> ItemError:
    detail = f"The {claim.stage} worker failed on this chunk {MAX_DELIVERIES} times; its log says why."
    return ItemError("internal", detail)


def give_up(services: Services, claim: Claim, error: ItemError) -> None:
    """Fails what the claim still holds, and nothing that another attempt of its chunk is working on."""
    ledger, chunk, attempt = services.ledger, claim.chunk, claim.chunk.attempt + 1
    states, _ = ledger.items(chunk.job_id, None, claim.first_item, claim.last_item - claim.first_item)
    if claim.stage is Stage.FETCH:
        lost = [i for i, state in states if state is ItemState.PENDING]
    else:
        size = ledger.get(chunk.job_id).chunk_size
        results = read_results(services.blobs, chunk.job_id, size, claim.first_item, claim.last_item)
        carried = {i for i, result in results.items() if result.attempts == attempt}
        lost = [i for i, state in states if state is ItemState.FETCHED and i in carried]
    failed = [ItemResult(i, "", attempt, code=error.code, detail=error.detail) for i in lost]
    write_results(services.blobs, chunk, claim.stage, claim.token, failed)
    ledger.advance(
        claim,
        moves=[(i, ItemState.FAILED) for i in lost],
        errors=[JobError(i, "", error.code, error.detail) for i in lost],
    )
