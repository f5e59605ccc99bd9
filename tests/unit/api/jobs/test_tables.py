import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import BoundedSemaphore
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from flask.testing import FlaskClient
from pyarrow import parquet
from werkzeug.test import TestResponse

from api.jobs import routes
from api.jobs import tables as tables_module
from shared.config import Settings
from shared.models import Item
from shared.services import Services
from shared.storage.blobs import Blobs
from shared.storage.manifest import read_items
from tests.redis_server import fake_ledger
from tests.unit.api.jobs.test_routes import FakeDispatcher, FakeDownloader, app  # noqa: F401 - a fixture

CSV = b"\xef\xbb\xbf URL ;Product Name;price;id\r\nhttp://x/1;Boat;9.5;007\r\nhttp://x/2;;7;8\r\n"
ITEMS: list[tuple[str | None, dict[str, Any]]] = [
    ("http://x/1", {"Product_Name": "Boat", "price": 9.5, "id_": "007"}),
    ("http://x/2", {"price": 7.0, "id_": "8"}),
]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    stand_in = SimpleNamespace(
        settings=Settings(max_image_bytes=1000, max_upload_bytes=3 * 2**20, chunk_size=4),
        blobs=Blobs(f"file://{tmp_path}/blobs"),
        ledger=fake_ledger(),
        downloader=FakeDownloader(),
        dispatcher=FakeDispatcher(),
    )
    services = cast(Services, stand_in)
    monkeypatch.setattr(routes, "services", lambda: services)
    return services


@pytest.fixture
def http(app: Any, services: Services) -> Iterator[FlaskClient]:  # noqa: F811
    with app.test_client() as client:
        yield client


def post(http: FlaskClient, data: bytes, media_type: str = "text/csv", **query: Any) -> TestResponse:
    return http.post("/v1/jobs", data=data, content_type=media_type, query_string=query)


def form(http: FlaskClient, data: bytes, name: str = "a.csv", **fields: Any) -> TestResponse:
    return http.post("/v1/jobs", data={"table": (io.BytesIO(data), name), **fields})


def made(response: TestResponse, services: Services) -> tuple[dict[str, Any], list[Item]]:
    assert response.status_code == 202, response.text
    job = json.loads(response.data)
    return job, read_items(services.blobs, job["job_id"], 0, job["total"])


def refused(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 422, response.text
    document: dict[str, Any] = json.loads(response.data)
    return document


def stored(services: Services) -> list[str]:
    return [*services.blobs.list("jobs/")]


@pytest.mark.parametrize("send", [post, form])
def test_a_table_s_rows_become_the_jobs_items(http: FlaskClient, services: Services, send: Any) -> None:
    job, items = made(send(http, CSV, collection="cats"), services)
    assert (job["collection"], job["truncated"]) == ("cats", False)
    assert [(item.url, item.metadata) for item in items] == ITEMS
    assert {note["code"] for note in job["notes"]} >= {"column_renamed"}


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("text/tab-separated-values", b"url\tn\nhttp://x/1\t1\n"),
        ("application/jsonl", b'{"url": "http://x/1", "n": 1}\n'),
        ("application/json", b' [{"url": "http://x/1", "n": 1}]'),
        ("application/json", b'\xef\xbb\xbf[{"url": "http://x/1", "n": 1}]'),
        ("application/json", '[{"url": "http://x/1", "n": 1}]'.encode("utf-16")),
    ],
)
def test_each_kind_of_table_is_read(
    http: FlaskClient, services: Services, media_type: str, data: bytes
) -> None:
    _, (item,) = made(post(http, data, media_type), services)
    assert (item.url, item.metadata) == ("http://x/1", {"n": 1})


