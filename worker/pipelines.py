"""The pipeline of each kind of job: a new kind is one module and one row here."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from shared.download.host_headers import HostHeaders
from shared.errors import ModelUnavailable, Unavailable
from shared.ledger.ledger import BEGIN, FINAL
from shared.models import Claim, JobKind, Stage
from shared.services import Services
from worker.encoders import CollectionModels, EncoderClock, Encoders
from worker.stages import changes, encode, export, fetch, import_, index, reindex
from worker.stages.index import Direct, Store
from worker.syncs.begin import begin
from worker.syncs.finish import finish


class Tools(Protocol):
    """The parts of a worker process: `models` and `headers` for one that fetches, `encoders` for encoding.

    `lost` is set once the claim at hand is no longer held.
    """

    services: Services
    models: CollectionModels
    headers: HostHeaders
    encoders: Encoders
    clock: EncoderClock
    lost: threading.Event


Handler = Callable[[Tools, Claim], None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The handlers of a kind of job, one for each stage that its chunks pass.

    `final` handles the chunk beyond the items, of jobs that were made with a `final_stage`; `begin` the one
    that makes the items, of jobs that were made without.
    """

    fetch: Handler
    encode: Handler | None = None
    index: Store | Direct | None = None
    final: Handler | None = None
    begin: Handler | None = None


@contextmanager
def _waiting_for_its_model() -> Iterator[None]:
    """Let an ingest wait for its collection's model as long as that cannot be had."""
    try:
        yield
    except ModelUnavailable as error:
        raise Unavailable(error.detail) from error


def _fetch(tools: Tools, claim: Claim) -> None:
    with _waiting_for_its_model():
        fetch.run(tools.services, tools.models.of(claim.collection), claim, tools.lost, tools.headers)


def _fetch_sync(tools: Tools, claim: Claim) -> None:
    if not changes.hand_on_removals(tools.services, claim):
        _fetch(tools, claim)


def _encode_ingest(tools: Tools, claim: Claim) -> None:
    with _waiting_for_its_model():
        _encode(tools, claim)


def _encode(tools: Tools, claim: Claim) -> None:
    encode.run(tools.services, tools.encoders, claim, tools.clock)


# They differ in what `changes` makes of their items.
_CHANGE = Pipeline(
    fetch=lambda tools, claim: changes.begin(tools.services, claim),
    index=Direct(changes.write),
    final=lambda tools, claim: changes.tell(tools.services, claim),
)
PIPELINES = {
    JobKind.INGEST: Pipeline(
        fetch=_fetch,
        encode=_encode_ingest,
        index=index.store,
    ),
    JobKind.EXPORT: Pipeline(fetch=lambda tools, claim: export.run(tools.services, claim)),
    JobKind.IMPORT: Pipeline(
        fetch=lambda tools, claim: import_.run(tools.services, claim), index=index.store
    ),
    JobKind.REINDEX: Pipeline(
        fetch=lambda tools, claim: reindex.begin(tools.services, claim),
        encode=_encode,
        index=reindex.store,
        final=lambda tools, claim: reindex.finish(
            tools.services, lambda: tools.encoders.of(claim.options), claim
        ),
    ),
    JobKind.SYNC: Pipeline(
        fetch=_fetch_sync,
        encode=_encode_ingest,
        index=index.store,
        final=lambda tools, claim: finish(tools.services, claim),
        begin=lambda tools, claim: begin(tools.services, claim, tools.headers, tools.lost),
    ),
    JobKind.UPDATE: _CHANGE,
    JobKind.DELETE: _CHANGE,
}


def is_long(claim: Claim) -> bool:
    """Return whether the claim's work may take minutes, and belongs aside."""
    return claim.kind is JobKind.SYNC and claim.payload in (BEGIN, FINAL)


def handler_of(claim: Claim) -> Handler:
    """Return the handler of a claim. Raises LookupError where its kind of job has none at its stage."""
    pipeline = PIPELINES[claim.kind]
    at_stage = pipeline.fetch if claim.stage is Stage.FETCH else pipeline.encode
    handler = {BEGIN: pipeline.begin, FINAL: pipeline.final}.get(claim.payload, at_stage)
    if handler is None:
        raise LookupError(f"A chunk of kind {claim.kind} has nothing to do at {claim.stage}.")
    return handler


def store_of(claim: Claim) -> Store | Direct:
    """Return what writes a claim's chunk. Raises LookupError where its kind of job brings nothing."""
    if claim.payload == changes.REMOVALS:
        return Direct(changes.write)
    store = PIPELINES[claim.kind].index
    if store is None:
        raise LookupError(f"Jobs of kind {claim.kind} bring nothing to the index.")
    return store
