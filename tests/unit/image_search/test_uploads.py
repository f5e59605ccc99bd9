"""Files that cannot be sent as they were found, and tables as they are sent."""

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_search import ApiError, AsyncClient, Client, InvalidSource, _bodies, _core
from tests.unit.client_server import Server, job, keys, problem

NAMES = ("a.jpg", "b.jpg", "c.jpg")
Spoil = Callable[[Path], object]


@pytest.fixture
def server() -> Server:
    made = Server()
    made.routes["POST /v1/jobs"] = [(202, job(f"j{number}")) for number in range(9)]
    return made


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    with Client("http://server", transport=httpx.MockTransport(server)) as client:
        yield client


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * 10_000)
    return folder


def vanish(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (vanish, "No such file"),
        (shrink, "it changed while files were sent: it had 50,000 bytes when it was found"),
        (grow, "it changed while files were sent"),
        (become_a_folder, "it is no file any more"),
        (become_a_pipe, "it is no file any more"),
    ],
)
def test_a_file_that_changes_while_others_are_sent_is_named_and_they_go(
    server: Server, client: Client, photos: Path, spoil: Spoil, why: str
) -> None:
    left = [photos / "b.jpg"]
    made = client.ingest(photos, on_sent=lambda count: count and left and spoil(left.pop()))
    assert [(one.path, one.source) for one in made.unsent] == [(photos / "b.jpg", "photos/b.jpg")]
    assert why in made.unsent[0].detail
    assert server.form()[1] == [(f"photos/{name}", name.encode() * 10_000) for name in ("a.jpg", "c.jpg")]
    assert made.ids == ("j0",)


class Failing(io.BytesIO):
    """Breaks off as a failing disk does, after a first piece."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    opened = Path.open

    def open_path(path: Path, *mode: Any, **options: Any) -> Any:
        if path.name in names:
            return Failing(bytes(path.stat().st_size))
        return opened(path, *mode, **options)

    monkeypatch.setattr(Path, "open", open_path)


def test_a_read_error_in_the_middle_leaves_no_half_of_a_picture(
    server: Server, client: Client, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "b.jpg").write_bytes(bytes(200_000))
    failing(monkeypatch, "b.jpg")
    made = client.ingest(photos)
    assert [(one.source, one.detail) for one in made.unsent] == [("photos/b.jpg", "Input/output error")]
    assert [name for name, _ in server.form()[1]] == ["photos/a.jpg", "photos/c.jpg"]


def test_the_async_client_tells_it_too(server: Server, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "b.jpg")
    (photos / "b.jpg").write_bytes(bytes(200_000))

    async def run() -> list[str]:
        async with AsyncClient("http://server", transport=httpx.MockTransport(server)) as client:
            return [one.source for one in (await client.ingest(photos)).unsent]

    assert asyncio.run(run()) == ["photos/b.jpg"]


class BodiesBreakOff(httpx.BaseTransport):
    """Notes what of a body was sent before it was broken off."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.broken: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        received = b""
        try:
            assert isinstance(request.stream, httpx.SyncByteStream)
            for piece in request.stream:
                received += piece
        except BaseException:
            self.broken.append(received)
            raise
        body = httpx.Request(request.method, request.url, headers=request.headers, content=received)
        return self._server(body)


def test_a_large_file_that_fails_midway_breaks_its_own_request_off_so_that_no_job_is_made_of_it(
    server: Server, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bodies, "MAX_WHOLE_BYTES", 100_000)
    for name in ("all.zip", "huge.jpg"):
        (photos / name).write_bytes(bytes(200_000))
    failing(monkeypatch, "all.zip", "huge.jpg")
    transport = BodiesBreakOff(server)
    with Client("http://server", transport=transport) as client:
        made = client.ingest([photos / "all.zip", photos])
    assert [one.path.name for one in made.unsent] == ["all.zip", "huge.jpg"]
    closed = [piece for piece in transport.broken if piece.endswith(b"--\r\n")]
    assert (len(transport.broken), closed) == (2, [])
    assert [[name for name, _ in server.form(number)[1]] for number in range(len(server.requests))] == [
        [f"photos/{name}" for name in NAMES]
    ]


def test_where_no_file_of_one_request_can_be_sent_the_next_requests_go_under_their_own_keys(
    server: Server, client: Client, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bodies, "MAX_BATCH_FILES", 1)
    failing(monkeypatch, "b.jpg")
    (photos / "b.jpg").write_bytes(bytes(200_000))
    made = client.ingest(photos, idempotency_key="k")
    assert (made.ids, [one.path.name for one in made.unsent]) == (("j0", "j1"), ["b.jpg"])
    assert keys(server) == ["k", "k-2"]