@pytest.mark.parametrize(
    ("send", "rows"), [(post, 2), (form, 2), (post, 40_000)]
)  # in memory, and more than a spooled file keeps there
def test_parquet_is_read_also_where_a_cell_is_odd(
    http: FlaskClient, services: Services, send: Any, rows: int
) -> None:
    columns = {
        "url": [f"http://x/{number}" for number in range(rows)],
        "id": pa.array([7.0, None, *range(2, rows)]),
        "at": pa.array([1, 10**18] * (rows // 2), pa.timestamp("us", "Mars/Phobos")),
        "image": [{"bytes": b"\xff\xd8", "path": "a.jpg"}] * rows,
    }
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    media_type = "application/vnd.apache.parquet" if send is post else "a.parquet"
    _, items = made(send(http, file.getvalue(), media_type, key_column="id"), services)
    assert [(item.key, item.metadata) for item in items[:2]] == [
        ("7", {"at": "1970-01-01T00:00:00.000001Z", "image": '{"path": "a.jpg"}'}),
        (None, {"at": "+033658-09-27T01:46:40Z", "image": '{"path": "a.jpg"}'}),
    ]
    assert (len(items), items[-1].url) == (rows, f"http://x/{rows - 1}")
    preview = json.loads(send(http, file.getvalue(), media_type, preview=1).data)
    assert (preview["kind"], preview["total"], len(preview["rows"])) == ("parquet", rows, 1)


def test_parquet_that_is_damaged_makes_no_job(http: FlaskClient, services: Services) -> None:
    assert "damaged" in refused(post(http, b"PAR1" + bytes(100) + b"PAR1"))["detail"]
    assert stored(services) == []


def test_the_options_of_tables_stand_in_the_query_or_in_a_form(http: FlaskClient, services: Services) -> None:
    data = b"link,sku,a,b\nhttp://x/1,k1,1,2\n"
    options = {"url_column": "link", "key_column": "sku", "skip_columns": "b"}
    for send in (post, form):
        _, (item,) = made(send(http, data, **options), services)
        assert (item.url, item.key, item.metadata) == ("http://x/1", "k1", {"a": 1})


def test_metadata_for_all_is_under_what_a_row_says(http: FlaskClient, services: Services) -> None:
    data = b"url,shop\nhttp://x/1,north\nhttp://x/2,\n"
    for send in (post, form):
        _, items = made(send(http, data, metadata='{"shop": "all", "n": 1}'), services)
        assert [item.metadata for item in items] == [{"shop": "north", "n": 1}, {"shop": "all", "n": 1}]


def test_metadata_for_all_leaves_a_table_fewer_columns(http: FlaskClient, services: Services) -> None:
    names = [f"c{n}" for n in range(32)]
    data = f"url,{','.join(names)}\nhttp://x/1,{','.join('x' for _ in names)}\n".encode()
    _, (item,) = made(post(http, data, metadata='{"shop": "north"}'), services)
    assert (len(item.metadata), item.metadata["shop"]) == (32, "north")


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "text/plain", "application/json"])
def test_metadata_for_all_holds_for_other_bodies_too(
    http: FlaskClient, services: Services, media_type: str
) -> None:
    data = {
        "application/x-ndjson": b'{"url": "http://x/1", "metadata": {"b": 2}}\n',
        "text/plain": b"http://x/1\n",
        "application/json": b'{"urls": ["http://x/1"]}',
    }[media_type]
    _, (item,) = made(post(http, data, media_type, metadata='{"a": 1}'), services)
    assert item.metadata["a"] == 1


def test_an_item_that_has_too_much_with_the_metadata_for_all_fails_alone(
    http: FlaskClient, services: Services
) -> None:
    own = {f"c{n}": n for n in range(32)}
    lines = [json.dumps({"url": "http://x/1", "metadata": own}), json.dumps({"url": "http://x/2"})]
    _, (full, other) = made(
        post(http, "\n".join(lines).encode(), "application/x-ndjson", metadata='{"a": 1}'), services
    )
    assert full.error is not None
    assert "33 values" in full.error
    assert other.error is None


