"""Every process of `up` shows its metrics; started as users do, since the folder has to be there first."""

import os
import signal
import sys
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy import doctor, findings
from deploy.metrics_folder import FOLDER_PREFIX
from deploy.ports import free_port, is_free
from shared.api_keys import SCOPES, create_key
from shared.metrics import exporter
from shared.metrics.definitions import DEFINITIONS
from shared.metrics.ledger import UP
from shared.storage.blobs import Blobs
from tests.image_server import ImageServer
from tests.stack import Stack, eventually, finished

assert exporter, "importing it completes DEFINITIONS"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
HOST = "127.0.0.1"
PORTED = ("fetch", "encode", "index", "sweep")
FETCH_PROCESSES, PICTURES, CHUNK = 2, 24, 4


@pytest.fixture(scope="module")
def port() -> int:
    """The first of four that are free."""
    while True:
        first = free_port()
        if all(is_free(HOST, first + n) for n in range(len(PORTED))):
            return first


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "tmp").mkdir()
    stack = Stack(
        folder, fetch_workers=FETCH_PROCESSES, preloaded=False, CHUNK_SIZE=str(CHUNK), METRICS_PORT=str(port)
    )
    stack.configure_process(TMPDIR=str(folder / "tmp"))
    with stack:
        yield stack
    assert [*(folder / "tmp").glob(f"*{FOLDER_PREFIX}*")] == []


@pytest.fixture(scope="module")
def pages(stack: Stack, port: int) -> dict[str, str]:
    return {"api": f"{stack.url}/metrics"} | {
        role: f"http://{HOST}:{port + n}/metrics" for n, role in enumerate(PORTED)
    }


def families(url: str) -> dict[str, float]:
    """What a page has, by the family's name: the observations of a histogram, the sum of any other."""
    answer = httpx.get(url, timeout=60)
    assert answer.status_code == 200
    return {
        family.name: sum(
            sample.value
            for sample in family.samples
            if family.type != "histogram" or sample.name.endswith("_count")
        )
        for family in text_string_to_metric_families(answer.text)
    }


def downloads(pages: dict[str, str]) -> float:
    return families(pages["fetch"])["image_search_download_seconds"]


def ingest(http: httpx.Client, pictures: ImageServer, first: int) -> None:
    urls = [pictures.url(f"/photo/{first + n}.jpg?w=48&h=48") for n in range(PICTURES)]
    job = finished(http, http.post("/v1/jobs", json={"urls": urls, "collection": "counted"}))
    assert job["counts"]["indexed"] == PICTURES


def test_each_role_shows_its_own_metrics_and_no_other_s(pages: dict[str, str]) -> None:
    for role, url in pages.items():
        shown = families(url)
        own = {one.name.removesuffix("_total") for one in DEFINITIONS if role in one.exporters}
        assert shown.keys() <= own
        assert shown["image_search_build_info"] == 1
        assert (UP.name in shown) == (role in ("api", "sweep"))


def test_the_processes_of_a_pool_are_one_target_which_a_killed_one_takes_no_counts_from(
    stack: Stack, http: httpx.Client, pictures: ImageServer, pages: dict[str, str]
) -> None:
    before = downloads(pages)
    ingest(http, pictures, 0)
    assert downloads(pages) == before + PICTURES
    leader, *pool = stack.processes("fetch")
    assert len(pool) == FETCH_PROCESSES
    for pid in pool:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not {*pool} & {*stack.processes("fetch")})
    assert downloads(pages) == before + PICTURES
    ingest(http, pictures, PICTURES)
    assert downloads(pages) == before + 2 * PICTURES
    assert stack.leader("fetch") == leader
    for role in ("fetch", "encode", "index"):
        eventually(lambda role=role: families(pages[role])["image_search_chunks"] == 2 * PICTURES / CHUNK)


def test_a_worker_that_was_killed_as_a_whole_shows_its_metrics_again(
    stack: Stack, pages: dict[str, str]
) -> None:
    killed = stack.leader("index")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: stack.leader("index") not in (killed, None))

    def shown() -> dict[str, float]:
        try:
            return families(pages["index"])
        except httpx.TransportError:
            return {}

    eventually(lambda: shown().get("image_search_build_info") == 1, 60)


def test_doctor_finds_every_page(stack: Stack, port: int) -> None:
    settings, *_, runs_up = doctor.deployment(stack.data_dir)
    assert (settings.metrics_port, runs_up) == (port, True)
    found = findings.run(doctor._metrics(settings, runs_up))
    assert [(one.subject, one.state) for one in found] == [(f"metrics of {role}", "ok") for role in PORTED]


def test_once_there_are_keys_the_scope_metrics_reads_the_api_s_page_and_nothing_else(
    stack: Stack, pages: dict[str, str]
) -> None:
    blobs = Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"])
    keys = {scope: create_key(blobs, scope, [scope]) for scope in SCOPES}

    def status(url: str, scope: str) -> int:
        return httpx.get(url, headers={"Authorization": f"Bearer {keys[scope]}"}, timeout=60).status_code

    eventually(lambda: httpx.get(pages["api"], timeout=60).status_code == 401)  # it has heard of the keys
    eventually(lambda: status(pages["api"], "metrics") == 200)
    assert {scope: status(pages["api"], scope) for scope in SCOPES} == {
        "search": 403,
        "ingest": 403,
        "metrics": 200,
        "admin": 200,
    }
    others = ("/v1/search?text=x", "/v1/images", "/v1/jobs", "/v1/system", "/v1/collections", "/v1/sources")
    assert {status(stack.url + path, "metrics") for path in others} == {403}
