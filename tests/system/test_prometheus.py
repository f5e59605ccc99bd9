"""Real Prometheus beside a real stack: it takes each page, each query has an answer, each alert its tests."""

import math
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.ports import free_port, http_status, is_free
from shared.api_keys import create_key
from shared.storage.blobs import Blobs
from tests.image_server import ImageServer
from tests.observing import ALERTS, ALERTS_TEST, alerts, queries
from tests.stack import ROOT, Stack, eventually, finished
from tests.system import programs

JOB = "image-search"  # the only one, of all roles
OF_GPU = "image_search_gpu_memory_bytes"


@pytest.fixture(scope="module")
def first_port() -> int:
    """A port that is free with the three after it: fetch, encode, index and sweep."""
    while True:
        found = free_port()
        if found < 65_530 and all(is_free("127.0.0.1", found + further) for further in range(4)):
            return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, first_port: int) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("observed")
    with Stack(folder, preloaded=False, METRICS_PORT=str(first_port), CHUNK_SIZE="4") as running:
        yield running


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client with a key: from here on /metrics wants one too."""
    key = create_key(Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"]), "me", ["search", "ingest"])
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
        eventually(lambda: client.get("/v1/jobs").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def scraper(http: httpx.Client, stack: Stack) -> dict[str, str]:
    """The headers of Prometheus' requests."""
    key = create_key(Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"]), "prometheus", ["metrics"])
    headers = {"Authorization": f"Bearer {key}"}
    eventually(lambda: httpx.get(f"{stack.url}/metrics", headers=headers).status_code == 200)
    return headers


@pytest.fixture(scope="module")
def targets(stack: Stack, first_port: int) -> list[str]:
    return [stack.url.removeprefix("http://"), *(f"127.0.0.1:{first_port + further}" for further in range(4))]


@pytest.fixture(scope="module")
def prometheus(
    targets: list[str], scraper: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a Prometheus that scrapes the stack and has the alerts."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "key").write_text(scraper["Authorization"].removeprefix("Bearer "), encoding="utf-8")
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scraped = documented(targets, folder / "key")
    configuration = {"global": every, "rule_files": [str(ALERTS)], "scrape_configs": scraped}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "web.listen-address": address}
    command = [program("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--log.level=warn"], cwd=folder, stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or http_status(f"http://{address}/-/ready") == 200)
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def documented(targets: list[str], key: Path) -> list[dict[str, Any]]:
    """What docs/deployment.md has Prometheus scrape, with addresses and a key of our own."""
    text = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n# prometheus.yml\n(scrape_configs:.*?)^```", text, re.M | re.S)
    api, workers = yaml.safe_load(shown)["scrape_configs"]
    api["authorization"]["credentials_file"] = str(key)
    (api["static_configs"][0]["targets"], workers["static_configs"][0]["targets"]) = targets[:1], targets[1:]
    return [api, workers]


def program(name: str) -> str:
    found = programs.find(name)
    assert found, "make test-system installs it"
    return found


def promtool(*arguments: str, given: bytes | None = None) -> tuple[int, str]:
    """The exit status and the output of promtool."""
    command = [program("promtool"), *arguments]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, input=given, timeout=60, check=False, cwd=ALERTS.parent, **out)
    return done.returncode, done.stdout.decode()


def work(http: httpx.Client, images: ImageServer, seed: int) -> None:
    """A job, of which one item fails, and searches by text, a known one too, and by a picture."""
    urls = [images.url(f"/photo/{seed + number}.jpg?w=64&h=48") for number in range(12)]
    job = finished(http, http.post("/v1/jobs", json={"urls": [*urls, images.url("/status/404")]}))
    assert (job["counts"]["indexed"], job["counts"]["failed"]) == (12, 1)
    texts = [{"text": f"a photo of {seed}"}] * 2
    found = [http.post("/v1/search", json=query) for query in texts]
    of_picture = {"image_id": found[0].json()["results"][0]["id"]}
    found.append(http.post("/v1/search", json=of_picture))
    assert [one.status_code for one in found] == [200, 200, 200]


def answer(prometheus: httpx.Client, query: str) -> dict[str, float]:
    """What a query of the dashboard brings now, by labels; refused ones raise."""
    asked = query.replace("$__rate_interval", "2m").replace("$job", JOB)
    found = prometheus.get("/query", params={"query": asked}).json()
    assert found["status"] == "success", found
    return {
        ", ".join(f"{name}={value}" for name, value in one["metric"].items()): float(one["value"][1])
        for one in found["data"]["result"]
    }


def test_promtool_takes_the_alerts() -> None:
    assert promtool("check", "rules", str(ALERTS))[0] == 0


def test_each_alert_fires_and_does_not_as_its_tests_say() -> None:
    status, told = promtool("test", "rules", str(ALERTS_TEST))
    assert status == 0, told


def test_promtool_finds_no_fault_with_any_process_s_page(targets: list[str], scraper: dict[str, str]) -> None:
    for target in targets:
        page = httpx.get(f"http://{target}/metrics", headers=scraper)
        assert b"image_search_build_info" in page.content
        assert promtool("check", "metrics", given=page.content) == (0, ""), target


def test_each_query_of_the_dashboard_has_an_answer(http: httpx.Client, prometheus: httpx.Client) -> None:
    def scraped_since(moment: float) -> bool:
        return answer(prometheus, f"sum(timestamp(up == 1) > bool {moment})") == {"": 5}

    def without_a_number() -> set[str]:
        found = {query: answer(prometheus, query) for _, query in queries() if not has_number(query)}
        answers.update(found)
        return {query for query in answers if not has_number(query)}

    def has_number(query: str) -> bool:
        return not all(map(math.isnan, answers.get(query, {}).values()))

    answers: dict[str, dict[str, float]] = {}
    with ImageServer() as images:
        work(http, images, 0)  # from now on each series is there
        worked = time.time()
        eventually(lambda: scraped_since(worked))
        work(http, images, 100)  # which is what rates see
    try:
        eventually(lambda: all(OF_GPU in query for query in without_a_number()))
    finally:
        for title, query in queries():
            print(f"{title}: {query}\n    {answers.get(query)}")


def test_no_alert_fires_of_a_deployment_at_work(http: httpx.Client, prometheus: httpx.Client) -> None:
    def rules() -> list[dict[str, Any]]:
        (group,) = prometheus.get("/rules").json()["data"]["groups"]
        found: list[dict[str, Any]] = group["rules"]
        return found

    eventually(lambda: {one["health"] for one in rules()} == {"ok"})
    eventually(lambda: {one["state"] for one in rules()} == {"inactive"})
    assert [one["name"] for one in rules()] == [one["alert"] for one in alerts()]
