"""The clients against a server of canned answers: what is sent, what is repeated, how answers are read."""

import asyncio
import copy
import inspect
import json
import pickle
import pydoc
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import numpy as np
import pytest

from image_search import (
    ApiError,
    AsyncClient,
    AsyncJobHandle,
    Client,
    Image,
    InvalidSource,
    Job,
    JobHandle,
    NotInstalled,
    SearchResult,
    _bodies,
    _core,
)
from image_search._operations import jobs
from shared.models import ItemState
from tests.unit.client_server import Server, job, keys, problem
from tests.unit.fakes import make_api

AWAY = problem(503, "ledger_unavailable", "away")
ITEM = {"index": 0, "source": "http://x/a", "status": "failed", "code": "timeout", "detail": "slow"}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    with Client("http://server", "secret", transport=httpx.MockTransport(server)) as client:
        yield client


def awaited(server: Server, use: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with AsyncClient("http://server", transport=httpx.MockTransport(server)) as client:
            return await use(client)

    return asyncio.run(run())


# What is sent


def test_urls_are_streamed_as_lines_with_the_key(server: Server, client: Client) -> None:
    server.routes["POST /v1/jobs"] = (202, job(total=3))
    urls: list[Any] = ["http://x/a", {"url": "http://x/b", "metadata": {"n": 1}}, "http://x/c"]
    made = client.ingest_urls(iter(urls), collection="cats", idempotency_key="k1", on_near_duplicate="skip")
    assert made.job_id == "j1"
    assert made.total == 3
    request = server.requests[0]
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["idempotency-key"] == "k1"
    label = {"origin": "client", "made_of": "urls"}
    assert dict(request.url.params) == {"collection": "cats", "on_near_duplicate": "skip", **label}
    assert server.lines() == [{"url": "http://x/a"}, urls[1], {"url": "http://x/c"}]


def test_a_job_to_follow_goes_with_urls_and_tables_and_not_with_files(
    server: Server, client: Client, tmp_path: Path
) -> None:
    server.routes["POST /v1/jobs"] = (202, job())
    client.ingest_urls(["http://x/a"], since="j0")
    client.ingest(["http://x/a"], since="j0")
    for request in server.requests:
        assert request.url.params["since"] == "j0"
    (tmp_path / "a.csv").write_text("url\nhttp://x/a\n")
    client.ingest(tmp_path / "a.csv", since="j0")
    assert server.form(2)[0]["since"] == "j0"
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InvalidSource, match=r"`since` is for URLs and tables of URLs, which .*a\.jpg is not"):
        client.ingest([tmp_path / "a.jpg", tmp_path / "a.csv"], since="j0")
    assert len(server.requests) == 3


