"""The spans of chunks, and the fields of log lines about them. Imports no other room."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from structlog.contextvars import bound_contextvars

from shared.models import Cause, Claim
from shared.tracing import tracing
from shared.tracing.span import Span


@contextmanager
def in_span(claim: Claim) -> Iterator[None]:
    """Make the block the span of a claim's chunk, to which its log lines belong."""
    with in_log([claim]), begin_span(claim):
        yield


def begin_span(claim: Claim) -> Span:
    """Begin the span of a claim, within that of the request that made its job."""
    chunk = claim.chunk
    attributes = {
        "image_search.job": chunk.job_id,
        "image_search.kind": str(claim.kind),
        "image_search.collection": claim.collection,
        "image_search.chunk": chunk.number,
        "image_search.attempt": chunk.attempt,
        "image_search.items": claim.last_item - claim.first_item,
        "image_search.deliveries": claim.deliveries,
        "image_search.request_id": claim.cause.request_id,
    }
    return tracing.span(str(claim.stage), kind="consumer", parent=claim.cause, attributes=attributes)


def in_log(claims: Sequence[Claim]) -> AbstractContextManager[object]:
    """Have the block's log lines say what the claims share: request, job and chunk."""
    said = [
        {"request_id": one.cause.request_id, "job_id": one.chunk.job_id, "chunk": one.chunk.ref}
        for one in claims
    ]
    shared = set.intersection(*(set(one.items()) for one in said)) if said else set()
    return bound_contextvars(**{name: value for name, value in shared if value})


class BatchSpans:
    """The spans of chunks that are written together, which end with the block unless it gives them away."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._spans = {claim.chunk: (claim, begin_span(claim)) for claim in claims}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for _, span in self._spans.values():
            if isinstance(error, Exception):
                span.record(error)
            span.end()

    @property
    def claims(self) -> list[Claim]:
        return [claim for claim, _ in self._spans.values()]

    @contextmanager
    def inside(self, claim: Claim) -> Iterator[None]:
        """Have the block's spans and log lines belong to one of the chunks."""
        with in_log([claim]), self._spans[claim.chunk][1].inside():
            yield

    @contextmanager
    def writing(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Have the block be one write of some of the chunks: a span of its own, linked both ways."""
        spans = [self._spans[claim.chunk][1] for claim in claims]
        attributes = {
            "image_search.collection": claims[0].collection,
            "image_search.chunks": len(claims),
            "image_search.items": sum(claim.last_item - claim.first_item for claim in claims),
        }
        with tracing.span("write batch", parent=Cause(), links=spans, attributes=attributes) as batch:
            for span in spans:
                span.link(batch)
            try:
                yield
            except Exception as error:
                for span in spans:
                    span.record(error)
                raise

    def take(self, claims: Sequence[Claim]) -> "BatchSpans":
        """Give away the spans of some of the chunks."""
        taken = BatchSpans([])
        taken._spans = {claim.chunk: self._spans.pop(claim.chunk) for claim in claims}
        return taken