def test_where_nothing_can_be_sent_it_is_an_error(
    server: Server, client: Client, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (photos / name).write_bytes(bytes(200_000))
    failing(monkeypatch, *NAMES)
    with pytest.raises(InvalidSource, match=r"nothing .* sent: .*a.jpg \(and 2 more\): Input/output error"):
        client.ingest(photos)
    assert server.requests == []


def test_what_could_not_be_sent_at_first_may_be_sent_the_second_time(
    server: Server, client: Client, photos: Path
) -> None:
    server.routes["POST /v1/jobs"] = [problem(503, "away", "away"), (202, job())]
    whole, away = (photos / "b.jpg").read_bytes(), [photos / "b.jpg"]

    def spoil(count: int) -> None:
        if count < 0:
            (photos / "b.jpg").write_bytes(whole)
        elif count and away:
            away.pop().unlink()

    assert client.ingest(photos, on_sent=spoil).unsent == ()
    assert [len(server.form(attempt)[1]) for attempt in (0, 1)] == [2, 3]


# Tables


def test_a_table_is_sent_as_it_is_with_its_options(server: Server, client: Client, tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfurl;sku\r\nhttp://x/1;007\r\n"
    (tmp_path / "List.CSV").write_bytes(content)
    made = client.ingest(
        tmp_path / "List.CSV", collection="cats", metadata={"shop": "north"}, url_column="url",
        key_column="sku", columns=["a", 'b, "c"'], skip_columns="d,e",
    )  # fmt: skip
    assert made.ids == ("j0",)
    fields, sent = server.form(part="table")
    assert sent == [("List.CSV", content)]
    assert fields == {
        "collection": "cats", "metadata": '{"shop": "north"}', "url_column": "url", "key_column": "sku",
        "columns": 'a,"b, ""c"""', "skip_columns": "d,e",
    }  # fmt: skip
    assert b"Content-Type: text/csv\r\n" in server.requests[0].content
    assert dict(server.requests[0].url.params)["made_of"] == "list"


def test_each_table_is_a_job_of_its_own_that_can_be_sent_again(
    server: Server, client: Client, tmp_path: Path
) -> None:
    for name in ("a.tsv", "b.txt", "c.parquet"):
        (tmp_path / name).write_bytes(name.encode())
    server.routes["POST /v1/jobs"].insert(0, httpx.ReadError("reset"))
    made = client.ingest([tmp_path / name for name in ("a.tsv", "b.txt", "c.parquet")])
    assert len(made.ids) == 3
    sent = [server.form(number, "table")[1] for number in range(4)]
    assert sent == [[(name, name.encode())] for name in ("a.tsv", "a.tsv", "b.txt", "c.parquet")]
    first, again, *others = keys(server)
    assert first == again and len({first, *others}) == 3
    groups = {request.url.params["group"] for request in server.requests}
    assert len(groups) == 1


def test_the_options_of_tables_are_not_for_a_list_of_urls_beside_one(
    server: Server, client: Client, tmp_path: Path
) -> None:
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_bytes(b"x")
    client.ingest([tmp_path / "a.txt", tmp_path / "b.csv"], key_column="sku")
    client.ingest(tmp_path / "a.txt", key_column="sku")  # whose content may be that of a table
    assert [server.form(number)[0] for number in range(3)] == [
        {},
        {"key_column": "sku"},
        {"key_column": "sku"},
    ]


def test_a_refusal_of_a_table_names_the_file(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("link\nhttp://x/1\n")
    fault = {"pointer": "/url_column", "message": "no column"}
    server.routes["POST /v1/jobs"] = problem(
        422, "invalid_request", "No column has the URLs: link.", errors=[fault]
    )
    for ask in (client.ingest, client.preview_table):
        with pytest.raises(ApiError) as raised:
            ask(path)
        assert raised.value.detail == f"{path}: No column has the URLs: link."
        assert raised.value.errors == [fault]
    server.routes["POST /v1/jobs"] = problem(401, "unauthorized", "Who are you?")
    with pytest.raises(ApiError, match=r"^Who are you"):
        client.ingest(path)


def test_options_of_tables_without_a_table_are_an_error(server: Server, client: Client, photos: Path) -> None:
    for source in (photos, ["http://x/a"]):
        with pytest.raises(InvalidSource, match="`key_column` is for tables"):
            client.ingest(source, key_column="sku")
    assert server.requests == []


@pytest.mark.parametrize(
    "content", ["name,url\nx,http://x/1\n", "\ufeffname;url\n", '{"url": "http://x/1"}\n', "[\n", "PAR1\0"]
)
def test_a_table_on_standard_input_is_no_list(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    with pytest.raises(InvalidSource, match="-: what comes is no URL a line but a table"):
        client.ingest("-")


def test_urls_on_standard_input_are_sent_as_they_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "http://x/1\n# none\n".encode("utf-16")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    server.routes["POST /v1/jobs"] = [problem(503, "away", "away"), (202, job())]
    with Client("http://server", transport=httpx.MockTransport(server)) as client:
        client.ingest("-", collection="cats", metadata={"shop": "north"})
    for request in server.requests:
        assert request.content == content
        assert request.headers["content-type"] == "text/plain"
        assert request.headers["transfer-encoding"] == "chunked"
        assert json.loads(request.url.params["metadata"]) == {"shop": "north"}
        assert request.url.params["collection"] == "cats"


PREVIEW: dict[str, Any] = {
    "kind": "csv", "columns": [], "rows": [], "notes": [], "total": 0, "partial": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "partial"),
    [(b"url\n" * 10, None), (b"url\n" * 2**19, "true"), (b"PAR1" + bytes(2**21), None)],
)
def test_a_preview_is_of_the_first_mebibyte_of_what_can_be_read_in_parts(
    server: Server, client: Client, tmp_path: Path, content: bytes, partial: str | None
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    server.routes["POST /v1/jobs"] = PREVIEW
    assert client.preview_table(path, url_column="link", columns=["a", "b"], rows=7).kind == "csv"
    params = dict(server.requests[0].url.params)
    assert params.pop("partial", None) == partial
    assert params == {"preview": "7", "url_column": "link", "columns": "a,b"}
    assert server.form(part="table")[1] == [("table.csv", content[: 2**20 if partial else None])]
    with pytest.raises(InvalidSource, match=r"none.csv: No such file"):
        client.preview_table(tmp_path / "none.csv")