@pytest.mark.parametrize("send", [post, form])
def test_a_preview_says_what_becomes_of_a_table_and_makes_no_job(
    http: FlaskClient, services: Services, send: Any
) -> None:
    response = send(http, CSV, preview=1)
    assert response.status_code == 200
    preview = json.loads(response.data)
    assert [(one["name"], one["metadata_name"], one["use"], one["type"]) for one in preview["columns"]] == [
        ("URL", None, "url", "text"),
        ("Product Name", "Product_Name", "metadata", "text"),
        ("price", "price", "metadata", "number"),
        ("id", "id_", "metadata", "text"),
    ]
    assert [(row["url"], row["metadata"]) for row in preview["rows"]] == ITEMS[:1]
    assert (preview["total"], preview["partial"], preview["kind"]) == (2, False, "csv")
    assert json.loads(http.get("/v1/jobs").data)["jobs"] == []
    assert stored(services) == []


@pytest.mark.parametrize("query", [{}, {"partial": "true"}])
def test_a_preview_of_the_first_mebibyte_is_partial(http: FlaskClient, query: dict[str, str]) -> None:
    data = (b"url,n\n" + b"".join(b"http://x/%d,%d\n" % (n, n) for n in range(60_000)))[: 2**20]
    preview = json.loads(post(http, data, preview=2, **query).data)
    assert (preview["partial"], len(preview["rows"])) == (True, 2)


def test_a_preview_shows_the_items_that_rows_become(http: FlaskClient, services: Services) -> None:
    """So without credentials, with what is said of all, and none too large for the answer."""
    secret, long = "http://user:hunter2@x/1?token=hunter2", "http://user:hunter2@x/" + "1" * 10**5
    data = f"url,key,n\n{secret},,1\n{secret},{'k' * 300},hunter\n".encode() + f"{long},,\n".encode() * 5
    preview = json.loads(post(http, data, preview=100, metadata='{"shop": "north"}').data)
    assert "hunter2" not in str(preview)
    assert preview["rows"][0] == {
        "url": "http://REDACTED@x/1?token=REDACTED",
        "key": None,
        "metadata": {"shop": "north", "n": "1"},
        "error": None,
    }
    assert [row["error"][:40] for row in preview["rows"][1:3]] == [
        "invalid_url: Line 3 is malformed: the ke",
        "invalid_url: The URL has 100,022 charact",
    ]
    _, items = made(post(http, data), services)
    assert all(len(item.source) < 300 and "hunter2" not in item.source for item in items)


def test_a_part_of_a_table_is_for_a_preview_alone(http: FlaskClient, services: Services) -> None:
    assert refused(post(http, CSV, partial="true"))["errors"][0]["pointer"] == "/partial"
    assert stored(services) == []


def test_a_preview_of_a_list_of_urls_is_one_too(http: FlaskClient) -> None:
    preview = json.loads(post(http, b"# mine\nhttp://x/1\n", "text/plain", preview=5).data)
    assert (preview["kind"], [row["url"] for row in preview["rows"]]) == ("list", ["http://x/1"])


def test_a_table_without_a_url_column_lists_its_columns(http: FlaskClient, services: Services) -> None:
    for query in ({}, {"preview": 5}):
        document = refused(post(http, b"link,name\nhttp://x/1,a\n", **query))
        assert document["columns"] == ["link", "name"]
        assert document["errors"][0]["pointer"] == "/url_column"
        assert "`link`" in document["detail"]
    assert stored(services) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"table": [(io.BytesIO(CSV), "a.csv"), (io.BytesIO(CSV), "b.csv")]}, "/table"),
        ({"table": (io.BytesIO(CSV), "a.csv"), "files": (io.BytesIO(b"x"), "a.jpg")}, "/table"),
        ({"table": (io.BytesIO(CSV), "a.csv"), "keys": "[]"}, "/keys"),
        ({"table": (io.BytesIO(CSV), "a.csv"), "metadata": "[{}]"}, "/metadata"),
        ({"table": (io.BytesIO(CSV), "a.csv"), "preview": "no"}, "/preview"),
        ({"table": (io.BytesIO(CSV), "a.csv"), "preview": "101"}, "/preview"),
        ({"table": "text", "files": (io.BytesIO(b"x"), "a.jpg")}, "/table"),
        ({"files": (io.BytesIO(b"x"), "a.jpg"), "url_column": "link"}, "/url_column"),
    ],
)
def test_a_fault_in_a_form_with_a_table_is_pointed_to(
    http: FlaskClient, services: Services, body: dict[str, Any], pointer: str
) -> None:
    document = refused(http.post("/v1/jobs", data=body))
    assert document["errors"][0]["pointer"] == pointer
    assert stored(services) == []


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "text/plain", "application/json"])
def test_options_of_tables_are_refused_where_there_is_none(http: FlaskClient, media_type: str) -> None:
    document = refused(post(http, b'{"url": "http://x"}', media_type, url_column="link"))
    assert document["errors"][0]["pointer"] == "/url_column"


