"""Another user of this machine, or a page in a browser on it: knows Chroma's port and every route of it."""

import io
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import product
from uuid import uuid4

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.stack import Stack, finished

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
WHERE = {"collection": "watched"}
TENANTS = ["default_tenant", "default", "image-search", "*", "%25", "' OR 1=1 --", "%00"]
DATABASES = ["default_database", "*"]
# What any route may want; none minds what it does not know.
BODY = {
    "name": "mine",
    "new_name": "mine",
    "resource_name": "mine",
    "get_or_create": True,
    "ids": ["mine"],
    "embeddings": [[1.0, 0.0]],
    "query_embeddings": [[1.0, 0.0]],
    "metadatas": [{"mine": ["list"]}],
    "searches": [{}],
    "where": {},
}


@pytest.fixture(scope="module")
def pictures(stack: Stack) -> list[str]:
    """The ids of some pictures in the index."""
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        small = np.random.default_rng(17).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
        files = []
        for number, pixels in enumerate(small):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            files.append(("files", (f"{number}.png", buffer.getvalue())))
        assert finished(http, http.post("/v1/jobs", files=files, data=WHERE))["counts"]["indexed"] == 3
        return [image["id"] for image in http.get("/v1/images", params=WHERE).json()["images"]]


@pytest.fixture
def chroma(stack: Stack) -> Iterator[httpx.Client]:
    """As a page of a site sends it whose name was made to lead here."""
    headers = {"Host": "elsewhere.example", "Origin": "http://elsewhere.example"}
    with httpx.Client(base_url=stack.env["IMAGE_SEARCH_CHROMA_URL"], timeout=30, headers=headers) as client:
        yield client


def held(stack: Stack, *columns: str) -> dict[str, list[str]]:
    """What is in Chroma's file, which nobody but its owner can read."""
    path = f"file:{stack.data_dir}/chroma/chroma.sqlite3?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=30)) as file:
        read = {column: file.execute("SELECT {1} FROM {0}".format(*column.split("."))) for column in columns}
        return {column: sorted(value for (value,) in rows) for column, rows in read.items()}


def every_call(chroma: httpx.Client) -> Iterator[tuple[str, httpx.Response]]:
    """Asks each route, as the server's own document has it, with whatever a stranger may guess."""
    guesses = {
        "{tenant}": TENANTS,
        "{tenant_name}": TENANTS,
        "{database}": DATABASES,
        "{collection_id}": ["image-search-registry", str(uuid4())],
        "{crn}": ["default_tenant:default_database:image-search-registry"],
    }
    for path, methods in chroma.get("/openapi.json").json()["paths"].items():
        used = [name for name in guesses if name in path]
        for values in product(*(guesses[name] for name in used)):
            filled = path
            for name, value in zip(used, values, strict=True):
                filled = filled.replace(name, value)
            for method in methods:
                with suppress(
                    httpx.RemoteProtocolError
                ):  # what Chroma has not implemented ends the connection
                    yield filled, chroma.request(method, filled, json=BODY if method != "get" else None)


def test_gets_and_changes_nothing_on_any_route(
    stack: Stack, chroma: httpx.Client, pictures: list[str]
) -> None:
    columns = ("tenants.id", "databases.id", "collections.id", "collections.name", "embeddings.embedding_id")
    before = held(stack, *columns)
    tenant = stack.env["IMAGE_SEARCH_CHROMA_TENANT"]
    assert tenant in before["tenants.id"]
    assert set(pictures) <= set(before["embeddings.embedding_id"])
    secrets = {tenant, *before["collections.id"], *before["collections.name"], *pictures}
    calls = list(every_call(chroma))
    assert len(calls) > 400
    told = [
        (answer.request.method, path)
        for path, answer in calls
        if any(secret in answer.text and secret not in path for secret in secrets)
    ]
    assert told == []
    assert held(stack, *columns) == before
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        assert [image["id"] for image in http.get("/v1/images", params=WHERE).json()["images"]] == pictures


@pytest.mark.parametrize("path", ["tenants", "tenants/default_tenant/databases"])
def test_makes_nothing_beside_what_is_there(chroma: httpx.Client, path: str) -> None:
    answer = chroma.post(f"/api/v2/{path}", json={"name": "theirs"})
    assert "image-search lets nobody add" in answer.json()["message"]