def test_files_are_sent_as_a_form_that_keeps_names_and_bytes(
    server: Server, client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "trip"
    folder.mkdir()
    data = bytes(range(256)) * 1000
    (folder / 'a "é".jpg').write_bytes(data)
    (folder / "b\n.jpg").write_bytes(b"")
    server.routes["POST /v1/jobs"] = (202, job())
    made = client.ingest(folder, collection="cats", metadata={"shop": "north"}, on_near_duplicate="skip")
    assert made.id == "j1"
    fields, sent = server.form()
    assert fields == {"collection": "cats", "metadata": '{"shop": "north"}', "on_near_duplicate": "skip"}
    assert [content for _, content in sent] == [data, b""]
    assert [name for name, _ in sent] == ['trip/a "é".jpg', "trip/b\ufffd.jpg"]


def test_many_files_become_several_jobs_and_an_archive_goes_alone(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bodies, "MAX_BATCH_FILES", 2)
    monkeypatch.setattr(_bodies, "MAX_BATCH_BYTES", 10)
    names = ["a.jpg", "b.jpg", "c.jpg", "d.zip", "e.jpg", "big.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * (9 if name == "big.jpg" else 2))
    server.routes["POST /v1/jobs"] = [(202, job(f"j{i}")) for i in range(5)]
    told: list[str] = []
    made = client.ingest(
        [tmp_path / name for name in names],
        idempotency_key="k",
        on_job=lambda one: told.append(one.job_id),
    )
    assert list(made.ids) == told == ["j0", "j1", "j2", "j3", "j4"]
    assert made.id == "j0"
    batches = [[name for name, _ in server.form(i)[1]] for i in range(5)]
    assert batches == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.zip"], ["e.jpg"], ["big.jpg"]]
    assert keys(server) == ["k", "k-1", "k-2", "k-3", "k-4"]


def test_items_as_they_come_get_the_metadata_under_their_own(server: Server, client: Client) -> None:
    server.routes["POST /v1/jobs"] = (202, job())
    client.ingest(
        iter(["http://x/1", {"url": "http://x/2", "metadata": {"shop": "south"}}]), metadata={"shop": "north"}
    )
    assert [line["metadata"] for line in server.lines()] == [{"shop": "north"}, {"shop": "south"}]


def test_an_asynchronous_source_is_streamed_by_the_async_client_only(server: Server, client: Client) -> None:
    server.routes["POST /v1/jobs"] = (202, job())

    async def items() -> AsyncIterator[str]:
        for number in range(600):
            await asyncio.sleep(0)
            yield f"http://x/{number}"

    made = awaited(server, lambda one: one.ingest(items()))
    assert isinstance(made, AsyncJobHandle)
    assert [line["url"] for line in server.lines()] == [f"http://x/{number}" for number in range(600)]
    with pytest.raises(TypeError, match="for AsyncClient"):
        client.ingest(items())


def test_a_search_sends_files_bytes_urls_and_ids_each_as_what_it_is(
    server: Server, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"JPEG")
    server.routes["POST /v1/search"] = {
        "results": [], "took_ms": {"encode": 1, "index": 1, "total": 2}, "model": "m",
    }  # fmt: skip
    stored = "ab" * 32
    answer = client.search(
        "a red car",
        images=["http://x/q.jpg", stored, tmp_path / "cat.jpg", b"PNG"],
        positive=[{"text": "shiny", "weight": 0.5}],
        negative=["toy"],
        filters={"shop": "north"},
        limit=3,
        min_score=0.0,
        include=[],
    )
    assert answer.results == []
    form = server.requests[0].content
    query = {
        "text": "a red car",
        "positive": [{"image_url": "http://x/q.jpg"}, {"image_id": stored}, {"text": "shiny", "weight": 0.5}],
        "negative": [{"text": "toy"}],
        "filters": {"shop": "north"},
        "limit": 3,
        "min_score": 0.0,
        "include": [],
    }
    assert json.dumps(query).encode() in form
    assert b'name="image"; filename="cat.jpg"' in form
    assert b"JPEG" in form
    assert b"PNG" in form
    client.search(images=[stored])
    assert json.loads(server.requests[1].content) == {"positive": [{"image_id": stored}], "limit": 20}


FOUND = {"results": [], "took_ms": {"encode": 1, "index": 1, "total": 2}, "model": "m"}


def test_what_is_asked_of_a_list_is_sent_by_both_clients(server: Server, client: Client) -> None:
    server.routes["POST /v1/search"] = FOUND
    asked: dict[str, Any] = {
        "vector": np.float32([0.1, 0.2]), "keywords": "north face", "order_by": "-price", "among": 200,
        "group_by": "sku", "diversity": 0.0, "include": "vectors",
    }  # fmt: skip
    client.search("boots", **asked)
    awaited(server, lambda other: other.search("boots", **asked))
    for request in server.requests:
        assert json.loads(request.content) == {
            "text": "boots", "vector": [float(np.float32(0.1)), float(np.float32(0.2))],
            "keywords": {"all": ["north face"]}, "order_by": "-price", "among": 200, "group_by": "sku",
            "diversity": 0.0, "include": ["vectors"], "limit": 20,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("keywords", "sent"),
    [
        (["boot", "shoe"], {"all": ["boot", "shoe"]}),
        ({"any": ["boot"], "in": ["title"]}, {"any": ["boot"], "in": ["title"]}),
    ],
)
def test_keywords_are_all_wanted_unless_they_say_otherwise(
    server: Server, client: Client, keywords: Any, sent: dict[str, Any]
) -> None:
    server.routes["POST /v1/search"] = FOUND
    client.search("x", keywords=keywords)
    assert json.loads(server.requests[0].content)["keywords"] == sent


def test_a_box_goes_with_its_picture(server: Server, client: Client) -> None:
    server.routes["POST /v1/search"] = FOUND
    box, stored = (0, 0.25, 0.5, 1), "ab" * 32
    client.search(images=stored, box=box)
    client.search(images=["http://x/a"], box=box)
    client.search(images=b"picture", box=box)
    for request, term in zip(
        server.requests, ({"image_id": stored}, {"image_url": "http://x/a"}), strict=False
    ):
        sent = json.loads(request.content)
        assert (sent["positive"], "box" in sent) == ([{**term, "box": [0.0, 0.25, 0.5, 1.0]}], False)
    assert server.form(2, "image") == (
        {"query": '{"box": [0.0, 0.25, 0.5, 1.0], "limit": 20}'},
        [("image", b"picture")],
    )
    for images in ([], [stored, stored], [stored, b"picture"]):
        with pytest.raises(ApiError, match="one example image"):
            client.search("x", images=images, box=box)
    assert len(server.requests) == 3


def test_groups_scopes_vectors_and_what_matched_are_read(server: Server, client: Client) -> None:
    group = {"value": "A-7", "size": 12, "ids": ["a", "b"]}
    hit = {
        "id": "a", "score": 0.5, "source": "s", "thumbnail_url": "/t", "group": group,
        "matched": {"north face": ["title"]},
    }  # fmt: skip
    more = {
        "results": [hit], "list_scope": {"by": "among", "pictures": 200, "complete": False, "bound": 10_000},
        "vectors": [{"pointer": "/image/0", "vector": [0.6, 0.8]}],
    }  # fmt: skip
    server.routes["POST /v1/search"] = FOUND | more
    answer = client.search("x", group_by="sku", among=200)
    assert answer.list_scope and (answer.list_scope.by, answer.list_scope.pictures) == ("among", 200)
    assert answer.vectors and answer.vectors[0].vector == [0.6, 0.8]
    (found,) = answer.results
    assert found.group and (found.group.value, found.group.size, found.group.ids) == ("A-7", 12, ["a", "b"])
    assert found.matched == {"north face": ["title"]}


def test_an_id_cannot_change_the_path(server: Server, client: Client) -> None:
    gone = problem(404, "not_found", "none")
    for raw, ask in {
        b"/v1/jobs/..%2Fkeys": lambda: client.job("../keys"),
        b"/v1/images/..%2F..%2Fkeys": lambda: client.image("../../keys"),
        b"/v1/collections/a%2Fb": lambda: client.collection("a/b"),
    }.items():
        server.routes["GET " + raw.decode().replace("%2F", "/")] = gone
        with pytest.raises(ApiError):
            ask()
        assert server.requests[-1].url.raw_path == raw


def test_readiness_tells_what_is_missing(server: Server, client: Client) -> None:
    well, down = {"ok": True, "detail": None}, {"ok": False, "detail": "refused"}
    body = {"ready": False, "redis": down, "chroma": well, "blobs": well, "model": well, "workers": {}}
    server.routes["GET /readyz"] = problem(503, "not_ready", "no", **body)
    found = client.ready(ingest=True)
    assert (found.ready, found.redis.detail) == (False, "refused")
    assert dict(server.requests[0].url.params) == {"for": "ingest"}
    assert len(server.requests) == 1
    server.routes["GET /readyz"] = (503, "a proxy's words")
    with pytest.raises(ApiError, match="503 Service Unavailable"):
        client.ready()


# Errors


def test_a_collection_can_be_of_another_model(server: Server, client: Client) -> None:
    cats = {"name": "cats", "count": 0, "model": "m/two", "dimension": 4, "created_at": "2026"}
    two = {"name": "m/two", "state": "downloading", "progress": 0.5}
    two |= dict.fromkeys(("kind", "dimension", "languages", "detail"))
    server.routes["POST /v1/collections"] = (201, cats)
    server.routes["GET /v1/models"] = {"models": [two]}
    assert client.create_collection("cats", model="m/two").model == "m/two"
    assert client.models()[0].progress == 0.5
    assert awaited(server, lambda other: other.create_collection("cats", "m/two")).model == "m/two"
    assert awaited(server, lambda other: other.models())[0].state == "downloading"
    sent = [json.loads(request.content) for request in server.requests if request.method == "POST"]
    assert sent == [{"name": "cats", "model": "m/two"}] * 2


def test_a_refusal_carries_what_the_server_said(server: Server, client: Client) -> None:
    faults = [{"pointer": "/1/url", "message": "required"}]
    server.routes["POST /v1/jobs"] = problem(422, "invalid_request", "Some lines are bad.", errors=faults)
    with pytest.raises(ApiError) as raised:
        client.ingest_urls(["x"])
    error = raised.value
    assert (error.http_status, error.code, error.detail) == (422, "invalid_request", "Some lines are bad.")
    assert error.errors == faults
    assert len(server.requests) == 1


def test_an_answer_that_is_no_problem_is_still_one_sentence(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = (502, ["a proxy's words"])
    with pytest.raises(ApiError, match="answers 502 Bad Gateway with application/json, as a proxy"):
        client.job("j1")


def test_an_answer_of_another_shape_is_an_error_of_ours(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = {"job_id": "j1"}
    with pytest.raises(ApiError, match=r"answers /v1/jobs/j1 .* does not understand") as raised:
        client.job("j1")
    assert raised.value.code == "unexpected_answer"


def test_a_server_that_is_not_there_is_named_with_a_hint() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ApiError) as raised:
        client.job("j1")
    assert raised.value.detail.startswith("no server answers at http://127.0.0.1:9")
    assert "IMAGE_SEARCH_URL" in raised.value.detail


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_without_a_scheme_is_one_sentence(kind: type[Client | AsyncClient]) -> None:
    async def ask() -> None:
        answer = kind("not an address", retries=0).job("j1")
        if inspect.isawaitable(answer):
            await answer

    with pytest.raises(ApiError):
        asyncio.run(ask())


# Jobs


def test_waiting_outlives_a_server_that_is_away_for_a_while(server: Server, client: Client) -> None:
    running = job(status="running", pending=1, indexed=1)
    away = [httpx.ConnectError("refused")] * 10
    server.routes["GET /v1/jobs/j1"] = [running, *away, AWAY, job()]
    seen: list[float] = []
    done = client.wait("j1", lambda status: seen.append(status.progress))
    assert done.status == "succeeded"
    assert seen == [0.5, 1.0]


def test_waiting_for_an_unknown_job_fails_at_once(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = problem(404, "job_not_found", "There is no job 'j1'.")
    with pytest.raises(ApiError, match="There is no job"):
        client.wait("j1")
    assert len(server.requests) == 1


def test_waiting_ends_when_its_time_is_up(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = job(status="running", pending=2)
    with pytest.raises(ApiError, match="job j1 goes on") as raised:
        client.wait("j1", timeout=0.0)
    assert raised.value.code == "timeout"


def test_waiting_can_show_its_progress(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    server.routes["GET /v1/jobs/j1"] = [
        job(status="running", total=3, pending=1, indexed=2),
        job(total=3),
    ]
    client.wait("j1", progress=True)
    assert capsys.readouterr().err.splitlines() == [
        "Job j1:  66 % (2 of 3) 12.5/s, 0:00:03 left",
        "Job j1: 100 % (3 of 3) 12.5/s",
    ]


def two_jobs(server: Server) -> None:
    server.routes["GET /v1/jobs/a"] = job("a", total=3)
    server.routes["GET /v1/jobs/b"] = [
        job("b", "running", pending=1, failed=1), job("b", "partial", indexed=1, failed=1),
    ]  # fmt: skip
    server.routes["GET /v1/jobs/b/items"] = [
        {"items": [ITEM], "next_cursor": "1"}, {"items": [{**ITEM, "index": 1}], "next_cursor": None},
    ]  # fmt: skip
    server.routes["GET /v1/jobs/a/items"] = {"items": [], "next_cursor": None}
    server.routes["POST /v1/jobs/b/retry"] = (202, job("b", "running", pending=1, indexed=1))
    server.routes["DELETE /v1/jobs/a"] = job("a", "cancelled", cancelled=2)
    server.routes["DELETE /v1/jobs/b"] = job("b", "cancelled", cancelled=2)


def test_a_handle_of_several_jobs_adds_them_up(server: Server, client: Client) -> None:
    two_jobs(server)
    handle = JobHandle(client, ["a", "b"])
    now = handle.status()
    assert (now.job_id, now.status, now.total, now.progress) == ("a, b", "running", 5, 0.8)
    assert now.rate_per_s == 25.0
    done = handle.wait()
    assert (done.status, done.total, done.counts[ItemState.FAILED]) == ("partial", 5, 1)
    assert [item.index for item in handle.items(ItemState.FAILED)] == [0, 1]
    assert handle.retry().status == "running"  # only the job that has failed items
    assert handle.cancel().counts[ItemState.CANCELLED] == 4


def test_an_asynchronous_handle_does_the_same(server: Server) -> None:
    two_jobs(server)

    async def use(client: AsyncClient) -> list[Any]:
        handle = AsyncJobHandle(client, ["a", "b"])
        done = await handle.wait()
        items = [item.index async for item in handle.items(ItemState.FAILED)]
        return [done.status, items, (await handle.retry()).status, (await handle.cancel()).total]

    assert awaited(server, use) == ["partial", [0, 1], "running", 4]


# Both clients


def test_the_async_client_repeats_and_raises_like_the_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    server.routes["GET /v1/jobs/j1"] = [AWAY, httpx.ConnectError("refused"), job()]
    assert awaited(server, lambda client: client.job("j1")).job_id == "j1"
    server.routes["GET /v1/jobs/j2"] = problem(404, "job_not_found", "There is no job 'j2'.")
    with pytest.raises(ApiError, match="There is no job"):
        awaited(server, lambda client: client.job("j2"))
    server.routes["POST /v1/jobs"] = [AWAY, (202, job())]
    urls = [f"http://x/{number:040}" for number in range(5000)]
    awaited(server, lambda client: client.ingest(iter(urls)))
    assert [line["url"] for line in server.lines(-1)] == urls


@pytest.mark.parametrize(
    ("headers", "clear", "confidence"),
    [
        ({"Heat-Spot": "clear", "Heat-Confidence": "0.9931"}, True, 0.9931),
        ({"Heat-Spot": "unclear", "Heat-Confidence": "0.0000"}, False, 0.0),
        ({"Heat-Spot": "unclear"}, False, None),
        ({}, None, None),
        ({"Heat-Spot": "murky", "Heat-Confidence": "high"}, None, None),
    ],
)
def test_a_heat_map_is_a_png_that_knows_whether_it_has_a_clear_spot(
    server: Server, client: Client, headers: dict[str, str], clear: bool | None, confidence: float | None
) -> None:
    answer = httpx.Response(200, headers={"Content-Type": "image/png"} | headers, content=b"\x89PNG")
    server.routes["GET /v1/explain"] = answer
    found = client.explain("ab" * 32, "a red car")
    assert found == b"\x89PNG"
    for one in (found, pickle.loads(pickle.dumps(found))):
        assert (one.clear, one.confidence) == (clear, confidence)


def test_a_download_appears_when_it_is_whole(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    parquet = {"Content-Type": "application/vnd.apache.parquet"}
    server.routes["GET /v1/jobs/j1/export"] = [
        httpx.Response(200, headers=parquet, content=b'{"file": 1}') for _ in range(2)
    ]
    client.download_export("j1", path)
    assert json.loads(path.read_text()) == {"file": 1}
    path.unlink()
    awaited(server, lambda one: one.download_export("j1", path))
    assert json.loads(path.read_text()) == {"file": 1}
    server.routes["GET /v1/jobs/j2/export"] = problem(409, "job_running", "It is running.")
    with pytest.raises(ApiError, match="It is running"):
        client.download_export("j2", tmp_path / "none.parquet")
    assert [one.name for one in tmp_path.iterdir()] == ["all.parquet"]


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "other"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle)])
def test_both_have_the_same_methods_with_the_same_parameters(sync: type, other: type) -> None:
    assert list(public(sync)) == list(public(other))
    for name, member in public(sync).items():
        twin = public(other)[name]
        assert isinstance(member, property) == isinstance(twin, property)
        if not isinstance(member, property):
            ours, theirs = inspect.signature(member), inspect.signature(twin)
            assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
            assert inspect.getdoc(member) == inspect.getdoc(twin), name


@pytest.mark.parametrize("kind", [Client, AsyncClient, JobHandle, AsyncJobHandle])
def test_help_says_what_each_method_does_and_returns(kind: type) -> None:
    for name, member in public(kind).items():
        assert inspect.getdoc(member), name
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert not re.search(r"Flow|Generator|Coroutine|JobOperations\.|<function|-> '", shown)
    assert ("-> SearchResult" in shown) == (kind in (Client, AsyncClient))


def test_the_result_of_a_method_can_be_asked_for_by_tools() -> None:
    assert get_type_hints(Client.search)["return"] is get_type_hints(AsyncClient.search)["return"]
    assert get_type_hints(Client.search)["return"] is SearchResult
    assert get_type_hints(Client.job)["return"] is Job
    assert get_type_hints(Client.image)["return"] is Image
    assert inspect.iscoroutinefunction(AsyncClient.search) and not inspect.iscoroutinefunction(Client.search)


@pytest.mark.parametrize("source", ["", " ", [Path("a"), ""], b"JPEG"])
def test_an_empty_source_is_not_the_current_folder(
    source: Any, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InvalidSource):
        client.ingest(source)


def test_one_that_stands_by_itself_is_a_list_of_one(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["POST /v1/search"] = {
        "results": [],
        "took_ms": {"encode": 0, "index": 0, "total": 0},
        "model": "m",
    }
    client.search("x", images="http://x/a", negative="toy", facets="shop", limit=0, collection="")
    assert json.loads(server.requests[-1].content) == {
        "text": "x", "positive": [{"image_url": "http://x/a"}], "negative": [{"text": "toy"}],
        "facets": ["shop"], "limit": 0, "collection": "",
    }  # fmt: skip
    server.routes["POST /v1/jobs"] = (202, job())
    client.ingest({"url": "http://x/a", "key": "k"})
    assert server.lines(-1) == [{"url": "http://x/a", "key": "k"}]
    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    client.ingest(["a.jpg"])
    assert server.form(-1)[1] == [("a.jpg", b"x")]
    client.ingest(["a" * 5000, "no such file", "b\0"])  # items of the job, which fail there
    assert [line["url"] for line in server.lines(-1)] == ["a" * 5000, "no such file", "b\0"]
    server.routes["GET /v1/jobs/j1"] = job()
    assert client.wait_for("j1").job_id == "j1"


def test_what_names_nothing_is_refused_before_it_is_sent(server: Server, client: Client) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.image(""), lambda: client.job(""), lambda: client.collection(""),
        lambda: client.wait_for([]), lambda: client.search("x", filters={"a": object()}),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ApiError) as raised:
            call()
        assert raised.value.code == "invalid_request"
    for missing in (lambda: client.search(images=["nope.jpg"]), lambda: client.import_file("nope", "c")):
        with pytest.raises(InvalidSource, match="nope"):
            missing()
    assert not server.requests


def test_an_error_is_the_same_in_another_process() -> None:
    fault = {"pointer": "/metadata/id", "message": "is a built-in field"}
    raised = ApiError(422, "invalid_request", "Some metadata is malformed.", [fault], 2.0)
    for error in (raised, copy.copy(raised), pickle.loads(pickle.dumps(raised))):
        assert str(error) == "Some metadata is malformed. (/metadata/id: is a built-in field)"
        assert (error.http_status, error.code, error.errors, error.retry_after) == (
            422, "invalid_request", [fault], 2.0,
        )  # fmt: skip
    needs = pickle.loads(pickle.dumps(NotInstalled("up")))
    assert type(needs) is NotInstalled and str(needs) == str(NotInstalled("up"))


# The client searches by POST and polls; the other two are for machines that watch.
NOT_CALLED = {
    ("get", "/v1/search"), ("get", "/v1/jobs/{job_id}/events"), ("get", "/healthz"), ("get", "/metrics"),
}  # fmt: skip
ARGUMENTS: dict[str, Any] = {
    "a": "x", "b": "y", "collection": "c", "image_id": "ab" * 32, "items": ["http://x"], "job_id": "j1",
    "job_ids": ["j1"], "key": "k", "metadata": {}, "model": "m", "name": "c", "path": Path(__file__),
    "source": ["http://x"], "text": "x", "from_": "s3://x",
}  # fmt: skip


def test_every_route_is_called_by_some_method(tmp_path: Path) -> None:
    called: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        request.read()
        called.append(f"{request.method} {request.url.path}")
        return httpx.Response(404)

    with Client("http://server", transport=httpx.MockTransport(refuse)) as client:
        for name in public(Client).keys() - {"close", "iter_items", "iter_images"}:
            method = getattr(client, name)
            needed = [
                parameter.name
                for parameter in inspect.signature(method).parameters.values()
                if parameter.default is parameter.empty
            ]
            with pytest.raises(ApiError):
                method(**{one: ARGUMENTS[one] for one in needed})
    paths = make_api(tmp_path).http.get("/openapi.json").json["paths"]
    routes = {(method, path) for path, methods in paths.items() for method in methods}
    missing = {
        (method, path)
        for method, path in routes
        if not any(
            re.fullmatch(f"{method.upper()} " + re.sub(r"{\w+}", "[^/]+", path), one) for one in called
        )
    }
    assert missing == NOT_CALLED