def test_a_repeated_key_is_compared_by_the_tables_bytes_and_options(
    http: FlaskClient, services: Services
) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "text/csv"}
    ids = [http.post("/v1/jobs", data=CSV, headers=headers).json["job_id"] for _ in range(2)]  # type: ignore[index]
    assert ids[0] == ids[1]
    for url, data in (("/v1/jobs", CSV + b"http://x/3;;;\n"), ("/v1/jobs?skip_columns=price", CSV)):
        response = http.post(url, data=data, headers=headers)
        assert (response.status_code, response.json["code"]) == (422, "idempotency_mismatch")  # type: ignore[index]


def test_a_table_that_breaks_off_is_a_truncated_job_of_its_whole_rows(
    http: FlaskClient, services: Services
) -> None:
    cut = CSV[:-8]
    environ = {"CONTENT_LENGTH": str(len(CSV)), "wsgi.input": io.BytesIO(cut)}
    response = http.post("/v1/jobs", content_type="text/csv", environ_overrides=environ)
    job, items = made(response, services)
    assert (job["truncated"], [item.url for item in items]) == (True, ["http://x/1"])


def test_a_form_that_breaks_off_behind_its_table_is_truncated_and_no_row_is_lost(
    http: FlaskClient, services: Services
) -> None:
    """What it says behind the table is lost, so that a repeat under the same Idempotency-Key is to count."""
    head = b'--B\r\nContent-Disposition: form-data; name="table"; filename="a.csv"\r\n\r\n'
    rest = b'\r\n--B\r\nContent-Disposition: form-data; name="key_column"\r\n\r\nid\r\n--B--\r\n'
    whole = head + CSV.strip() + rest
    ids = []
    for data in (whole[:-20], whole):
        response = http.post(
            "/v1/jobs",
            headers={"Idempotency-Key": "k"},
            environ_overrides={
                "CONTENT_TYPE": "multipart/form-data; boundary=B",
                "CONTENT_LENGTH": str(len(whole)),
                "wsgi.input": io.BytesIO(data),
            },
        )
        job, items = made(response, services)
        assert (job["truncated"], len(items)) == (data != whole, 2)
        ids.append(job["job_id"])
    assert ids[0] != ids[1]


def test_of_large_tables_few_are_read_at_once_and_small_ones_need_not_wait(
    app: Any,  # noqa: F811
    http: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = BoundedSemaphore(1)
    monkeypatch.setattr(tables_module, "_turns", turns)
    large = CSV + b"http://x/3;;;\r\n" * 80_000
    with ThreadPoolExecutor() as threads:
        with turns:
            waits = threads.submit(post, app.test_client(), large, preview=1)
            assert post(http, CSV, preview=1).status_code == 200
            assert not wait([waits], timeout=1).done
        assert waits.result().status_code == 200
    assert post(http, large.replace(b"URL", b"link"), preview=1).status_code == 422
    assert turns.acquire(timeout=1)
    monkeypatch.setattr(tables_module, "_TURN_SECONDS", 0.01)
    late = post(http, large, preview=1)
    assert (late.status_code, "Retry-After" in late.headers) == (503, True)


def test_a_table_over_the_limit_of_uploads_is_refused(http: FlaskClient, services: Services) -> None:
    response = post(http, b"url\n" + b"http://x/1\n" * 300_000)
    assert response.status_code == 413
    assert stored(services) == []


def test_a_large_table_is_read_from_the_disk(
    http: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_SPOOL_BYTES", 10)
    _, items = made(post(http, CSV), services)
    assert [(item.url, item.metadata) for item in items] == ITEMS
