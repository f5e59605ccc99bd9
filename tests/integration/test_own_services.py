"""Nothing that a user may name, a picture or a callback, reaches the stack's own API and Chroma."""

import socket
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.faults.proxy import Proxy
from tests.image_server import ImageServer
from tests.stack import Stack, eventually, finished


@pytest.fixture(params=["api", "chroma"])
def own(request: pytest.FixtureRequest, stack: Stack) -> str:
    return stack.url if request.param == "api" else stack.env["IMAGE_SEARCH_CHROMA_URL"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_callback_to_it_is_refused_at_once(http: httpx.Client, own: str, host: str) -> None:
    url = f"http://{host}:{urlsplit(own).port}/v1/jobs"
    refused = http.post("/v1/jobs", json={"urls": ["http://127.0.0.1:9/"], "callback_url": url})
    assert (refused.status_code, refused.json()["code"]) == (422, "blocked_address")
    (fault,) = refused.json()["errors"]
    assert fault["pointer"] == "/callback_url"
    assert "this service itself" in fault["message"]


def test_a_picture_of_it_is_blocked_also_behind_a_redirect(
    http: httpx.Client, own: str, pictures: ImageServer
) -> None:
    urls = [f"{own}/healthz", pictures.url(f"/redirect-to?url={quote(own)}"), pictures.url("/photo/4711.jpg")]
    job = finished(http, http.post("/v1/jobs", json={"urls": urls, "collection": "own-services"}))
    assert job["counts"]["failed"] == 2
    assert [error["code"] for error in job["errors"]] == ["blocked_address"] * 2
    found = http.post("/v1/search", json={"image_url": urls[1]})
    assert (found.status_code, found.json()["code"]) == (422, "blocked_address")


def test_the_api_refuses_what_came_to_it_in_a_roundabout_way(http: httpx.Client, stack: Stack) -> None:
    """By a proxy whose port nobody can know; without a key, this machine's requests would be served."""
    api = ("127.0.0.1", urlsplit(stack.url).port)
    with Proxy(lambda: socket.create_connection(api)) as proxy:
        round_about = f"http://127.0.0.1:{proxy.port}"
        assert httpx.get(f"{round_about}/healthz").status_code == 200
        fields = {"urls": [f"{round_about}/healthz"], "callback_url": f"{round_about}/v1/jobs"}
        job = finished(http, http.post("/v1/jobs", json=fields))
        (error,) = job["errors"]
        assert (error["code"], error["detail"]) == ("http_status", "403 Forbidden")

        def said() -> bool:
            lines = stack.log("sweep").splitlines()
            return any(job["job_id"] in line and "403" in line for line in lines)

        eventually(said)
