"""`doctor` where no setting says where Redis and Chroma are: beside a server, and beside nothing."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import doctor, findings
from deploy.ports import free_port
from image_search import Client
from shared.config import Settings
from shared.embedding.checkpoint_files import fingerprint
from shared.metrics.page_server import serve
from shared.storage.blobs import MODEL_KEY, Blobs
from tests.checkpoints import tiny_checkpoint
from tests.unit.client_server import Server, problem
from tests.unit.fakes import INDEX_DOWN, index_in

OK = {"ok": True, "detail": None}
READY = {
    "ready": True,
    **dict.fromkeys(("redis", "chroma", "blobs", "model"), OK),
    "workers": {"fetch": 2, "encode": 1, "index": 1},
}
SYSTEM = {
    "readiness": READY,
    "model": {
        "name": "m/one", "kind": "siglip", "fingerprint": "1" * 16, "dimension": 512, "max_tokens": 64,
        "device": "cpu", "device_name": "a CPU", "precision": "bf16",
    },
    "collections": [],
    "jobs": None,
    "errors": None,
    "versions": {},
    "missing": {},
}  # fmt: skip
UNREACHABLE = httpx.ConnectError("nobody there")

Examine = Callable[[], tuple[bool, dict[str, tuple[str, str]]]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(findings, "Client", partial(Client, transport=httpx.MockTransport(server)))
    return server


@pytest.fixture
def examine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> Examine:
    """Whether all is well, and the state and detail of each subject, in a folder that is to stay empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAGE_SEARCH_URL", "http://127.0.0.1:1")

    def run() -> tuple[bool, dict[str, tuple[str, str]]]:
        healthy = doctor.examine(None, as_json=True)
        assert list(Path().iterdir()) == []
        findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
        return healthy, {one["subject"]: (one["state"], one["detail"]) for one in findings}

    return run


def test_a_server_that_answers_is_described(examine: Examine, server: Server) -> None:
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM}
    healthy, found = examine()
    assert healthy
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["workers"][1] == "fetch 2, encode 1, index 1"
    assert found["chroma"][1] == "0 collections, 0 pictures"
    assert found["model"][1] == "m/one (siglip, 512 dimensions, texts of up to 64 tokens) on a CPU, bf16"


def test_what_limits_a_server_s_ingestion_is_told(examine: Examine, server: Server) -> None:
    limit = {"limited_by": "encode", "detail": "9 chunks (576 items) wait for 1 slot at encode."}
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM | {"ingestion": limit}}
    assert examine()[1]["ingestion"] == ("ok", "9 chunks (576 items) wait for 1 slot at encode.")


def test_a_server_s_models_are_listed_with_what_each_waits_for(examine: Examine, server: Server) -> None:
    state = {"kind": None, "dimension": None, "languages": None, "progress": None, "detail": None}
    several = [
        state | {"name": "m/one", "state": "loaded"},
        state | {"name": "m/two", "state": "downloading", "progress": 0.421},
    ]
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM | {"models": several}}
    _, found = examine()
    assert found["models"] == ("ok", "m/one loaded, m/two downloading (42%)")
    several.append(state | {"name": "m/three", "state": "absent", "detail": "It is gone."})
    healthy, found = examine()
    assert found["models"] == ("note", "m/one loaded, m/two downloading (42%), m/three absent: It is gone.")
    assert healthy, "the other collections work"


@pytest.mark.parametrize(
    ("counts", "told"), [([1], "1 collection, 1 picture"), ([1, 2], "2 collections, 3 pictures")]
)
def test_counts_what_a_server_holds(examine: Examine, server: Server, counts: list[int], told: str) -> None:
    bound = {
        "model": "m/one",
        "fingerprint": "1" * 16,
        "dimension": 512,
        "created_at": "2026-01-01T00:00:00Z",
    }
    held = [{"name": f"c{n}", "count": n} | bound for n in counts]
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM | {"collections": held}}
    assert examine()[1]["chroma"][1] == told


