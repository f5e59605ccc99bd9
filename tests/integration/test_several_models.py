"""Collections of several models on one stack: filled, searched and switched at the same time."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from image_search import Client
from tests.checkpoints import tiny_checkpoint
from tests.image_server import ImageServer
from tests.integration.conftest import BreakableStack
from tests.searches import Searches, mixed
from tests.services import services_of
from tests.stack import Stack, eventually, finished

PICTURES = 24
FIRST = itertools.count(0, PICTURES)  # each job brings pictures of its own
SPREAD = 8.0  # of the weights, so that vectors differ


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "siglip", shape="tiny siglip", spread=SPREAD)
    tiny_checkpoint(folder / "clip", seed=1)
    return folder


@pytest.fixture(scope="module")
def stack(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"MODELS_FOLDER": str(models), "KEEP": "original", "CHUNK_SIZE": "4", "RATE_LIMIT": "off"}
    with BreakableStack(tmp_path_factory.mktemp("stack"), **settings) as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


def make(http: httpx.Client, name: str, model: Path) -> None:
    answer = http.post("/v1/collections", json={"name": name, "model": str(model)})
    assert answer.status_code == 201, answer.text


def fill(http: httpx.Client, pictures: ImageServer, collection: str) -> httpx.Response:
    first = next(FIRST)
    urls = [pictures.url(f"/photo/{number}.jpg?w=48&h=48") for number in range(first, first + PICTURES)]
    return http.post("/v1/jobs", json={"urls": urls, "collection": collection})


def search(http: httpx.Client, collection: str) -> httpx.Response:
    return http.post("/v1/search", json={"text": "a red car", "collection": collection, "limit": 3})


def answers(http: httpx.Client, collection: str) -> bool:
    found = search(http, collection)
    assert found.status_code in (200, 503), found.text
    return found.status_code == 200 and len(found.json()["results"]) == 3


def is_told_to_wait(answer: httpx.Response) -> bool:
    """Whether a search is refused because the one place for a model is taken; it is not, if it was idle."""
    return (
        answer.status_code == 503
        and "MODELS_LOADED" in answer.json()["detail"]
        and "Retry-After" in answer.headers
    )


def test_collections_of_two_models_are_filled_and_searched_at_the_same_time(
    stack: Stack, http: httpx.Client, pictures: ImageServer, models: Path
) -> None:
    make(http, "of-siglip", models / "siglip")
    jobs = [fill(http, pictures, name) for name in ("of-siglip", "images")]
    for job in jobs:
        assert finished(http, job)["counts"]["indexed"] == PICTURES
    for name in ("of-siglip", "images"):
        eventually(lambda name=name: answers(http, name))
    services = services_of(stack)
    assert not mixed(services, "of-siglip")
    assert not mixed(services, "images")


def test_a_reindex_leaves_no_search_without_an_answer_and_what_comes_meanwhile_is_its_models(
    stack: Stack, http: httpx.Client, pictures: ImageServer, models: Path
) -> None:
    assert finished(http, fill(http, pictures, "switched"))["counts"]["indexed"] == PICTURES
    first = former = http.get("/v1/collections/switched").json()["model"]
    # One step back works the same way.
    for model, count in ((str(models / "siglip"), 4 * PICTURES), (first, 7 * PICTURES)):
        with Searches(stack.url, "switched") as searches:
            switch = http.post("/v1/collections/switched/reindex", json={"model": model})
            added = [fill(http, pictures, "switched") for _ in range(2)]
            job = finished(http, switch)
            added.append(fill(http, pictures, "switched"))
            filled = [finished(http, one)["counts"] for one in added]
        assert job["result"] and job["result"]["switched"], job
        assert searches.statuses.keys() == {200}, (searches.statuses, searches.others)
        assert set(searches.models) == {Path(model).name, Path(former).name}
        former = model
        assert all(counts["failed"] == 0 for counts in filled)
        assert http.get("/v1/collections/switched").json()["count"] == count
        assert not mixed(services_of(stack), "switched")


def test_with_one_place_busy_collections_take_turns_and_one_without_its_model_says_so(
    stack: Stack, pictures: ImageServer, models: Path
) -> None:
    stack.stop()
    stack.configure(MODELS_LOADED="1")
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        with Searches(stack.url, "images", per_second=5) as busy:
            jobs = [fill(http, pictures, name) for name in ("of-siglip", "images")]
            eventually(lambda: is_told_to_wait(search(http, "of-siglip")), 60)
            eventually(lambda: answers(http, "of-siglip"), 120)
            for job in jobs:
                assert finished(http, job)["counts"]["indexed"] == PICTURES
        assert busy.statuses.keys() <= {200, 503}, busy.others
        eventually(lambda: answers(http, "images"), 120)
    services = services_of(stack)
    assert not mixed(services, "of-siglip")
    assert not mixed(services, "images")

    shutil.move(models / "siglip", models / "away")
    stack.stop()
    stack.configure(MODELS_LOADED="2")
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        eventually(lambda: search(http, "of-siglip").json().get("code") == "model_unavailable", 60)
        assert "siglip" in search(http, "of-siglip").json()["detail"]
        eventually(lambda: answers(http, "images"), 60)
        with Client(stack.url) as client:
            waits = fill(http, pictures, "of-siglip").json()["job_id"]
            goes_on = finished(http, fill(http, pictures, "images"))
            assert goes_on["counts"]["indexed"] == PICTURES
            assert client.job(waits).counts["failed"] == 0
            shutil.move(models / "away", models / "siglip")
            assert client.wait(waits).counts["indexed"] == PICTURES
