import io
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result
from werkzeug.formparser import parse_form_data

from api import cli, cli_collections
from api import client as client_module
from api.client import ApiError, Client
from api.sources import collect, typed
from shared.errors import ConfigError
from shared.models import ItemState

Handler = Callable[[httpx.Request], httpx.Response]


def job(job_id: str = "j1", status: str = "succeeded", total: int = 2, **counts: int) -> dict[str, Any]:
    counts = counts or {"indexed": total}
    every = {str(state): counts.get(state, 0) for state in ItemState}
    done = total - every["pending"] - every["fetched"]
    return {
        "job_id": job_id, "status": status, "collection": "images", "total": total, "counts": every,
        "progress": done / total if total else 0.0, "rate_per_s": 12.5, "eta_s": 3.0, "truncated": False,
        "created_at": "2026-01-01T00:00:00.000Z", "started_at": None, "finished_at": None, "errors": [],
    }  # fmt: skip


class Server:
    """Answers with what `routes` say for "METHOD path" (a list: one answer after another), and remembers."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.routes[f"{request.method} {request.url.path}"]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    def form(self, index: int = 0) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
        request = self.requests[index]
        environ = {
            "wsgi.input": io.BytesIO(request.content), "CONTENT_LENGTH": str(len(request.content)),
            "CONTENT_TYPE": request.headers["content-type"],
        }  # fmt: skip
        _, fields, files = parse_form_data(environ, silent=False)
        return fields.to_dict(), [(file.filename or "", file.read()) for file in files.getlist("files")]

    def lines(self, index: int = 0) -> list[Any]:
        return [json.loads(line) for line in self.requests[index].content.splitlines()]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(client_module, "POLL_SECONDS", 0.0)
    with Client("http://server", "secret", transport=httpx.MockTransport(server)) as client:
        yield client


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(client_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(cli, "Client", partial(Client, transport=httpx.MockTransport(server)))
    commands = [*cli.client_commands, *cli_collections.client_commands]
    group = click.Group(commands={command.name or "": command for command in commands})

    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(group, arguments, **options)

    return invoke


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"title": "x", "status": status, "code": code, "detail": detail, **more}


# Client


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
    assert dict(request.url.params) == {"collection": "cats", "on_near_duplicate": "skip"}
    assert server.lines() == [{"url": "http://x/a"}, urls[1], {"url": "http://x/c"}]


def test_files_are_sent_as_a_form_that_keeps_names_and_bytes(
    server: Server, client: Client, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(b"")
    server.routes["POST /v1/jobs"] = (202, job())
    files = [(tmp_path / "a.jpg", 'trip/a "é".jpg'), (tmp_path / "b.jpg", "b.jpg")]
    given: Any = {"shop": "north"}
    (made,) = client.ingest_files(files, collection="cats", metadata=given, on_near_duplicate="skip")
    assert made.job_id == "j1"
    fields, sent = server.form()
    assert fields == {
        "collection": "cats",
        "metadata": '{"shop": "north"}',
        "on_near_duplicate": "skip",
    }
    assert [content for _, content in sent] == [data, b""]
    assert sent[0][0].startswith("trip/a ")


def test_many_files_become_several_jobs_and_an_archive_goes_alone(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BATCH_FILES", 2)
    monkeypatch.setattr(client_module, "BATCH_BYTES", 10)
    names = ["a.jpg", "b.jpg", "c.jpg", "d.zip", "e.jpg", "big.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * (9 if name == "big.jpg" else 2))
    server.routes["POST /v1/jobs"] = [(202, job(f"j{i}")) for i in range(5)]
    made = list(client.ingest_files((tmp_path / name, name) for name in names))
    assert [one.job_id for one in made] == ["j0", "j1", "j2", "j3", "j4"]
    batches = [[name for name, _ in server.form(i)[1]] for i in range(5)]
    assert batches == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.zip"], ["e.jpg"], ["big.jpg"]]


def test_a_refusal_carries_what_the_server_said(server: Server, client: Client) -> None:
    faults = [{"pointer": "/1/url", "message": "required"}]
    server.routes["POST /v1/jobs"] = problem(422, "invalid_request", "Some lines are bad.", errors=faults)
    with pytest.raises(ApiError) as raised:
        client.ingest_urls(["x"])
    error = raised.value
    assert (error.http_status, error.code, error.detail) == (422, "invalid_request", "Some lines are bad.")
    assert error.errors == faults


def test_an_answer_that_is_no_problem_is_still_one_sentence(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = (502, ["a proxy's words"])
    with pytest.raises(ApiError, match="the server answered 502 Bad Gateway"):
        client.job("j1")


def test_a_server_that_is_not_there_is_named_with_a_hint() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ApiError) as raised:
        client.job("j1")
    assert raised.value.detail.startswith("no server answers at http://127.0.0.1:9")
    assert "IMAGE_SEARCH_URL" in raised.value.detail


def test_an_address_without_a_scheme_is_one_sentence() -> None:
    with pytest.raises(ApiError), Client("not an address") as client:
        client.job("j1")


def test_waiting_outlives_a_server_that_is_away_for_a_while(server: Server, client: Client) -> None:
    running = job(status="running", pending=1, indexed=1)
    server.routes["GET /v1/jobs/j1"] = [
        running, httpx.ConnectError("refused"), problem(503, "ledger_unavailable", "away"), job(),
    ]  # fmt: skip
    seen: list[float] = []
    done = client.wait("j1", lambda status: seen.append(status.progress))
    assert done.status == "succeeded"
    assert seen == [0.5, 1.0]


def test_waiting_for_an_unknown_job_fails_at_once(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = problem(404, "job_not_found", "There is no job 'j1'.")
    with pytest.raises(ApiError, match="There is no job"):
        client.wait("j1")
    assert len(server.requests) == 1


def test_a_job_id_cannot_change_the_path(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/../keys"] = problem(404, "job_not_found", "none")
    with pytest.raises(ApiError):
        client.job("../keys")
    assert server.requests[0].url.raw_path == b"/v1/jobs/..%2Fkeys"


def test_searching_by_pictures_sends_their_files(server: Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"JPEG")
    server.routes["POST /v1/search"] = {"results": []}
    assert client.search({"limit": 3}, [tmp_path / "cat.jpg"]) == {"results": []}
    content = server.requests[0].content
    assert b'name="query"' in content
    assert b'{"limit": 3}' in content
    assert b'name="image"; filename="cat.jpg"' in content


def test_readiness_tells_what_is_missing(server: Server, client: Client) -> None:
    server.routes["GET /readyz"] = (503, {"redis": "down"})
    assert client.ready(ingest=True) == (False, {"redis": "down"})
    assert dict(server.requests[0].url.params) == {"for": "ingest"}


# Sources


def test_a_folder_gives_its_pictures_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", ".hidden/c.jpg", "notes.txt", ".d.jpg"):
        path = tmp_path / "trip" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = collect([str(tmp_path / "trip")])
    assert sorted(name for _, name in found.files) == ["trip/b.JPG", "trip/sub/a.png"]
    assert found.skipped == 1


def test_a_csvs_other_columns_become_typed_metadata(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "﻿url,price,sku,empty,on\nhttp://x/1,9.5,007,,true\nhttp://x/2,12,A,,false\n", encoding="utf-8"
    )
    items = list(collect([str(path)]).items({"shop": "north", "price": 1}))
    assert items == [
        {"url": "http://x/1", "metadata": {"shop": "north", "price": 9.5, "sku": "007", "on": True}},
        {"url": "http://x/2", "metadata": {"shop": "north", "price": 12, "sku": "A", "on": False}},
    ]


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    rows = [
        {"url": "http://x/1", "n": 3, "t": ["a", "b"], "none": None},
        {"url": "u", "metadata": {"ok": True}},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(collect([str(path)]).items({})) == [
        {"url": "http://x/1", "metadata": {"n": 3, "t": ["a", "b"]}},
        {"url": "u", "metadata": {"ok": True}},
    ]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    table = arrow.table({"url": ["http://x/1", "http://x/2"], "n": [1, None], "t": [["a"], ["b", "c"]]})
    parquet.write_table(table, path)
    assert list(collect([str(path)]).items({})) == [
        {"url": "http://x/1", "metadata": {"n": 1, "t": ["a"]}},
        {"url": "http://x/2", "metadata": {"t": ["b", "c"]}},
    ]


def test_a_table_s_key_column_becomes_the_items_keys(tmp_path: Path) -> None:
    csv = tmp_path / "list.csv"
    csv.write_text("key,url,sku,n\n 007 ,u1,A,1\n,u2,B,2\n", encoding="utf-8")
    assert list(collect([str(csv)]).items({})) == [
        {"url": "u1", "key": "007", "metadata": {"sku": "A", "n": 1}},
        {"url": "u2", "metadata": {"sku": "B", "n": 2}},
    ]
    by_sku = collect([str(csv)], "sku").items({})
    assert [item["key"] for item in by_sku] == ["A", "B"]
    lines = tmp_path / "list.jsonl"
    rows = [{"url": "u1", "sku": 7}, {"url": "u2", "sku": ""}, {"url": "u3", "sku": None}, {"url": "u4"}]
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(collect([str(lines)], "sku").items({})) == [
        {"url": "u1", "key": "7", "metadata": {}}, *({"url": f"u{n}", "metadata": {}} for n in (2, 3, 4)),
    ]  # fmt: skip
    parquet = tmp_path / "list.parquet"
    columns = {"url": ["u1", "u2", "u3"], "key": [1.0, None, float("nan")]}
    table = pytest.importorskip("pyarrow").table(columns)
    pytest.importorskip("pyarrow.parquet").write_table(table, parquet)
    assert [item.get("key") for item in collect([str(parquet)]).items({})] == ["1", None, None]
    for path in (csv, parquet):
        with pytest.raises(ConfigError, match="has no `article` column"):
            collect([str(path)], "article").check()


def test_a_text_list_skips_blank_lines_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfhttp://x/1\r\n\r\n# note\nhttp://x/2")
    assert [item["url"] for item in collect([str(path)]).items({})] == ["http://x/1", "http://x/2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "link\nhttp://x", "no `url` column"),
        ("a.jsonl", '{"url": "u"}\nnonsense', "line 2: not JSON"),
        ("a.jsonl", '{"link": "u"}', "line 1: not an object with a `url`"),
        ("a.parquet", "not parquet", "parquet"),
    ],
)
def test_a_faulty_list_is_named_before_anything_is_sent(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        collect([str(tmp_path / name)]).check()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("0", 0), ("1.50", 1.5), ("true", True), ("True", "True"), ("", ""),
        ("007", "007"), ("1e5", "1e5"), ('"12"', "12"), ("2024-01-01", "2024-01-01"), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_values_are_typed_by_their_spelling(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


# Commands


def test_ingest_without_waiting_says_how_to_watch(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    server.routes["POST /v1/jobs"] = [
        (202, job("files", "queued", 1, pending=1)),
        (202, job("urls", "running")),
    ]
    result = run("ingest", str(tmp_path), "http://x/a.jpg", "-m", "shop=north", "-m", "n=3")
    assert result.exit_code == 0, result.output
    assert "image-search status files --watch" in result.output
    assert "image-search status urls --watch" in result.output
    assert json.loads(server.form()[0]["metadata"]) == {"shop": "north", "n": 3}
    assert server.lines(1) == [{"url": "http://x/a.jpg", "metadata": {"shop": "north", "n": 3}}]


def test_ingest_says_of_files_and_urls_what_becomes_of_near_duplicates(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    server.routes["POST /v1/jobs"] = [(202, job("files")), (202, job("urls"))]
    result = run("ingest", str(tmp_path), "http://x/a.jpg", "--on-near-duplicate", "skip")
    assert result.exit_code == 0, result.output
    assert server.form()[0] == {"on_near_duplicate": "skip"}
    assert dict(server.requests[1].url.params) == {"on_near_duplicate": "skip"}


def test_ingest_takes_keys_from_the_column_that_is_named(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("url,sku\nhttp://x/1,A1\n", encoding="utf-8")
    server.routes["POST /v1/jobs"] = (202, job())
    assert run("ingest", str(tmp_path / "a.csv"), "--key-column", "sku").exit_code == 0
    assert server.lines() == [{"url": "http://x/1", "key": "A1", "metadata": {}}]
    result = run("ingest", str(tmp_path / "a.csv"), "--key-column", "article")
    assert (result.exit_code, len(server.requests)) == (1, 1)
    assert "has no `article` column" in result.output


def test_collections_are_listed_created_and_deleted(run: Callable[..., Result], server: Server) -> None:
    cats = {"name": "cats", "count": 1234, "model": "m/one", "dimension": 4, "created_at": "2026"}
    server.routes["GET /v1/collections"] = [{"collections": []}, {"collections": [cats]}]
    assert run("collections", "list").output == "There are no collections.\n"
    assert re.search(r"cats +1,234 +m/one", run("collections", "list").output)
    assert json.loads(run("collections", "list", "--json").output) == {"collections": [cats]}
    server.routes["POST /v1/collections"] = [
        (201, cats), problem(409, "collection_exists", "The collection 'cats' exists already."),
    ]  # fmt: skip
    assert run("collections", "create", "cats").output == "cats: m/one\n"
    assert json.loads(server.requests[-1].content) == {"name": "cats"}
    refused = run("collections", "create", "cats")
    assert (refused.exit_code, "exists already" in refused.output) == (1, True)
    server.routes["DELETE /v1/collections/cats"] = (204, None)
    assert run("collections", "delete", "cats").output == "cats is deleted.\n"
    assert server.requests[-1].method == "DELETE"


def test_ingest_reads_urls_from_standard_input(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job())
    assert run("ingest", "-", input="http://x/1\nhttp://x/2\n").exit_code == 0
    assert [item["url"] for item in server.lines()] == ["http://x/1", "http://x/2"]


def test_waiting_prints_a_line_each_tenth_where_there_is_no_terminal(
    run: Callable[..., Result], server: Server
) -> None:
    steps = [job(status="running", total=100, pending=100 - i, indexed=i) for i in range(0, 100, 2)]
    server.routes["POST /v1/jobs"] = (202, steps[0])
    server.routes["GET /v1/jobs/j1"] = [*steps, job(total=100)]
    result = run("ingest", "http://x/a", "--wait")
    assert result.exit_code == 0
    assert len(re.findall(r"^Job j1: +\d+ % \(", result.output, re.MULTILINE)) == 11
    assert "12.5/s, 0:00:03 left" in result.output


def test_ingest_exits_3_with_a_table_when_some_failed(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job(status="running"))
    server.routes["GET /v1/jobs/j1"] = job(status="partial", total=40, indexed=10, failed=30)
    failed = {
        "index": 7,
        "source": "http://x/7.jpg",
        "status": "failed",
        "code": "http_status",
        "detail": "404",
    }
    server.routes["GET /v1/jobs/j1/items"] = {"items": [failed], "next_cursor": "8"}
    result = run("ingest", "http://x/a", "--wait")
    assert result.exit_code == 3
    assert re.search(r"7 +http://x/7.jpg +http_status +404", result.output)
    assert "10 more" in result.output
    assert "image-search retry j1" in result.output
    assert dict(server.requests[-1].url.params) == {"status": "failed", "limit": "20"}


def test_json_output_is_json_alone_on_standard_output(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job(status="running"))
    server.routes["GET /v1/jobs/j1"] = job()
    result = run("ingest", "http://x/a", "--wait", "--json")
    assert json.loads(result.stdout)["jobs"][0]["status"] == "succeeded"


@pytest.mark.parametrize(
    "arguments", [("ingest", "http://x/a"), ("status", "j1"), ("jobs",), ("cancel", "j1"), ("search", "cat")]
)
def test_an_error_is_one_line_on_standard_error_and_exit_1(
    run: Callable[..., Result], server: Server, arguments: tuple[str, ...]
) -> None:
    gone = httpx.ConnectError("refused")
    for route in (
        "POST /v1/jobs",
        "GET /v1/jobs",
        "GET /v1/jobs/j1",
        "DELETE /v1/jobs/j1",
        "POST /v1/search",
    ):
        server.routes[route] = gone
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(r"error: no server answers at .*\n", result.stderr)


def test_a_source_that_does_not_exist_is_an_error(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("ingest", str(tmp_path / "none.jpg"))
    assert result.exit_code == 1
    assert "there is no such file, folder or URL" in result.stderr


def test_the_servers_pointers_are_shown(run: Callable[..., Result], server: Server) -> None:
    faults = [{"pointer": "/1/metadata/id", "message": "id is the name of a built-in field"}]
    server.routes["POST /v1/jobs"] = problem(
        422, "invalid_request", "Some lines are malformed.", errors=faults
    )
    result = run("ingest", "http://x/a")
    assert result.exit_code == 1
    assert "/1/metadata/id: id is the name of a built-in field" in result.stderr


def test_the_server_and_key_come_from_the_environment(
    run: Callable[..., Result], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_URL", "http://elsewhere:1234/")
    monkeypatch.setenv("IMAGE_SEARCH_API_KEY", "from-env")
    server.routes["GET /v1/jobs/j1"] = job()
    assert run("status", "j1").exit_code == 0
    assert str(server.requests[0].url) == "http://elsewhere:1234/v1/jobs/j1"
    assert server.requests[0].headers["authorization"] == "Bearer from-env"


def test_status_jobs_cancel_and_retry_print_what_the_server_says(
    run: Callable[..., Result], server: Server
) -> None:
    server.routes["GET /v1/jobs/j1"] = job(status="running", pending=1, indexed=1)
    server.routes["GET /v1/jobs"] = {"jobs": [job()], "next_cursor": None}
    server.routes["DELETE /v1/jobs/j1"] = job(status="cancelled", indexed=1, cancelled=1)
    server.routes["POST /v1/jobs/j1/retry"] = (202, job(status="running", pending=1, indexed=1))
    assert "running, 50% of 2" in run("status", "j1").output
    assert re.search(r"j1 +succeeded +images +2 +100%", run("jobs", "--status", "succeeded").output)
    assert "cancelled. 1 indexed, 1 cancelled" in run("cancel", "j1").output
    assert "status j1 --watch" in run("retry", "j1").output
    for arguments in (("status", "j1"), ("cancel", "j1"), ("retry", "j1")):
        assert json.loads(run(*arguments, "--json").stdout)["job_id"] == "j1"
    assert json.loads(run("jobs", "--json").stdout)["jobs"][0]["job_id"] == "j1"


def test_search_builds_the_query_and_prints_a_table(run: Callable[..., Result], server: Server) -> None:
    image_id = "ab" * 32
    hit = {"id": image_id, "score": 0.31234, "source": "http://x/cat.jpg"}
    server.routes["POST /v1/search"] = {"results": [hit]}
    result = run(
        "search", "a red car", "--not", "dog", "--image", "http://x/q.jpg", "--filter", "shop=north",
        "--filter", "width>=100", "--filter", "width<500", "--limit", "3", "--collection", "cats",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert re.search(rf"0\.3123 +{image_id} +http://x/cat\.jpg", result.output)
    assert json.loads(server.requests[0].content) == {
        "text": "a red car",
        "positive": [{"image_url": "http://x/q.jpg"}],
        "negative": [{"text": "dog"}],
        "filters": {"shop": {"eq": "north"}, "width": {"gte": 100, "lt": 500}},
        "collection": "cats",
        "limit": 3,
    }
    assert json.loads(run("search", "x", "--json").stdout) == {"results": [hit]}


def test_a_malformed_filter_is_a_usage_error(run: Callable[..., Result]) -> None:
    result = run("search", "x", "--filter", "nonsense")
    assert result.exit_code == 2
    assert "is not NAME=VALUE" in result.stderr
