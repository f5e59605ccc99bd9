"""Deleting images one after another with the client, against a server of canned answers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from image_search import ApiError, AsyncClient, Client, _core
from image_search._operations import images
from image_search.models.images import IMAGE_EXAMPLE
from tests.unit.client_server import Server, problem

IDS = [f"{number:064x}" for number in range(3)]
GONE = problem(404, "image_not_found", "There is no such image.")
BUSY = httpx.Response(
    503, headers={"Retry-After": "7"}, json=problem(503, "index_unavailable", "It is being written to.")[1]
)
DELETED = (204, None)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.fixture
def server(pauses: list[float]) -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client("http://server", transport=httpx.MockTransport(server), retries=1) as client:
        yield client


def listed(*ids: str, more: str | None = None) -> dict[str, Any]:
    return {"images": [{**IMAGE_EXAMPLE, "id": one} for one in ids], "next_cursor": more}


def asked(server: Server) -> list[str]:
    return [f"{one.method} {one.url.path.removeprefix('/v1/images').lstrip('/')}" for one in server.requests]


def filters_of(request: httpx.Request) -> Any:
    return json.loads(request.url.params["filters"])


def path(image_id: str) -> str:
    return f"DELETE /v1/images/{image_id}"


def test_what_is_gone_already_is_no_error_and_a_busy_server_is_waited_for(
    server: Server, client: Client, pauses: list[float]
) -> None:
    server.routes |= {path(IDS[0]): DELETED, path(IDS[1]): GONE, path(IDS[2]): [BUSY, BUSY, BUSY, DELETED]}
    told: list[int] = []
    result = client.delete_images([*IDS, IDS[0]], collection="cats", on_done=told.append)
    assert (result.deleted, result.gone, result.failed) == ([IDS[0], IDS[2]], [IDS[1]], {})
    assert told == [1, 2, 3]
    assert pauses == [7.0, 7.0, 7.0], "as long as the server asks for, also past the retries"
    assert {one.url.params["collection"] for one in server.requests} == {"cats"}


def test_one_that_fails_does_not_stop_the_others(server: Server, client: Client) -> None:
    broken = problem(500, "internal", "An error of ours.")
    server.routes |= {path(IDS[0]): DELETED, path(IDS[1]): broken, path(IDS[2]): DELETED}
    result = client.delete_images(IDS)
    assert result.deleted == [IDS[0], IDS[2]]
    assert {name: error.code for name, error in result.failed.items()} == {IDS[1]: "internal"}


def test_what_is_wrong_for_all_is_asked_for_once(server: Server, client: Client) -> None:
    refused = problem(403, "forbidden", "This API key lacks the scope `ingest`.")
    server.routes |= {path(one): refused for one in IDS}
    with pytest.raises(ApiError, match="lacks the scope"):
        client.delete_images(IDS)
    assert len(server.requests) == 1
    server.routes[path(IDS[0])] = DELETED
    result = client.delete_images(IDS)
    assert (result.deleted, [*result.failed]) == ([IDS[0]], IDS[1:])
    assert asked(server)[1:] == [f"DELETE {IDS[0]}", f"DELETE {IDS[1]}"]


def test_a_server_that_stays_away_is_given_up(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PATIENCE_SECONDS", 0.0)
    server.routes |= {path(IDS[0]): DELETED, path(IDS[1]): httpx.ConnectError("refused")}
    result = client.delete_images(IDS)
    assert (result.deleted, [*result.failed]) == ([IDS[0]], IDS[1:])


def test_what_matches_filters_is_deleted_by_pages(server: Server, client: Client) -> None:
    server.routes["GET /v1/images"] = [listed(IDS[0], IDS[1], more=IDS[1]), listed(IDS[2]), listed("f" * 64)]
    server.routes |= {path(one): DELETED for one in IDS}
    assert client.delete_images(filters={"shop": "north"}).deleted == IDS
    first, second, others = server.requests[:3]
    assert (filters_of(first), second.url.params["cursor"]) == ({"shop": "north"}, IDS[1])
    assert filters_of(others) == {"not": {"shop": "north"}}


@pytest.mark.parametrize("filters", [{"width": {"gte": 0}}, {}])
def test_filters_that_match_everything_have_to_say_so(
    server: Server, client: Client, filters: dict[str, Any]
) -> None:
    server.routes["GET /v1/images"] = [listed(*IDS), listed()]
    with pytest.raises(ApiError, match=r"every picture of the collection, 3: .*--all") as raised:
        client.delete_images(filters=filters)
    assert raised.value.code == "invalid_request"
    server.routes["GET /v1/images"] = listed(*IDS)
    server.routes |= {path(one): DELETED for one in IDS}
    assert client.delete_images(filters=filters, everything=True).deleted == IDS


def test_a_dry_run_deletes_nothing_and_says_what_is_not_there(server: Server, client: Client) -> None:
    server.routes["GET /v1/images"] = listed(IDS[1])
    result = client.delete_images(IDS, dry_run=True)
    assert (result.deleted, result.gone) == ([IDS[1]], [IDS[0], IDS[2]])
    any_image = {"nsfw": {"ne": -1}}  # also those that NSFW_MAX hides
    assert filters_of(server.requests[0]) == {"id": {"in": IDS}, **any_image}
    server.routes["GET /v1/images"] = [listed(IDS[0]), listed()]
    result = client.delete_images(keys=["a", "b"], dry_run=True)
    assert (result.deleted, result.gone) == (["a"], ["b"])
    assert {one.method for one in server.requests} == {"GET"}


def test_images_are_named_in_one_way(server: Server, client: Client) -> None:
    for named in ({}, {"image_ids": IDS, "keys": ["a"]}, {"keys": ["a"], "filters": {}}):
        with pytest.raises(ApiError, match="one of the three"):
            client.delete_images(**named)
    assert client.delete_images([]).deleted == []
    assert not server.requests


def test_the_async_client_deletes_in_the_same_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    server.routes |= {path(IDS[0]): [httpx.ConnectError("refused"), DELETED], path(IDS[1]): GONE}

    async def use() -> list[list[str]]:
        async with AsyncClient("http://server", transport=httpx.MockTransport(server)) as client:
            result = await client.delete_images(IDS[:2])
            return [result.deleted, result.gone]

    assert asyncio.run(use()) == [IDS[:1], IDS[1:2]]
