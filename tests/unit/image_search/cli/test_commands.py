import json
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from deploy.cli import CLIENT_MODULES, main
from image_search import Client, _core
from image_search._operations import jobs
from image_search.cli import common
from image_search.cli.errors import Commands
from image_search.models.images import IMAGE_EXAMPLE
from tests.unit.client_server import Server, job, problem
from tests.unit.image_search.test_retries import CutOff


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server)))
    commands = [command for module in CLIENT_MODULES for command in import_module(module).client_commands]
    group = Commands(commands={command.name or "": command for command in commands})

    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(group, arguments, **options)

    return invoke


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


def test_a_list_that_is_sent_again_names_its_job(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job("j1", "succeeded", 3, unchanged=2, indexed=1))
    server.routes["GET /v1/jobs/j1"] = (200, job("j1", "succeeded", 3, unchanged=2, indexed=1))
    result = run("ingest", "http://x/a.jpg", "--since", "j0", "--wait")
    assert result.exit_code == 0, result.output
    assert "1 indexed, 2 unchanged" in result.output
    assert server.requests[0].url.params["since"] == "j0"


def test_since_is_not_for_files(run: Callable[..., Result], server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    result = run("ingest", str(tmp_path), "--since", "j0")
    assert result.exit_code != 0
    assert "`since` is for URLs" in result.output
    assert server.requests == []


def test_ingest_says_of_files_and_urls_what_becomes_of_near_duplicates(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    server.routes["POST /v1/jobs"] = [(202, job("files")), (202, job("urls"))]
    result = run("ingest", str(tmp_path), "http://x/a.jpg", "--on-near-duplicate", "skip")
    assert result.exit_code == 0, result.output
    assert server.form()[0] == {"on_near_duplicate": "skip"}
    params = dict(server.requests[1].url.params)
    assert params["on_near_duplicate"] == "skip"


def test_one_is_not_many(run: Callable[..., Result], server: Server, tmp_path: Path) -> None:
    for name in ("a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    server.routes["POST /v1/jobs"] = (202, job(total=1))
    told = run("ingest", str(tmp_path)).output
    assert "Left out: 1 notes.txt.\n" in told
    assert "Job j1: 1 picture\n" in told


def test_what_a_folder_has_besides_is_told_by_suffix(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    for name in ("a.jpg", "b.json", "c.json", "d.MOV", "e.mov", "f.mov"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    server.routes["POST /v1/jobs"] = (202, job(total=1))
    result = run("ingest", str(tmp_path), "--json")
    said = f"Left out: 3 .mov, 2 .json, 1 broken link ({tmp_path.name}/broken.jpg).\n"
    assert result.stderr.startswith(said)
    assert json.loads(result.stdout)["jobs"][0]["job_id"] == "j1"


def test_ingest_says_how_a_table_is_to_be_read(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("link,sku\nhttp://x/1,A1\n", encoding="utf-8")
    server.routes["POST /v1/jobs"] = (202, job())
    options = {"url_column": "link", "key_column": "sku", "columns": 'a,"b,c"', "skip_columns": "d"}
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert run("ingest", str(tmp_path / "a.csv"), *arguments).exit_code == 0
    assert server.form(part="table") == (options, [("a.csv", b"link,sku\nhttp://x/1,A1\n")])
    result = run("ingest", str(tmp_path), "--key-column", "sku")
    assert (result.exit_code, len(server.requests)) == (1, 1)


NOTES = [
    {"code": "column_renamed", "detail": "`Product Name` is `Product_Name`.", "count": 1},
    {"code": "values_as_text", "detail": "`price` is text, since `A12` is none.", "count": 1200},
    {"code": "files_skipped", "detail": "No pictures by their names: 3 .json.", "count": 3},
]


def test_what_was_changed_or_left_out_is_told_once(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job() | {"notes": NOTES})
    server.routes["GET /v1/jobs/j1"] = job() | {"notes": NOTES}
    told = (
        "Note: `Product Name` is `Product_Name`.\n"
        "Note: `price` is text, since `A12` is none (1,200 values).\n"
        "Note: No pictures by their names: 3 .json.\n"
    )
    for arguments in (("ingest", "http://x/a"), ("ingest", "http://x/a", "--wait"), ("status", "j1")):
        result = run(*arguments)
        assert result.exit_code == 0
        assert result.output.count(told) == 1
        told_as_json = json.loads(run(*arguments, "--json").stdout)
        assert told_as_json.get("jobs", [told_as_json])[0]["notes"] == NOTES


def test_a_file_that_cannot_be_sent_is_named_and_the_exit_status_3(
    run: Callable[..., Result], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    opened = Path.open

    def deny(path: Path, *mode: Any, **options: Any) -> Any:
        if path.name == "b.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *mode, **options)

    monkeypatch.setattr(Path, "open", deny)
    server.routes["POST /v1/jobs"] = (202, job(total=1))
    server.routes["GET /v1/jobs/j1"] = job(total=1)
    for arguments in ((), ("--wait",)):
        result = run("ingest", str(tmp_path), *arguments)
        assert result.exit_code == 3
        assert re.search(
            rf"In no job: 1 file\nfile +why *\n{tmp_path}/b.jpg +Permission denied", result.output
        )
        assert server.form(-1 if not arguments else -2)[1] == [(f"{tmp_path.name}/a.jpg", b"x")]
        result = run("ingest", str(tmp_path), *arguments, "--json")
        unsent = {"path": f"{tmp_path}/b.jpg", "source": f"{tmp_path.name}/b.jpg"}
        assert json.loads(result.stdout)["unsent"] == [{**unsent, "detail": "Permission denied"}]
        assert result.exit_code == 3
    result = run("ingest", str(tmp_path / "b.jpg"))
    assert (result.exit_code, "b.jpg: Permission denied" in result.stderr) == (1, True)


def test_files_that_could_not_be_sent_are_told_also_where_the_next_job_is_refused(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "a.jpg")
    answers = [(202, job(total=1)), problem(422, "invalid_request", "No.")]

    def answer(request: httpx.Request) -> Any:
        (tmp_path / "gone.jpg").unlink(missing_ok=True)
        return server(request)

    server.routes["POST /v1/jobs"] = answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(answer)))
        (tmp_path / "list.csv").write_bytes(b"x")
        patch.setattr("image_search._bodies.MAX_BATCH_FILES", 1)
        result = run("ingest", str(tmp_path), "http://x/a")
    assert result.exit_code == 1
    assert "gone.jpg  No such file or directory" in result.output
    assert "Error: No.\n" in result.output


@pytest.mark.parametrize(("kind", "told"), [("folder", True), ("a.csv", False), ("-", True)])
def test_a_job_of_what_arrived_before_a_connection_broke_is_told_of(
    run: Callable[..., Result], server: Server, tmp_path: Path, kind: str, told: bool
) -> None:
    for name in ("folder/a.jpg", "folder/b.jpg", "a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    server.routes["POST /v1/jobs"] = (202, job(total=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "Client", partial(Client, transport=CutOff(server)))
        source = kind if kind == "-" else str(tmp_path / kind)
        result = run("ingest", source, input=b"http://x/1\n" * 10_000)
    assert result.exit_code == 0
    assert ("What had arrived by then may be a job of its own" in result.output) is told


def test_a_table_that_is_refused_is_named_and_the_others_go(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.zip")]
    for path in files:
        path.write_bytes(b"x")
    fault = {"pointer": "/url_column", "message": "is none of link"}
    said = "No column has the URLs: name it in `url_column`."
    refused = problem(422, "invalid_request", said, errors=[fault])
    server.routes["POST /v1/jobs"] = [refused, (202, job("j1")), (202, job("j2"))]
    server.routes["GET /v1/jobs/j1"] = server.routes["GET /v1/jobs/j2"] = job()
    result = run("ingest", *map(str, files), "--wait")
    assert result.exit_code == 3
    assert "In no job: 1 file\n" in result.output
    assert re.search(r"c\.zip +No column has the URLs: name it in --url-column\. \(/url_col", result.output)
    assert result.output.count("succeeded") == 2
    server.routes["POST /v1/jobs"] = refused
    result = run("ingest", *map(str, files))
    assert (result.exit_code, "In no job: 3 files" in result.output) == (1, True)
    assert (
        f"Error: {tmp_path}/c.zip: No column has the URLs: name it in --url-column. (/url_column"
        in result.output
    )
    assert "In no job" not in run("ingest", str(files[0])).output
    server.routes["POST /v1/jobs"] = problem(
        422, "invalid_request", "No.", errors=[{"pointer": "/collection", "message": "m"}]
    )
    before = len(server.requests)
    assert run("ingest", *map(str, files)).exit_code == 1
    assert len(server.requests) == before + 1


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


MODELS = [
    {"name": "m/one", "kind": "clip", "dimension": 512, "languages": "English", "state": "loaded",
     "progress": None, "detail": None},
    {"name": "m/two", "kind": None, "dimension": None, "languages": None, "state": "downloading",
     "progress": 0.42, "detail": None},
    {"name": "m/gone", "kind": None, "dimension": None, "languages": None, "state": "absent",
     "progress": None, "detail": "The hub does not know it.\x1b"},
]  # fmt: skip


def test_models_are_listed_with_what_is_known_of_them(run: Callable[..., Result], server: Server) -> None:
    server.routes["GET /v1/models"] = {"models": MODELS}
    told = run("models").output
    assert re.search(r"m/one +clip +512 +English +loaded *\n", told)
    assert re.search(r"m/two +downloading, 42%\n", told)
    assert "m/gone: The hub does not know it." in told
    assert "\x1b" not in told
    assert json.loads(run("models", "--json").output) == {"models": MODELS}


def test_a_collection_of_a_model_is_created(run: Callable[..., Result], server: Server) -> None:
    cats = {"name": "cats", "count": 0, "model": "m/two", "dimension": 4, "created_at": "2026"}
    server.routes["POST /v1/collections"] = [
        (201, cats), problem(403, "forbidden", "This needs the scope `admin`."),
    ]  # fmt: skip
    assert run("collections", "create", "cats", "--model", "m/two").output == "cats: m/two\n"
    assert json.loads(server.requests[0].content) == {"name": "cats", "model": "m/two"}
    refused = run("collections", "create", "cats", "--model", "m/two")
    assert (refused.exit_code, "scope `admin`" in refused.output) == (1, True)


def test_models_are_completed(server: Server) -> None:
    server.routes["GET /v1/models"] = {"models": MODELS}
    ctx = click.Context(click.Command("create"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server)))
        found = common.complete_models(ctx, click.Option(["--model"]), "m/")
    assert [(one.value, one.help) for one in found] == [
        ("m/one", "English, loaded"), ("m/two", "downloading"), ("m/gone", "absent"),
    ]  # fmt: skip


FAULT = {"pointer": "/limit", "message": "m"}
PROBLEM = problem(422, "invalid_request", "/limit: is one \x9b", errors=[FAULT])


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (
            ("search", "x"),
            1,
            {
                "code": "invalid_request",
                "detail": "/limit: is one \x9b",
                "errors": [FAULT],
                "status": 422,
            },
        ),
        (("jobs",), 1, {"code": "rate_limited", "detail": "slow", "status": 429, "retry_after": 7.0}),
        (("ingest", "none.jpg"), 1, {"code": "invalid_source"}),
        (("search", "x", "--filter", "nonsense"), 2, {"code": "usage_error"}),
        (("search", "x", "--limit", "many"), 2, {"code": "usage_error"}),
        (("search", "x", "--nothing"), 2, {"code": "usage_error"}),
        (("searhc", "x"), 2, {"code": "usage_error"}),
        (("status",), 2, {"code": "usage_error"}),
        (("collections", "creaet"), 2, {"code": "usage_error"}),
    ],
)
def test_an_error_under_json_is_one_object_on_standard_error(
    run: Callable[..., Result], server: Server, arguments: tuple[str, ...], status: int, told: dict[str, Any]
) -> None:
    server.routes["POST /v1/search"] = PROBLEM
    limited = problem(429, "rate_limited", "slow")[1]
    server.routes["GET /v1/jobs"] = httpx.Response(429, json=limited, headers={"Retry-After": "7"})
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.count("\n") == 1
    assert not set(result.stderr) & set("\x9b\x1b")
    found = json.loads(result.stderr)
    assert found["detail"]
    assert found | told == found


def test_json_of_any_text_can_be_printed(run: Callable[..., Result], server: Server) -> None:
    answer = found("ab" * 32)
    answer["results"][0]["metadata"] = {"title": "é \ud800 \x9b"}
    sent = httpx.Response(200, content=json.dumps(answer), headers={"Content-Type": "application/json"})
    server.routes["POST /v1/search"] = sent
    result = run("search", "x", "--json")
    assert json.loads(result.stdout) == answer
    assert "é" in result.stdout


def test_ingest_reads_urls_from_standard_input(run: Callable[..., Result], server: Server) -> None:
    server.routes["POST /v1/jobs"] = (202, job())
    content = b"http://x/1\nhttp://x/2\n"
    assert run("ingest", "-", "-m", "shop=north", input=content).exit_code == 0
    assert server.requests[0].content == content
    assert server.requests[0].headers["content-type"] == "text/plain"
    assert json.loads(server.requests[0].url.params["metadata"]) == {"shop": "north"}


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
    assert re.fullmatch(r"Error: no server answers at .*\n", result.stderr)


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
    assert re.search(r"j1 +ingest +succeeded +images +2 +100%", run("jobs", "--status", "succeeded").output)
    assert "cancelled. 1 indexed, 1 cancelled" in run("cancel", "j1").output
    assert "status j1 --watch" in run("retry", "j1").output
    for arguments in (("status", "j1"), ("cancel", "j1"), ("retry", "j1")):
        assert json.loads(run(*arguments, "--json").stdout)["job_id"] == "j1"
    assert json.loads(run("jobs", "--json").stdout)["jobs"][0]["job_id"] == "j1"


def found(*ids: str) -> dict[str, Any]:
    results = [
        {
            "id": image_id,
            "score": 0.31234,
            "source": "http://x/cat.jpg",
            "thumbnail_url": f"/v1/images/{image_id}/thumbnail?collection=cats",
            "width": 640,
            "height": 480,
            "metadata": {"shop": "north"},
        }
        for image_id in ids
    ]
    return {"results": results, "took_ms": {"encode": 1.0, "index": 2.0, "total": 3.0}, "model": "m"}


def test_search_builds_the_query_and_prints_a_table(run: Callable[..., Result], server: Server) -> None:
    image_id = "ab" * 32
    answer = found(image_id)
    server.routes["POST /v1/search"] = answer
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
        "include": ["metadata", "confidence"],
    }
    assert json.loads(run("search", "x", "--json").stdout) == answer


def test_the_newest_pictures_are_listed(run: Callable[..., Result], server: Server) -> None:
    image = IMAGE_EXAMPLE
    server.routes["GET /v1/images"] = {"images": [image], "next_cursor": "abc"}
    result = run("list", "--newest", "--filter", "shop=north", "--limit", "1", "--collection", "cats")
    assert result.exit_code == 0, result.output
    assert dict(server.requests[0].url.params) == {
        "filters": '{"shop": {"eq": "north"}}', "order_by": "-created_at", "limit": "1", "collection": "cats",
    }  # fmt: skip
    assert re.search(rf"2026-11-24 13:20 +{image['id']} +{image['source']}", result.output)
    assert "--cursor abc" in result.output
    server.routes["GET /v1/images"] = {"images": [], "next_cursor": None}
    assert run("list").output == "Nothing found.\n"
    assert dict(server.requests[-1].url.params) == {"limit": "20"}


def test_search_in_what_a_job_brought_and_counts_values(run: Callable[..., Result], server: Server) -> None:
    facets = {"shop": [{"value": "north", "count": 1061}, {"value": "7", "count": 2}], "prise": []}
    warnings = ["/facets: no picture of this collection has prise; did you mean price?"]
    server.routes["POST /v1/search"] = found() | {"facets": facets, "warnings": warnings}
    result = run("search", "x", "--job", "j1", "--filter", "n>=1", "--facet", "shop", "--facet", "prise")
    sent = json.loads(server.requests[0].content)
    assert (sent["filters"], sent["facets"]) == ({"n": {"gte": 1}, "job": "j1"}, ["shop", "prise"])
    assert result.stdout == 'shop: north (1,061), "7" (2)\nprise: none\nNothing found.\n'
    assert result.stderr == "Note: no picture of this collection has prise; did you mean price?\n"
    noted = run("search", "x", "--json")
    assert (json.loads(noted.stdout)["warnings"], noted.stderr) == (warnings, "")


def test_search_orders_groups_and_wants_words(run: Callable[..., Result], server: Server) -> None:
    answer = found("ab" * 32)
    answer["results"][0] |= {
        "group": {"value": "A-7", "size": 1200, "ids": ["ab" * 32]},
        "matched": {"north face": ["title", "brand"], "boot": ["title"]},
    }
    scope = {"by": "among", "pictures": 200, "complete": False, "bound": 10_000}
    server.routes["POST /v1/search"] = answer | {"list_scope": scope}
    result = run(
        "search", "boots", "--order-by", "-price", "--among", "200", "--group-by", "sku", "--diversity", "0",
        "--min-score", "-0.5", "--min-confidence", "0.9", "--keyword", "north face", "--keyword", "boot",
        "--any", "--keyword-in", "title", "--keyword-in", "brand",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    sent = json.loads(server.requests[0].content)
    assert {name: value for name, value in sent.items() if name not in ("text", "limit", "include")} == {
        "order_by": "-price", "among": 200, "group_by": "sku", "diversity": 0.0, "min_score": -0.5,
        "min_confidence": 0.9, "keywords": {"any": ["north face", "boot"], "in": ["title", "brand"]},
    }  # fmt: skip
    assert "Of the 200 pictures nearest:" in result.output
    assert re.search(r"score +sku +size +matched +id", result.output)
    assert re.search(r"A-7 +1,200 +north face \(title, brand\), boot \(title\) +abab", result.output)
    near = run("search", "boots", "--group-by", "near_duplicates", "--keyword", "boot").output
    assert re.search(r"score +size +matched +id", near)
    assert json.loads(server.requests[1].content)["keywords"] == {"all": ["boot"]}


def test_search_by_a_part_of_a_picture_or_a_vector(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    server.routes["POST /v1/search"] = found() | {"vectors": [{"pointer": "/image/0", "vector": [0.6, 0.8]}]}
    (tmp_path / "vector.json").write_text("[0.5, -1e-3,\n 2]\n")
    assert run("search", "--image", "ab" * 32, "--box", "0,0.25,.5,1").exit_code == 0
    assert run("search", "--vector", f"@{tmp_path / 'vector.json'}").exit_code == 0
    told = run("search", "--vector", "-1,2", "--vectors", "--json")
    assert json.loads(told.stdout)["vectors"] == [{"pointer": "/image/0", "vector": [0.6, 0.8]}]
    sent = [json.loads(request.content) for request in server.requests]
    assert sent[0]["positive"] == [{"image_id": "ab" * 32, "box": [0, 0.25, 0.5, 1]}]
    assert [one["vector"] for one in sent[1:]] == [[0.5, -0.001, 2], [-1, 2]]
    assert sent[2]["include"] == ["metadata", "confidence", "vectors"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--box", "0,0,a,1"), "Invalid value for '--box': is no list of numbers"),
        (("--vector", ""), "Invalid value for '--vector': is no list of numbers"),
        (("--vector", "@nowhere.json"), "nowhere.json: No such file"),
        (("--box", "0,0,1,1"), "one example image"),
        (("--keyword-in", "title"), "--any and --keyword-in need a --keyword"),
        (("--any",), "--any and --keyword-in need a --keyword"),
    ],
)
def test_search_says_what_an_option_lacks(
    run: Callable[..., Result], server: Server, arguments: tuple[str, ...], said: str
) -> None:
    result = run("search", "x", *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert server.requests == []


def test_a_collections_metadata_are_listed(run: Callable[..., Result], server: Server) -> None:
    values = [{"value": f"s{n}", "count": 9 - n} for n in range(7)]
    price = {
        "name": "price",
        "pictures": 812,
        "types": {"number": 800, "text": 12},
        "values": [],
        "more_values": True,
    }
    shop = {"name": "shop", "pictures": 1200, "types": {"text": 1200}, "values": values, "more_values": False}
    answer = {
        "collection": "images", "pictures": 5000, "complete": False, "names": [shop, price],
        "more_names": False, "fields": [],
    }  # fmt: skip
    server.routes["GET /v1/collections/images/metadata"] = answer
    output = run("collections", "metadata").output
    assert re.search(r"shop +text +1,200 +s0 \(9\), s1 \(8\), s2 \(7\), s3 \(6\), s4 \(5\), …", output)
    assert re.search(r"price +number or text +812", output)
    assert "5,000 pictures were looked at: what few have may be missing." in output
    assert json.loads(run("collections", "metadata", "images", "--json").stdout) == answer
    empty = {**answer, "collection": "cats", "pictures": 0, "complete": True, "names": []}
    server.routes["GET /v1/collections/cats/metadata"] = empty
    assert run("collections", "metadata", "cats").output == "cats is empty.\n"


def test_pictures_need_a_terminal(run: Callable[..., Result], server: Server) -> None:
    result = run("search", "x", "--show")
    assert (result.exit_code, server.requests) == (2, [])
    assert "--show needs a terminal" in result.stderr


def test_what_others_wrote_cannot_command_the_terminal(run: Callable[..., Result], server: Server) -> None:
    hostile = "\x1b]0;title\x07\x9b2J\rgone"
    answer = found("ab" * 32)
    answer["results"][0]["source"] = hostile
    server.routes["POST /v1/search"] = answer
    server.routes["GET /v1/jobs/j1"] = problem(404, "job_not_found", hostile)
    server.routes["GET /v1/jobs/j2"] = job("j2", "failed", 1, failed=1)
    item = {"index": 0, "source": hostile, "status": "failed", "code": "internal", "detail": hostile}
    server.routes["GET /v1/jobs/j2/items"] = {"items": [item], "next_cursor": None}
    for arguments in (("search", "x"), ("status", "j1"), ("status", "j2")):
        output = run(*arguments).output
        assert "gone" in output
        assert not set(output) & set("\x1b\x07\x9b\r")


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError("refused"), (401, {}), {"jobs": [], "next_cursor": None}]
)
def test_completion_is_silent_where_there_is_nothing_to_say(server: Server, answer: Any) -> None:
    server.routes["GET /v1/jobs"] = answer
    ctx = click.Context(click.Command("status"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server)))
        assert common.complete_jobs(ctx, click.Argument(["job_id"]), "") == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("group", [(), ("collections",), ("keys",)])
def test_the_list_of_commands_fits_a_terminal(group: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*group, "--help"], terminal_width=78).output
    assert [line for line in told.splitlines()[1:] if line.endswith("...")] == []


def test_the_jobs_of_one_command_have_one_name_origin_and_group(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    server.routes["POST /v1/jobs"] = (202, job())
    url = "https://me:secret@example.com/a.jpg?token=abc#x"
    assert run("ingest", str(folder), url).exit_code == 0
    first, second = (dict(request.url.params) for request in server.requests)
    assert first == second
    assert first.pop("group")
    assert first == {"name": "holiday and 1 more", "origin": "command_line"}
    assert run("ingest", str(folder)).exit_code == 0
    label = {"name": "holiday", "origin": "command_line", "made_of": "folder"}
    assert dict(server.requests[-1].url.params) == label
    assert run("ingest", url, "--name", "one").exit_code == 0
    assert dict(server.requests[-1].url.params) == {**label, "name": "one", "made_of": "urls"}
    assert run("ingest", url).exit_code == 0
    assert dict(server.requests[-1].url.params)["name"] == "https://example.com/a.jpg"


def test_a_server_that_knows_no_label_is_asked_without(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    unknown = [{"pointer": f"/{name}", "message": "unknown field"} for name in ("name", "origin", "made_of")]
    server.routes["POST /v1/jobs"] = [problem(422, "invalid_request", "No.", errors=unknown), (202, job())]
    assert run("ingest", str(tmp_path / "a.jpg")).exit_code == 0
    assert [len(request.url.params) for request in server.requests] == [3, 0]
    assert server.form(1)[1] == [("a.jpg", b"x")]
    fault = {"pointer": "/name", "message": "too long"}
    server.routes["POST /v1/jobs"] = problem(422, "invalid_request", "No.", errors=[fault])
    assert run("ingest", str(tmp_path / "a.jpg")).exit_code == 1
    assert len(server.requests) == 3


def test_what_waits_to_be_tried_again_is_said_instead_of_an_end(
    run: Callable[..., Result], server: Server
) -> None:
    waits = {"items": 1, "attempt": 2, "attempts": 4, "in_s": 12.4}
    running = job(status="running", total=10, pending=1, indexed=9)
    server.routes["GET /v1/jobs/j1"] = running | {"retrying": waits, "rate_per_s": None, "eta_s": None}
    told = run("status", "j1").output
    assert "waiting to retry 1, attempt 2 of 4, in 12 s" in told
    assert " left" not in told
