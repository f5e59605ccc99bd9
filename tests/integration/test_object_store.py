"""Every role as processes of its own on `BLOB_URL=s3://…`: moto's server, which speaks HTTP."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.checkpoints import tiny_checkpoint
from tests.image_server import ImageServer
from tests.object_store import SECRET, ObjectStore
from tests.roles import Roles
from tests.stack import eventually, finished

PICTURES = 64
CHUNK_SIZE = 16


@pytest.fixture(scope="module")
def roles(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    folder = tmp_path_factory.mktemp("roles")
    tiny_checkpoint(folder / "models" / "other", seed=1)
    settings = {"CHUNK_SIZE": str(CHUNK_SIZE), "MODELS_FOLDER": str(folder / "models")}
    with Roles(folder, store.url, store.env, RATE_LIMIT="off", HOST_RATE="1000", **settings) as running:
        yield running


@pytest.fixture
def http(roles: Roles) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=roles.url, timeout=60) as client:
        yield client


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def submit(http: httpx.Client, pictures: ImageServer, collection: str, more: str = "") -> httpx.Response:
    urls = [pictures.url(f"/photo/{number}.jpg?w=48&h=48{more}") for number in range(PICTURES)]
    items = [{"url": url, "key": f"key {number}"} for number, url in enumerate(urls)]
    return http.post("/v1/jobs", json={"items": items, "collection": collection})


def ids_of(http: httpx.Client, collection: str) -> list[str]:
    found = http.get("/v1/search", params={"text": "noise", "collection": collection, "limit": 50})
    assert found.status_code == 200, found.text
    return [hit["id"] for hit in found.json()["results"]]


def thumbnail(http: httpx.Client, collection: str, image_id: str, **headers: str) -> httpx.Response:
    path = f"/v1/images/{image_id}/thumbnail"
    return http.get(path, params={"collection": collection}, headers=headers)


@pytest.fixture
def filled(http: httpx.Client, pictures: ImageServer) -> dict[str, Any]:
    """The job that filled the collection `filled`, made once."""
    if not any(one["name"] == "filled" for one in http.get("/v1/collections").json()["collections"]):
        assert finished(http, submit(http, pictures, "filled"), 200)["counts"]["indexed"] == PICTURES
    (job,) = [one for one in http.get("/v1/jobs").json()["jobs"] if one["collection"] == "filled"][-1:]
    return dict(job)


def test_what_was_sent_is_found_though_workers_are_killed_and_the_api_starts_again(
    roles: Roles, http: httpx.Client, pictures: ImageServer
) -> None:
    answer = submit(http, pictures, "killed", "&ms=100")
    for role in ("fetch", "encode", "index"):
        roles.kill(role)
        roles.start(role)
    roles.restart("api")
    job = finished(http, answer, 200)
    assert (job["status"], job["counts"]["indexed"]) == ("succeeded", PICTURES)
    assert http.get("/v1/collections/killed").json()["count"] == PICTURES
    for image_id in ids_of(http, "killed")[:8]:
        shown = thumbnail(http, "killed", image_id)
        assert (shown.status_code, shown.headers["Content-Type"]) == (200, "image/webp")
        etag = {"If-None-Match": shown.headers["ETag"]}
        assert thumbnail(http, "killed", image_id, **etag).status_code == 304


def test_uploads_are_found_listed_and_deleted(http: httpx.Client) -> None:
    files = [("files", (f"{seed}.png", png(seed))) for seed in range(8)]
    job = finished(http, http.post("/v1/jobs", files=files, data={"collection": "sent"}))
    assert job["counts"]["indexed"] == len(files)
    items = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    assert {item["image_id"] for item in items} == set(ids := ids_of(http, "sent"))
    assert http.delete(f"/v1/images/{ids[0]}", params={"collection": "sent"}).status_code == 204
    assert thumbnail(http, "sent", ids[0]).status_code == 404
    assert http.delete("/v1/collections/sent").status_code == 204
    assert thumbnail(http, "sent", ids[1]).status_code == 404


def test_a_collection_leaves_and_comes_back(filled: dict[str, Any], roles: Roles, http: httpx.Client) -> None:
    export = finished(http, http.post("/v1/collections/filled/export", json={"include": ["thumbnail"]}))
    data = http.get(f"/v1/jobs/{export['job_id']}/export").content
    for name, body in (("copied", {"content": data}), ("again", {"json": {"export": export["job_id"]}})):
        kind = {"Content-Type": "application/vnd.apache.parquet"} if "content" in body else {}
        job = finished(http, http.post(f"/v1/collections/{name}/import", headers=kind, **body))
        assert job["counts"]["indexed"] == PICTURES
        assert thumbnail(http, name, ids_of(http, name)[0]).status_code == 200
    for command in ("verify", "rebuild"):
        done = roles.command(command, "--collection", "copied")
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(ids_of(http, "copied")) <= {*ids_of(http, "filled"), *ids_of(http, "again")}


def test_a_collection_is_encoded_again_with_another_model(
    filled: dict[str, Any], roles: Roles, http: httpx.Client, pictures: ImageServer
) -> None:
    finished(http, submit(http, pictures, "switched"), 200)
    model = str(Path(roles.env["IMAGE_SEARCH_MODELS_FOLDER"]) / "other")
    job = finished(http, http.post("/v1/collections/switched/reindex", json={"model": model}), 200)
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True), job
    assert len(ids_of(http, "switched")) == 50
    assert roles.command("verify", "--collection", "switched").returncode == 0


def test_so_many_requests_are_made_of_the_store(
    filled: dict[str, Any], store: ObjectStore, http: httpx.Client, pictures: ImageServer
) -> None:
    """Of the store's prices and of its time: each is a round trip."""
    chunks = PICTURES // CHUNK_SIZE
    with store.counted() as ingest:
        job = finished(http, submit(http, pictures, "counted"), 200)
    # Two files a picture; of a chunk results, crops and vectors, each written once, the last two read once.
    assert ingest["PUT"] == 2 * PICTURES + 3 * chunks + 1
    assert (ingest["GET"], ingest["DELETE"], ingest["HEAD"]) == (3 * chunks, chunks, 0)
    image_id = ids_of(http, "counted")[0]
    job_url = f"/v1/jobs/{job['job_id']}"
    asked: dict[str, tuple[dict[str, int], httpx.Response]] = {}
    for name, ask in {
        "search": lambda: http.get("/v1/search", params={"text": "noise", "collection": "counted"}),
        "status": lambda: http.get(job_url),
        "items": lambda: http.get(f"{job_url}/items", params={"limit": PICTURES}),
        "thumbnail": lambda: thumbnail(http, "counted", image_id),
        "none": lambda: thumbnail(http, "counted", "0" * 64),
        "delete": lambda: http.delete(f"/v1/images/{image_id}", params={"collection": "counted"}),
    }.items():
        with store.counted() as requests:
            answer = ask()
        asked[name] = ({kind: number for kind, number in requests.items() if kind != "LIST"}, answer)
    assert {name: requests for name, (requests, _) in asked.items()} == {
        "search": {},
        "status": {},
        "items": {"GET": chunks + 1},
        "thumbnail": {"GET": 1},
        "none": {"GET": 1},
        "delete": {"PUT": 1, "POST": 2},
    }
    with store.counted() as removed:
        assert http.delete("/v1/collections/counted").status_code == 204
    assert removed["POST"] + removed["DELETE"] <= 2


