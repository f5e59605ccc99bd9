"""The pipeline of each kind of job: a new kind is one module in stages/ and one row here."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared.imaging.preprocess import Preprocess
from shared.ledger.ledger import FINAL
from shared.models import Claim, JobKind, Stage
from shared.services import Services
from worker.encoders import EncoderClock, Encoders
from worker.stages import encode, export, fetch, import_, index, reindex
from worker.stages.index import Store


class Tools(Protocol):
    """The parts of a worker process; `preprocess` and `encoders` raise Unavailable without a model.

    `lost` is set once the claim at hand is no longer held.
    """

    services: Services
    clock: EncoderClock
    lost: threading.Event

    @property
    def preprocess(self) -> Preprocess: ...

    @property
    def encoders(self) -> Encoders: ...


Handler = Callable[[Tools, Claim], None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The handlers of a kind of job, one for each stage that its chunks pass.

    `final` handles the chunk beyond the items, of jobs that were made with a `final_stage`.
    """

    fetch: Handler
    encode: Handler | None = None
    index: Store | None = None
    final: Handler | None = None


def _encode(tools: Tools, claim: Claim) -> None:
    encode.run(tools.services, tools.encoders.of(claim), claim, tools.clock)


PIPELINES = {
    JobKind.INGEST: Pipeline(
        fetch=lambda tools, claim: fetch.run(tools.services, tools.preprocess, claim, tools.lost),
        encode=_encode,
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
        final=lambda tools, claim: reindex.finish(tools.services, tools.encoders.of(claim), claim),
    ),
}


def handler_of(claim: Claim) -> Handler:
    """Return the handler of a claim. Raises LookupError where its kind of job has none at its stage."""
    pipeline = PIPELINES[claim.kind]
    at_stage = pipeline.fetch if claim.stage is Stage.FETCH else pipeline.encode
    handler = pipeline.final if claim.payload == FINAL else at_stage
    if handler is None:
        raise LookupError(f"A chunk of kind {claim.kind} has nothing to do at {claim.stage}.")
    return handler


def store_of(kind: JobKind) -> Store:
    """Return what writes vectors of this kind of job. Raises LookupError where it brings none."""
    store = PIPELINES[kind].index
    if store is None:
        raise LookupError(f"Jobs of kind {kind} bring nothing to the index.")
    return store
