from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.contextvars import clear_contextvars, get_contextvars

from shared.errors import IndexRefused, ItemError
from shared.models import Cause, Chunk, Claim, Stage
from shared.tracing import tracing
from tests.otlp_receiver import OtlpReceiver, spans_of_this_process
from tests.unit.stages import drain, make_services
from worker.chunk_spans import in_log, in_span
from worker.stages.transition import fail_chunk


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with spans_of_this_process("index") as one:
        yield one


@pytest.fixture(autouse=True)
def _no_fields_of_others() -> None:
    clear_contextvars()


def claim(job: str, number: int, request_id: str = "") -> Claim:
    return Claim(
        Chunk(job, 0, number), Stage.INDEX, "t", 1, "", "images", 0, 2, 1, cause=Cause(request_id=request_id)
    )


def test_log_lines_say_of_a_chunk_its_request_its_job_and_itself() -> None:
    with in_log([claim("a", 3, "r-1")]):
        assert get_contextvars() == {"request_id": "r-1", "job_id": "a", "chunk": "a:0:3:0"}
    assert get_contextvars() == {}


def test_log_lines_say_of_several_chunks_what_is_true_of_all() -> None:
    with in_log([claim("a", 3, "r-1"), claim("a", 4, "r-1")]):
        assert get_contextvars() == {"request_id": "r-1", "job_id": "a"}
    with in_log([claim("a", 3), claim("b", 3)]):
        assert get_contextvars() == {}


def test_chunks_that_are_written_together_are_spans_linked_with_the_one_of_the_write(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    services = make_services(tmp_path)
    services.to_index(["a", "b"])
    services.to_index(["c"])
    drain(services.real)
    tracing.shut_down()
    chunks, (batch,) = receiver.named("index"), receiver.named("write batch")
    assert sorted(span.attributes["image_search.items"] for span in chunks) == [1, 2]
    assert {*batch.links} == {span.id for span in chunks}
    assert [span.links for span in chunks] == [(batch.id,)] * 2
    assert batch.attributes["image_search.items"] == 3


def test_a_write_that_fails_fails_the_spans_of_its_chunks(receiver: OtlpReceiver, tmp_path: Path) -> None:
    services = make_services(tmp_path)
    services.index.stored.trouble = IndexRefused("The disk is full.")
    services.to_index(["a"])
    drain(services.real)
    tracing.shut_down()
    for span in receiver.named("index") + receiver.named("write batch"):
        assert span.failed
        assert span.events[0]["exception.message"] == "The disk is full."
    assert len(receiver.spans) == 2


def test_a_chunk_that_fails_as_a_whole_is_a_failed_span(receiver: OtlpReceiver, tmp_path: Path) -> None:
    services = make_services(tmp_path)
    services.job(1)
    one = services.claim()
    with in_span(one):
        fail_chunk(services.real, one, ItemError("dns_error", "secret.example cannot be resolved"))
    tracing.shut_down()
    (span,) = receiver.named("fetch")
    assert span.attributes["error.type"] == "dns_error"
    assert span.failed
    assert "secret" not in str(span)
