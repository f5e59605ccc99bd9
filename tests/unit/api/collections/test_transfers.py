"""Exports and imports: API, stages and writer in this process, on the real ledger scripts and Chroma."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from api.collections import transfers as api_moves
from api.images.edits import remove_collection
from image_search import Client
from image_search.cli import common
from image_search.cli.collections import client_commands
from image_search.cli.errors import Commands
from image_search.models.jobs import Job
from shared.errors import BlobsUnavailable, ItemError
from shared.imaging.isolation import run_isolated
from shared.models import Claim, ItemState, Stage
from shared.storage import vector_log
from shared.storage.blobs import Blobs, export_prefix, file_key, job_prefix, log_prefix
from shared.storage.parquet import FILE_COLUMNS, Header, Row, Source, joined, write_part
from tests.unit.fakes import (
    DIMENSION,
    Api,
    Down,
    assert_problem,
    axis,
    image_id,
    make_api,
    make_services,
    with_services,
)
from tests.unit.stages import StubDispatcher, drain, image
from worker.pipelines import handler_of
from worker.recovery import rebuild
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages import import_ as import_module

PARQUET = "application/vnd.apache.parquet"
HEADER = Header("images", "stub/model", "5" * 16, DIMENSION)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(api_moves, "CHUNK_ROWS", 4)
    services = replace(make_services(tmp_path), dispatcher=cast(Any, StubDispatcher()))
    yield make_api(tmp_path, services)


def fill(api: Api, count: int = 10) -> None:
    for number in range(count):
        api.add(number, axis(number % DIMENSION), metadata={"n": number})


def fetch(api: Api, claim: Claim) -> None:
    handler_of(claim)(cast(Any, SimpleNamespace(services=api.services)), claim)


def work(api: Api) -> None:
    """What the workers do until nothing is left to be done."""
    while chunks := api.services.ledger.dispatch():
        for chunk in chunks:
            claim = api.services.ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            fetch(api, claim)
    drain(api.services)


def job_of(api: Api, response: Any) -> dict[str, Any]:
    """The finished job that a request made."""
    assert response.status_code == 202, response.text
    work(api)
    job: dict[str, Any] = api.http.get(response.headers["Location"]).json
    assert sum(job["counts"].values()) == job["total"]
    return job


def exported(api: Api, **body: Any) -> bytes:
    job = job_of(api, api.http.post("/v1/collections/images/export", json=body))
    assert (job["status"], job["kind"]) == ("succeeded", "export")
    answer = api.http.get(f"/v1/jobs/{job['job_id']}/export")
    assert (answer.status_code, answer.mimetype) == (200, PARQUET)
    assert 'filename="images.parquet"' in answer.headers["Content-Disposition"]
    return answer.data


def import_(api: Api, data: bytes, collection: str = "copy", **options: Any) -> Any:
    return api.http.post(f"/v1/collections/{collection}/import", data=data, content_type=PARQUET, **options)


def parquet_of(rows: list[Row], header: Header = HEADER) -> bytes:
    file = io.BytesIO()
    write_part(file, header, rows, FILE_COLUMNS)
    return file.getvalue()


def sound_row(number: int = 1, **fields: Any) -> Row:
    return Row(replace(image(image_id(number)), **fields), axis(0))


def test_a_collection_moves_with_everything_that_is_known_of_it(api: Api) -> None:
    fill(api)
    api.services.blobs.put(file_key("images", image_id(3), "thumbnail"), webp())
    data = exported(api, include=["thumbnail"])
    job = job_of(api, import_(api, data))
    assert (job["status"], job["kind"], job["collection"]) == ("succeeded", "import", "copy")
    assert job["counts"]["indexed"] == job["total"] == 10
    here, there = (api.services.index.collection(name) for name in ("images", "copy"))
    ids = list(here.ids())
    assert list(there.ids()) == ids
    brought = [job["job_id"]]
    assert all(replace(here.get(one), jobs=brought) == there.get(one) for one in ids)
    assert all(np.array_equal(here.vector(one), there.vector(one)) for one in ids)
    assert api.http.get(f"/v1/images/{image_id(3)}/thumbnail?collection=copy").data == webp()


def test_keys_move_and_replace_what_they_pointed_at(api: Api) -> None:
    api.add(1, axis(1), keys=["sku", "other"], sources=["https://example.com/1.jpg", "b", "c"])
    data = exported(api)
    job_of(api, import_(api, parquet_of([sound_row(2, keys=["sku"])])))
    job = job_of(api, import_(api, data))
    assert job["counts"]["indexed"] == 1
    copy = api.services.index.collection("copy")
    assert list(copy.ids()) == [image_id(1)]
    original = api.services.index.collection("images").get(image_id(1))
    assert copy.get(image_id(1)) == replace(original, jobs=[job["job_id"]])
    for key in ("sku", "other"):
        found = api.http.get(f"/v1/images?collection=copy&key={key}").json["images"]
        assert [one["id"] for one in found] == [image_id(1)]
    before = copy.stored([image_id(1)])
    rebuild.rebuild(api.services, "copy")
    assert api.services.index.collection("copy").stored([image_id(1)]) == before
    assert api.http.delete("/v1/images?collection=copy&key=sku").status_code == 204
    assert api.services.index.collection("copy").get(image_id(1)).keys == ["other"]


def small_file(format_name: str) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGB", (20, 10), "red").save(file, format_name)
    return file.getvalue()


def webp() -> bytes:
    return small_file("WEBP")


def jpeg() -> bytes:
    return small_file("JPEG")


def test_an_import_is_in_the_vector_log_and_again_is_duplicate(api: Api) -> None:
    fill(api)
    data = exported(api)
    job_of(api, import_(api, data))
    keys = api.services.blobs.list(log_prefix("copy"))
    logged = [a.image.id for key in keys for a in vector_log.read_segment(api.services.blobs, key).additions]
    assert sorted(logged) == [image_id(n) for n in range(10)]
    assert job_of(api, import_(api, data))["counts"]["duplicate"] == 10


def test_an_export_on_the_same_server_is_imported_by_its_job(api: Api) -> None:
    fill(api)
    export = job_of(api, api.http.post("/v1/collections/images/export"))
    job = job_of(api, api.http.post("/v1/collections/copy/import", json={"export": export["job_id"]}))
    assert job["counts"]["indexed"] == 10
    items = api.http.get(f"/v1/jobs/{job['job_id']}/items").json["items"]
    assert [item["image_id"] for item in items] == [image_id(n) for n in range(10)]
    assert items[9]["source"] == "row 9"


def test_a_chunk_that_is_delivered_twice_changes_nothing(api: Api) -> None:
    fill(api, 4)
    response = api.http.post("/v1/collections/images/export")
    (chunk,) = api.services.ledger.dispatch()
    claim = api.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    fetch(api, claim)
    before = api.http.get(response.headers["Location"]).json
    fetch(api, claim)  # by a worker that has lost its lease and does not know
    assert api.http.get(response.headers["Location"]).json == before
    assert before["counts"]["indexed"] == 4
    assert len(api.services.blobs.list(export_prefix(before["job_id"]))) == 1


def test_a_picture_deleted_before_it_is_read_is_a_failed_item(api: Api) -> None:
    fill(api, 6)
    response = api.http.post("/v1/collections/images/export")
    api.services.index.collection("images").delete([image_id(2)])
    job = job_of(api, response)
    assert job["status"] == "partial"
    assert [(e["index"], e["code"], e["source"]) for e in job["errors"]] == [(2, "index_error", image_id(2))]
    data = api.http.get(f"/v1/jobs/{job['job_id']}/export").data
    assert sum(Source(io.BytesIO(data)).group_rows) == 5


def test_a_collection_that_goes_away_fails_its_export(api: Api) -> None:
    fill(api, 6)
    response = api.http.post("/v1/collections/images/export")
    remove_collection(api.services, "images")
    job = job_of(api, response)
    assert job["status"] == "failed"
    assert_problem(api.http.get(f"/v1/jobs/{job['job_id']}/export"), 409, "conflict")


def test_an_export_cannot_be_downloaded_before_its_end_or_after_a_cancel(api: Api) -> None:
    fill(api)
    job_id = api.http.post("/v1/collections/images/export").json["job_id"]
    assert_problem(api.http.get(f"/v1/jobs/{job_id}/export"), 409, "job_running")
    assert api.http.delete(f"/v1/jobs/{job_id}").json["status"] == "cancelled"
    assert_problem(api.http.get(f"/v1/jobs/{job_id}/export"), 409, "conflict")
    assert_problem(api.http.post("/v1/collections/copy/import", json={"export": job_id}), 409, "conflict")


def test_only_exports_are_downloaded(api: Api) -> None:
    job_id = api.http.post("/v1/jobs", json={"urls": ["http://x/"]}).json["job_id"]
    assert_problem(api.http.get(f"/v1/jobs/{job_id}/export"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"include": ["original"]}, "/include/0"),
        ({"what": 1}, "/what"),
        ({"callback_url": 5}, "/callback_url"),
        ([], ""),
    ],
)
def test_a_malformed_export_is_refused(api: Api, body: Any, pointer: str) -> None:
    fill(api, 1)
    response = api.http.post("/v1/collections/images/export", json=body)
    assert_problem(response, 422, "invalid_request", pointer)


def test_an_empty_or_unknown_collection_is_not_exported(api: Api) -> None:
    assert_problem(api.http.post("/v1/collections/none/export"), 404, "collection_not_found")
    api.http.post("/v1/collections", json={"name": "empty"})
    assert_problem(api.http.post("/v1/collections/empty/export"), 422, "invalid_request")


def test_a_repeated_request_is_the_same_job(api: Api) -> None:
    fill(api, 3)
    key = {"headers": {"Idempotency-Key": "k"}}
    first, again = (api.http.post("/v1/collections/images/export", **key).json["job_id"] for _ in range(2))
    assert first == again
    other = api.http.post("/v1/collections/images/export", json={"include": ["thumbnail"]}, **key)
    assert_problem(other, 422, "idempotency_mismatch")
    assert api.services.blobs.folders("jobs/") == [first]


@pytest.mark.parametrize("header", [{"fingerprint": "6" * 16}, {"dimension": DIMENSION + 1}])
def test_a_file_of_another_model_is_refused_with_what_to_do(api: Api, header: dict[str, Any]) -> None:
    header = replace(HEADER, model="other/model", **header)
    vector = np.eye(header.dimension, dtype=np.float32)[0]
    response = import_(api, parquet_of([Row(image(image_id(1)), vector)], header))
    document = assert_problem(response, 409, "model_mismatch")
    assert "other/model" in document["detail"]
    assert "collections create NAME --model other/model" in document["detail"]
    assert api.services.blobs.folders("jobs/") == []


def test_a_collection_of_another_model_takes_no_import(api: Api) -> None:
    api.services.index.create("copy", model="old/model", fingerprint="1" * 16, dimension=DIMENSION)
    assert_problem(import_(api, parquet_of([sound_row()])), 409, "model_mismatch")


def test_a_collection_of_another_model_takes_what_that_wrote(api: Api) -> None:
    api.services.index.create("copy", model="other/model", fingerprint="1" * 16, dimension=DIMENSION)
    header = replace(HEADER, model="other/model", fingerprint="1" * 16)
    job = job_of(api, import_(api, parquet_of([sound_row()], header)))
    assert (job["status"], job["counts"]["indexed"]) == ("succeeded", 1)
    assert api.services.index.collection("copy").count() == 1


def test_bad_rows_are_failed_items_with_their_reasons(api: Api) -> None:
    rows = [
        sound_row(1),
        Row(image("no-hash"), axis(0)),
        Row(image(image_id(2)), axis(0) * 2),
        sound_row(3, metadata={"id": "x"}),
        sound_row(4),
    ]
    job = job_of(api, import_(api, parquet_of(rows)))
    assert job["status"] == "partial"
    assert job["counts"]["indexed"] == 2
    assert [error["index"] for error in job["errors"]] == [1, 2, 3]
    assert [error["source"] for error in job["errors"]] == ["row 1", "row 2", "row 3"]
    assert [error["detail"].split(":")[0] for error in job["errors"]] == ["id", "vector", "metadata"]
    assert list(api.services.index.collection("copy").ids()) == [image_id(1), image_id(4)]


def test_a_file_that_is_none_of_ours_is_left_out(api: Api) -> None:
    rows = [
        replace(sound_row(1), files={"thumbnail": jpeg(), "rendition": b"no picture"}),
        replace(sound_row(2), files={"thumbnail": webp(), "rendition": jpeg()}),
        replace(sound_row(3), files={"rendition": webp()}),  # as earlier versions kept it
    ]
    assert job_of(api, import_(api, parquet_of(rows)))["status"] == "succeeded"

    def kept(number: int) -> list[str]:
        keys = {kind: file_key("copy", image_id(number), kind) for kind in FILE_COLUMNS}
        return [kind for kind, key in keys.items() if api.services.blobs.exists(key)]

    assert [kept(number) for number in (1, 2, 3)] == [[], ["thumbnail", "rendition"], ["rendition"]]


@pytest.mark.parametrize(
    ("data", "detail"),
    [(b"", "not Parquet"), (b"x" * 5000, "not Parquet"), (parquet_of([]), "no rows")],
)
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(api: Api, data: bytes, detail: str) -> None:
    assert detail in assert_problem(import_(api, data), 422, "invalid_request")["detail"]
    assert api.services.blobs.folders("jobs/") == []


def test_an_import_needs_a_file_or_an_export(api: Api) -> None:
    text = api.http.post("/v1/collections/copy/import", data="x", content_type="text/plain")
    assert_problem(text, 415, "unsupported_media_type")
    assert_problem(api.http.post("/v1/collections/copy/import", json={}), 422, "invalid_request", "/export")
    unknown = api.http.post("/v1/collections/copy/import", json={"export": "nope"})
    assert_problem(unknown, 404, "job_not_found")
    assert_problem(import_(api, parquet_of([sound_row()]), "bad name"), 422, "invalid_request", "/collection")


def test_a_file_that_has_expired_fails_its_rows(api: Api) -> None:
    fill(api, 3)
    export = job_of(api, api.http.post("/v1/collections/images/export"))
    response = api.http.post("/v1/collections/copy/import", json={"export": export["job_id"]})
    api.services.blobs.delete_prefix(job_prefix(export["job_id"]))
    job = job_of(api, response)
    assert job["status"] == "failed"
    assert "expired" in job["errors"][0]["detail"]


def test_a_file_that_kills_its_reader_is_read_apart_and_fails_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise ItemError("internal", "died twice")

    monkeypatch.setattr(import_module, "run_isolated", dies)
    response = import_(api, parquet_of([sound_row()]))
    (chunk,) = api.services.ledger.dispatch()
    claim = api.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    import_module.run(api.services, replace(claim, deliveries=SUSPICIOUS_DELIVERIES))
    job = api.http.get(response.headers["Location"]).json
    assert job["status"] == "failed"
    assert "ended the process" in job["errors"][0]["detail"]


def test_a_download_that_cannot_begin_says_so(api: Api, tmp_path: Path) -> None:
    fill(api, 3)
    job = job_of(api, api.http.post("/v1/collections/images/export"))
    broken = Blobs(f"file://{tmp_path}/blobs")
    key = f"{export_prefix(job['job_id'])}0000000.parquet"
    down = Down(BlobsUnavailable("The blob store failed."))
    broken.open_read = down.open_read  # type: ignore[method-assign]
    assert broken.exists(key)
    assert_problem(
        with_services(api, tmp_path, blobs=broken).http.get(f"/v1/jobs/{job['job_id']}/export"),
        503,
        "blobs_unavailable",
    )


def test_trouble_of_the_blob_store_is_not_taken_for_a_bad_file(api: Api) -> None:
    import_(api, parquet_of([sound_row()]))
    (chunk,) = api.services.ledger.dispatch()
    claim = api.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    down = replace(api.services, blobs=cast(Any, Down(BlobsUnavailable("The blob store failed."))))
    with pytest.raises(BlobsUnavailable):
        import_module.run(down, claim)
    assert api.services.ledger.get(chunk.job_id).counts[ItemState.PENDING] == 1


def test_the_parts_of_an_export_are_a_documented_place(api: Api) -> None:
    fill(api, 6)
    job = job_of(api, api.http.post("/v1/collections/images/export"))
    keys = api.services.blobs.list(f"jobs/{job['job_id']}/export/")
    assert [key.rpartition("/")[2] for key in keys] == ["0000000.parquet", "0000001.parquet"]
    whole = b"".join(joined(closing(io.BytesIO(api.services.blobs.get(key))) for key in keys))
    assert json.loads(json.dumps(Source(io.BytesIO(whole)).group_rows)) == [4, 2]


def test_rows_can_be_read_in_a_process_of_their_own(api: Api) -> None:
    job_id = import_(api, parquet_of([sound_row(1), sound_row(2)])).json["job_id"]
    rows = run_isolated(import_module.read_rows, api.services.blobs, job_id, 1, 2, timeout_s=60)
    assert [row.image.id for row in rows] == [image_id(2)]


@pytest.fixture
def run(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The client's commands on this server, whose workers do their work as soon as somebody waits for it."""

    def wait(client: Client, job_id: str, progress: Any = None) -> Job:
        work(api)
        return client.job(job_id)

    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.WSGITransport(app=api.app)))
    monkeypatch.setattr(Client, "wait", wait)
    group = Commands(commands={command.name or "": command for command in client_commands})
    return lambda *arguments: CliRunner().invoke(group, [str(one) for one in arguments])


def test_the_commands_move_a_collection_through_a_folder(
    api: Api, run: Callable[..., Result], tmp_path: Path
) -> None:
    fill(api)
    result = run("export", tmp_path / "out", "--include", "thumbnail")
    assert result.exit_code == 0, result.output
    assert "images.parquet: 10 pictures" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images.parquet"]
    assert run("import", tmp_path / "out", "-c", "copy").exit_code == 0
    assert api.services.index.collection("copy").count() == 10
    again = run("import", tmp_path / "out" / "images.parquet")
    assert "10 duplicate" in again.output


def test_the_commands_say_what_was_refused_and_what_failed(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    refused = run("export", tmp_path, "-c", "none")
    assert refused.exit_code == 1
    assert "There is no collection 'none'" in refused.stderr
    (tmp_path / "bad.parquet").write_bytes(parquet_of([sound_row(), Row(image("x"), axis(0))]))
    some = run("import", tmp_path)
    assert some.exit_code == 3
    assert re.search("row 1 +index_error +id: it must be", some.output)
    (tmp_path / "bad.parquet").write_bytes(b"x")
    assert run("import", tmp_path).exit_code == 1
    (tmp_path / "bad.parquet").unlink()
    assert run("import", tmp_path).exit_code == 2
