"""`image-search api --processes 2`: the encoder is loaded once, before the fork, and used in both."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api_server import api_server, children
from tests.checkpoints import tiny_checkpoint
from tests.chroma_server import ChromaServer
from tests.stack import eventually

SEARCHES = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    folder = tmp_path_factory.mktemp("processes")
    tiny_checkpoint(folder / "model")
    with ChromaServer(folder / "chroma") as chroma:
        own = {"REDIS_URL": "redis://127.0.0.1:9/0", "CHROMA_URL": chroma.url, "MODEL": str(folder / "model")}
        own |= {"ALLOW_HOSTS": "127.0.0.0/8"}
        with api_server(folder, "--processes", "2", path="/readyz", **own) as (url, pid):
            yield url, pid, folder


def search(url: str, name: str) -> set[int]:
    """The statuses of SEARCHES texts, each over a connection of its own, which either process may take."""

    def status(number: int) -> int:
        text = f"{name} {number}"
        return httpx.get(f"{url}/v1/search", params={"text": text}, timeout=60).status_code

    with ThreadPoolExecutor(8) as clients:
        return set(clients.map(status, range(SEARCHES)))


def counted(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.findall(
        r'^image_search_http_requests_total\{.*"/v1/search",status="200".* ([0-9.e+]+)$', text, re.M
    )
    return sum(map(float, found))


def test_a_scrape_of_one_process_counts_the_requests_of_all(server: tuple[str, int, Path]) -> None:
    url, _, _ = server
    before = counted(url)
    assert search(url, "text") == {200}
    assert [counted(url) for _ in range(8)] == [before + SEARCHES] * 8


def test_it_fetches_nothing_from_the_address_that_it_listens_on(server: tuple[str, int, Path]) -> None:
    url = server[0].replace("127.0.0.1", "127.0.0.2")
    body = {"image_url": f"{url}/icons/icon-512.png"}
    refused = httpx.post(f"{server[0]}/v1/search", json=body, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (422, "blocked_address")
    assert "this service itself" in refused.json()["detail"]


def test_the_model_is_loaded_once_also_for_a_process_that_takes_the_place_of_another(
    server: tuple[str, int, Path],
) -> None:
    url, pid, folder = server
    first = children(pid)
    assert len(first) == 2
    for victim in first:  # so that those that are left answer, and then none of the first
        os.kill(victim, signal.SIGKILL)
        eventually(lambda victim=victim: victim not in children(pid) and len(children(pid)) == 2)
        eventually(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == 200)
        assert search(url, f"after {victim}") == {200}
    assert (folder / "api.log").read_text().count("model loaded") == 1