def test_a_job_goes_on_after_a_store_that_was_away(
    filled: dict[str, Any], roles: Roles, store: ObjectStore, http: httpx.Client, pictures: ImageServer
) -> None:
    known = ids_of(http, "filled")[0]
    answer = submit(http, pictures, "away", "&ms=1000")
    with store.away():
        refused = thumbnail(http, "filled", known)
        assert (refused.status_code, refused.json()["code"]) == (503, "blobs_unavailable")
        assert refused.json()["detail"] == "The blob store failed: it does not answer."
        eventually(lambda: not http.get("/readyz").json()["blobs"]["ok"])
        assert ids_of(http, "filled")
        eventually(lambda: "chunks_postponed" in roles.logs(), 60)
    job = finished(http, answer, 200)
    assert (job["status"], job["counts"]["indexed"]) == ("succeeded", PICTURES)
    assert thumbnail(http, "filled", known).status_code == 200


def test_a_command_says_what_is_wrong_with_the_store_in_one_line(roles: Roles, store: ObjectStore) -> None:
    assert roles.command("keys", "list").returncode == 0
    with store.checking_keys():
        refused = roles.command("keys", "list")
    assert (refused.returncode, "it denies access; check the credentials" in refused.stderr) == (1, True)
    env = roles.env
    try:
        roles.env = env | {"IMAGE_SEARCH_BLOB_URL": "s3://nobodys/prefix"}
        refused = roles.command("keys", "list")
    finally:
        roles.env = env
    assert (refused.returncode, "there is no such bucket" in refused.stderr) == (1, True)
    assert len(refused.stderr.strip().splitlines()) == 1


def test_no_log_has_the_store_s_secret(filled: dict[str, Any], roles: Roles) -> None:
    assert "chunks_postponed" in roles.logs()
    assert SECRET not in roles.logs()
