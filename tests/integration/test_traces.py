"""One trace of a job of three chunks, and of a search, in a collector; log lines that lead there."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.image_server import ImageServer
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, as_text
from tests.stack import Stack, eventually, finished

CHUNKS = 3
CALLER = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as one:
        yield one


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("traces"), CHUNK_SIZE="2", LOG_FORMAT="json")
    one.configure_process(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="100")
    with one:
        yield one


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def body(pictures: ImageServer, count: int) -> dict[str, Any]:
    return {"items": [{"url": pictures.url(f"/photo/{seed}.jpg?w=64&h=64")} for seed in range(count)]}


def of_request(receiver: OtlpReceiver, request_id: str) -> list[ReceivedSpan]:
    return [span for span in receiver.spans if span.attributes.get("image_search.request_id") == request_id]


def lines(stack: Stack, role: str, event: str) -> list[dict[str, Any]]:
    texts = [line for line in stack.log(role).splitlines() if line.startswith("{")]
    return [said for said in map(json.loads, texts) if said.get("event") == event]


def test_a_trace_shows_a_job_from_its_request_through_each_stage_of_its_chunks(
    http: httpx.Client, receiver: OtlpReceiver, pictures: ImageServer
) -> None:
    headers = {"X-Request-ID": (request_id := uuid4().hex), "traceparent": CALLER}
    job = finished(http, http.post("/v1/jobs", json=body(pictures, 2 * CHUNKS), headers=headers))
    assert job["counts"]["indexed"] == 2 * CHUNKS

    def named(name: str) -> list[ReceivedSpan]:
        return [span for span in of_request(receiver, request_id) if span.name == name]

    def batches() -> list[ReceivedSpan]:
        written = {span.id for span in named("index")}
        return [batch for batch in receiver.named("write batch") if written & {*batch.links}]

    eventually(lambda: sum(len(batch.links) for batch in batches()) == len(named("index")) == CHUNKS)
    (post,) = named("POST /v1/jobs")
    assert (post.trace, post.parent, post.kind) == ("c" * 32, "d" * 16, "server")
    assert post.resource["service.name"] == "image-search-api"
    said = {"http.route": "/v1/jobs", "http.request.method": "POST", "http.response.status_code": 202}
    assert said.items() <= post.attributes.items()
    for stage in ("fetch", "encode", "index"):
        spans = named(stage)
        assert {span.attributes["image_search.job"] for span in spans} == {job["job_id"]}
        assert sorted(span.attributes["image_search.chunk"] for span in spans) == list(range(CHUNKS))
        assert {receiver.ancestors(span)[-1].id for span in spans} == {post.id}
        assert {span.resource["service.name"] for span in spans} == {f"image-search-{stage}"}
    assert {link for span in named("index") for link in span.links} == {batch.id for batch in batches()}
    assert any(receiver.ancestors(call)[0].name == "write batch" for call in receiver.named("chroma upsert"))
    assert "/photo/" not in str(receiver.spans)
    print(as_text(receiver.spans, post.trace))
    for batch in batches():
        print(as_text(receiver.spans, batch.trace))


def test_a_trace_shows_what_a_search_waits_for_and_not_what_it_asks(
    http: httpx.Client, receiver: OtlpReceiver, pictures: ImageServer
) -> None:
    finished(http, http.post("/v1/jobs", json=body(pictures, 1)))
    headers = {"X-Request-ID": (request_id := uuid4().hex)}
    assert http.get("/v1/search", params={"text": "secret zeppelin"}, headers=headers).status_code == 200
    eventually(lambda: of_request(receiver, request_id))
    (search,) = of_request(receiver, request_id)
    assert search.name == "GET /v1/search"
    (encode,) = [span for span in receiver.named("encode") if span.parent == search.id]
    (index,) = [span for span in receiver.named("index") if span.parent == search.id]
    assert encode.trace == index.trace == search.trace
    (query,) = [one for one in receiver.named("chroma query") if index in receiver.ancestors(one)]
    assert query.kind == "client"
    assert "zeppelin" not in str(receiver.spans)
    print(as_text(receiver.spans, search.trace))


def test_a_stream_is_a_span_until_its_end_and_probes_are_none(
    http: httpx.Client, receiver: OtlpReceiver, pictures: ImageServer
) -> None:
    job = finished(http, http.post("/v1/jobs", json=body(pictures, 1)))
    assert "event: end" in http.get(f"/v1/jobs/{job['job_id']}/events").text
    assert http.get("/readyz").status_code == 200
    headers = {"X-Request-ID": (request_id := uuid4().hex)}
    http.get("/nowhere", headers=headers)
    eventually(lambda: of_request(receiver, request_id))
    (unmatched,) = of_request(receiver, request_id)
    assert (unmatched.name, unmatched.attributes["http.response.status_code"]) == ("GET", 404)
    assert receiver.named("GET /v1/jobs/<job_id>/events")
    assert not receiver.named("GET /readyz")


def test_log_lines_of_a_chunk_name_its_request_its_job_and_its_trace(
    stack: Stack, http: httpx.Client, receiver: OtlpReceiver, pictures: ImageServer
) -> None:
    with stack.paused("fetch"):
        headers = {"X-Request-ID": (request_id := uuid4().hex)}
        job_id = http.post("/v1/jobs", json=body(pictures, 1), headers=headers).json()["job_id"]
        for manifest in stack.data_dir.glob(f"**/{job_id}/manifest/*"):
            manifest.unlink()

    def said() -> list[dict[str, Any]]:
        return [one for one in lines(stack, "fetch", "chunks_failed") if one["request_id"] == request_id]

    def failed() -> list[ReceivedSpan]:
        return [span for span in of_request(receiver, request_id) if span.failed]

    eventually(lambda: said() and failed())
    http.delete(f"/v1/jobs/{job_id}")
    line, span = said()[0], failed()[0]
    assert line["job_id"] == job_id
    assert line["chunk"].startswith(job_id)
    assert (line["trace_id"], line["span_id"]) == (span.trace, span.id)
    assert span.events[0]["exception.type"] in line["exception"]


def test_a_collector_that_hangs_changes_nothing(
    stack: Stack, http: httpx.Client, receiver: OtlpReceiver, pictures: ImageServer
) -> None:
    receiver.manner = "hangs"
    job = finished(http, http.post("/v1/jobs", json=body(pictures, 3)))
    assert job["status"] == "succeeded"
    assert http.get("/v1/search", params={"text": "x"}).status_code == 200
    stack.stop()
    assert stack.process is not None
    assert stack.process.poll() == 0