def test_what_a_server_says_is_no_command_to_the_terminal(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    down = {"ok": False, "detail": "\x1b[2Jgone [/] [bold]over\r\nthere"}
    refused = problem(401, "unauthorized", "A \x1b]0;title\x07key.")
    server.routes = {"GET /readyz": (503, READY | {"redis": down}), "GET /v1/system": refused}
    assert not findings.examine_server()
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\\x1b[2Jgone [/] [bold]over there" in told
    assert "A \\x1b]0;title\\x07key." in told


def test_what_the_server_says_is_broken_is_broken(examine: Examine, server: Server) -> None:
    down = {"ok": False, "detail": "Redis cannot be reached."}
    unwell = READY | {"redis": down, "workers": {}}
    server.routes = {"GET /readyz": (503, unwell), "GET /v1/system": SYSTEM}
    healthy, found = examine()
    assert not healthy
    assert found["redis"] == ("broken", "Redis cannot be reached.")
    assert found["workers"] == ("broken", "not known: they report to Redis")
    assert found["chroma"][0] == "ok"


def test_a_server_that_wants_a_key_is_described_as_far_as_it_tells(examine: Examine, server: Server) -> None:
    refused = problem(401, "unauthorized", "An API key is needed.")
    server.routes = {"GET /readyz": READY, "GET /v1/system": refused}
    healthy, found = examine()
    assert healthy
    assert found["api"][0] == "note"
    assert (
        "An API key is needed. In this client that is `api_key`, on the command line IMAGE_SEARCH_API_KEY"
        in found["api"][1]
    )


def test_the_key_of_the_environment_is_shown_to_the_server(
    examine: Examine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_API_KEY", "secret")
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM}
    examine()
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer secret"}


@pytest.mark.parametrize("answer", [UNREACHABLE, (404, {"error": "some other server"})])
def test_where_nothing_runs_nothing_is_written(
    examine: Examine, server: Server, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    server.routes = {"GET /readyz": answer}
    for subject in ("redis", "broker", "chroma", "workers"):  # what runs on this machine is not asked
        monkeypatch.setattr(doctor, f"_{subject}", lambda _: "asked directly")
    _, found = examine()
    assert found["redis"][1] == "asked directly"
    assert found["blobs"][0] == found["model"][0] == "note"


@pytest.mark.parametrize(
    ("mode", "content", "state", "told"),
    [
        (
            0o600,
            '{"a.example": {"X-Key": "XYZZY"}, "http://b.example:81": {}}',
            "ok",
            "https://a.example, http",
        ),
        (0o600, "{}", "ok", "for no origin"),
        (0o644, '{"a.example": {"X-Key": "XYZZY"}}', "note", "https://a.example; other users can read"),
        (0o600, '{"a.example": {"XYZZY\\n": ""}}', "broken", "FETCH_HEADERS: .*https://a.example: the name"),
        (0o600, '{"a.example": "XYZZY"', "broken", "FETCH_HEADERS: .*not JSON: line 1"),
    ],
)
def test_says_which_origins_have_headers_and_never_a_value(
    examine: Examine,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    mode: int,
    content: str,
    state: str,
    told: str,
) -> None:
    (tmp_path / "headers.json").write_text(content)
    (tmp_path / "headers.json").chmod(mode)
    monkeypatch.setenv("IMAGE_SEARCH_FETCH_HEADERS", str(tmp_path / "headers.json"))
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM}
    healthy, found = examine()
    assert (healthy, found["headers"][0]) == (state != "broken", state)
    assert re.search(told, found["headers"][1])
    assert "XYZZY" not in str(found)


@pytest.fixture
def page() -> Iterator[int]:
    """The port of a page of metrics."""
    server = serve(lambda: b"image_search_build_info 1\n", "127.0.0.1", free_port())
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_says_whether_the_page_of_metrics_that_the_environment_names_answers(
    examine: Examine, server: Server, monkeypatch: pytest.MonkeyPatch, page: int, host: str
) -> None:
    server.routes = {"GET /readyz": READY, "GET /v1/system": SYSTEM}
    monkeypatch.setenv("IMAGE_SEARCH_METRICS_HOST", host)
    monkeypatch.setenv("IMAGE_SEARCH_METRICS_PORT", str(page))
    healthy, found = examine()
    assert (healthy, found["metrics"]) == (True, ("ok", f"http://127.0.0.1:{page}/metrics answers"))
    monkeypatch.setenv("IMAGE_SEARCH_METRICS_PORT", str(free_port()))
    healthy, found = examine()
    assert (healthy, found["metrics"][0]) == (True, "note"), "there may be none on this machine"
    assert "does not answer" in found["metrics"][1]


def test_names_each_page_of_metrics_of_up_and_whether_it_answers(
    page: int, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(_env_file=None, metrics_port=page - 2)
    assert not findings.tell(findings.run(doctor._metrics(settings, runs_up=True)), as_json=True)
    told = {one["subject"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert [*told] == [f"metrics of {role}" for role in ("fetch", "encode", "index", "sweep")]
    assert told["metrics of index"]["state"] == "ok"
    assert f"http://127.0.0.1:{page}/metrics answers" in told["metrics of index"]["detail"]
    assert told["metrics of fetch"]["state"] == "broken"


def test_what_answers_at_the_port_has_to_be_ours() -> None:
    other = serve(lambda: b"node_load1 0.5\n", "127.0.0.1", free_port())
    url = f"http://127.0.0.1:{other.server_address[1]}/metrics"
    assert "another program's" in doctor._page(url, must_answer=False)
    other.shutdown()
    other.server_close()


def test_tells_what_the_model_cannot_be_used_for(tmp_path: Path) -> None:
    chinese = tmp_path / "chinese"
    tiny_checkpoint(chinese, shape="tiny chinese_clip")
    told = doctor._model(Settings(_env_file=None, model=str(chinese), device="cpu", nsfw_max=0.5))
    assert isinstance(told, findings.Note)
    assert "NSFW_MAX hides none" in told


@pytest.mark.parametrize("known", ["nothing", "collections", "record"])
def test_says_what_auto_is_without_deciding_it(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    index = index_in(tmp_path / "chroma")
    monkeypatch.setattr("shared.index.index.build_index", lambda _: index)
    settings = Settings(_env_file=None, model="auto", device="cpu", blob_url=(tmp_path / "blobs").as_uri())
    blobs = Blobs(settings.blob_url)
    if known == "collections":
        index.create("images", model=str(tiny), fingerprint=fingerprint(tiny), dimension=16)
    elif known == "record":
        monkeypatch.setattr("shared.index.index.build_index", lambda _: INDEX_DOWN)
        blobs.put(MODEL_KEY, json.dumps({"model": str(tiny)}).encode())
    told = doctor._model(settings)
    assert told.startswith("auto: the first start decides" if known == "nothing" else str(tiny))
    assert blobs.exists(MODEL_KEY) == (known == "record")
