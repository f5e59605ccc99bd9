"""Search by words, with the model that the package carries and drawings of a style it never saw."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.ports import free_port
from examples.demo.pictures import Pictures, serving
from shared.embedding.checkpoint_files import STARTER
from tests.stack import Stack, finished

GROUPS = {"food", "animals", "transport"}
COLLECTION = "words"


@pytest.fixture(scope="module")
def http(starter_stack: Stack, drawings: Pictures) -> Iterator[httpx.Client]:
    """Asks for OpenMoji's food, animals and vehicles."""
    chosen = {name: tags for name, tags in drawings.metadata.items() if tags["group"] in GROUPS}
    with (
        httpx.Client(base_url=starter_stack.url, timeout=60) as client,
        serving(drawings.folder, free_port()) as address,
    ):
        items = Pictures(drawings.folder, chosen).items(address)
        job = finished(client, client.post("/v1/jobs", json={"items": items, "collection": COLLECTION}))
        assert job["counts"]["indexed"] == len(items)
        yield client


def search(http: httpx.Client, **query: Any) -> httpx.Response:
    return http.post("/v1/search", json={"collection": COLLECTION, **query})


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["metadata"]["name"] for hit in answer.json()["results"]]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("elephant", {"elephant"}),
        ("pizza", {"slice of pizza"}),
        ("a red car", {"automobile", "oncoming automobile"}),
        ("bicycle", {"bicycle"}),
        ("a strawberry", {"strawberry"}),
    ],
)
def test_words_find_what_a_person_would_point_at(http: httpx.Client, words: str, wanted: set[str]) -> None:
    assert wanted & set(names(search(http, text=words, limit=5)))


def test_a_negative_text_pushes_down_what_it_names(http: httpx.Client) -> None:
    plain = names(search(http, text="a boat", limit=200))
    pushed = names(search(http, text="a boat", limit=200, negative=[{"text": "a ship"}]))
    assert plain.index("ship") < 3
    assert pushed.index("ship") > plain.index("ship")


@pytest.mark.parametrize("words", ["слон", "大象", "فيل", "🐘", "\u0000", "a" * 1000])
def test_any_script_gets_an_answer(http: httpx.Client, words: str) -> None:
    query = {"text": words, "collection": COLLECTION}
    assert http.get("/v1/search", params=query).status_code == 200


def test_a_text_longer_than_the_model_reads_is_cut_off_and_the_answer_says_so(http: httpx.Client) -> None:
    short = search(http, text="an elephant").json()
    long = search(http, text="an elephant " * 40).json()
    assert "warnings" not in short
    assert "left out" in long["warnings"][0]


@pytest.mark.parametrize("words", ["", "   "])
def test_an_empty_text_is_refused(http: httpx.Client, words: str) -> None:
    answer = search(http, text=words)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_answer_names_the_model(http: httpx.Client) -> None:
    assert search(http, text="car").json()["model"] == STARTER
    assert http.get(f"/v1/collections/{COLLECTION}").json()["model"] == STARTER
