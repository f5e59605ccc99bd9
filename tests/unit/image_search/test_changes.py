"""Jobs that delete and update, by the client and `image-search delete`, `update`: canned answers."""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from image_search import AsyncClient, Client
from image_search.cli import common
from image_search.models.images import IMAGE_EXAMPLE
from tests.unit.client_server import Server, job, keys, problem

IDS = [f"{number:064x}" for number in range(3)]
DELETE, UPDATE = "POST /v1/images/delete", "POST /v1/images/update"
Run = Callable[..., Result]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server), retries=0))
    return lambda *arguments, **options: CliRunner().invoke(main, [*arguments], **options)


def tried(count: int, state: str = "removed", **more: int) -> dict[str, Any]:
    """A dry run that has ended."""
    result = {
        "dry_run": True,
        "counts": {state: count, "unchanged": 0, "failed": 0, **more},
        "ids": IDS[:count],
    }
    return job("dry", total=count, unchanged=count) | {"result": result}


def body(server: Server, index: int = 0) -> dict[str, Any]:
    asked = [one for one in server.requests if one.method == "POST"]
    found: dict[str, Any] = json.loads(asked[index].content)
    return found


def listed(*ids: str, **more: Any) -> dict[str, Any]:
    return {"images": [{**IMAGE_EXAMPLE, "id": one} for one in ids], "next_cursor": None} | more


def test_a_job_is_made_of_ids_keys_or_filters(server: Server) -> None:
    server.routes[DELETE] = server.routes[UPDATE] = (202, job(status="queued", pending=2))
    with Client("http://server", transport=httpx.MockTransport(server)) as client:
        made = client.delete(IDS[:2], collection="cats", name="old", callback_url="https://x/y")
        client.delete(keys=["a"], dry_run=True)
        client.delete(filters={}, everything=True)
        client.update({"n": 1, "m": None}, filters={"shop": "north"}, idempotency_key="mine")
    assert made.job_id == "j1"
    assert body(server) == {
        "ids": IDS[:2], "collection": "cats", "name": "old", "origin": "client", "callback_url": "https://x/y",
    }  # fmt: skip
    assert body(server, 1) == {"keys": ["a"], "dry_run": True, "origin": "client"}
    assert body(server, 2) == {"filters": {}, "all": True, "origin": "client"}
    assert body(server, 3) == {
        "filters": {"shop": "north"}, "metadata": {"n": 1, "m": None}, "origin": "client",
    }  # fmt: skip
    assert (keys(server)[3], len(set(keys(server)))) == ("mine", 4)


def test_the_async_client_makes_the_same_jobs(server: Server) -> None:
    server.routes[DELETE] = server.routes[UPDATE] = (202, job())

    async def use() -> None:
        async with AsyncClient("http://server", transport=httpx.MockTransport(server)) as client:
            await client.delete(keys=iter(["a", "b"]))
            await client.update({"n": 1}, IDS[0])

    asyncio.run(use())
    assert (body(server)["keys"], body(server, 1)["ids"]) == (["a", "b"], [IDS[0]])


# The commands


def test_pictures_that_match_are_deleted_as_a_job_that_is_followed(run: Run, server: Server) -> None:
    server.routes[DELETE] = (202, job(status="queued", pending=2))
    server.routes["GET /v1/jobs/j1"] = job(removed=2)
    result = run("delete", "--filter", "shop=north", "--filter", "width<500", "-c", "cats", "--yes")
    assert result.exit_code == 0, result.output
    assert "2 removed" in result.output
    assert body(server) == {
        "filters": {"shop": {"eq": "north"}, "width": {"lt": 500}}, "collection": "cats",
        "origin": "command_line",
    }  # fmt: skip


def test_metadata_is_set_and_taken_away(run: Run, server: Server) -> None:
    server.routes[UPDATE] = (202, job(status="queued", pending=2))
    server.routes["GET /v1/jobs/j1"] = job(status="partial", updated=1, failed=1)
    server.routes["GET /v1/jobs/j1/items"] = {"items": [], "next_cursor": None}
    result = run("update", "-k", "sku 1", "-k", "b", "-m", "shop=south", "-m", "n=3", "-r", "old", "--yes")
    assert result.exit_code == 3, result.output
    assert body(server)["metadata"] == {"old": None, "shop": "south", "n": 3}
    assert body(server)["keys"] == ["sku 1", "b"]
    assert run("update", IDS[0], "--yes").exit_code == 2, "nothing to change"


def test_ids_are_read_from_standard_input_and_files(run: Run, server: Server, tmp_path: Path) -> None:
    server.routes[DELETE] = (202, job(status="queued", pending=3))
    (tmp_path / "ids.txt").write_text("\n".join(IDS[1:]))
    result = run("delete", "-", "--ids-file", str(tmp_path / "ids.txt"), "--yes", "--no-wait", input=IDS[0])
    assert (result.exit_code, "status j1 --watch" in result.output) == (0, True), result.output
    assert body(server)["ids"] == IDS
    document = json.loads(run("delete", IDS[0], "--yes", "--no-wait", "--json").stdout)
    assert document["jobs"][0]["job_id"] == "j1"


def test_a_dry_run_shows_what_would_be_deleted(run: Run, server: Server) -> None:
    server.routes[DELETE] = (202, job("dry", status="queued", pending=1))
    server.routes["GET /v1/jobs/dry"] = tried(1, unchanged=2)
    server.routes["GET /v1/images"] = listed(IDS[0])
    result = run("delete", *IDS, "--dry-run")
    assert result.exit_code == 0
    assert IDS[0] in result.output and "1 would be deleted, 2 not there." in result.output
    assert body(server)["dry_run"] is True
    assert json.loads(run("delete", *IDS, "--dry-run", "--json").stdout)["result"]["counts"]["removed"] == 1


def test_a_name_that_no_picture_has_is_said(run: Run, server: Server) -> None:
    unknown = "no picture of this collection has shp; did you mean shop?"
    server.routes[DELETE] = (202, job("dry", total=0))
    server.routes["GET /v1/jobs/dry"] = tried(0)
    server.routes["GET /v1/images"] = listed(warnings=[f"/filters: {unknown}"])
    result = run("delete", "--filter", "shp=north", "--dry-run")
    assert (result.stdout, result.stderr) == ("0 would be deleted.\n", f"Note: {unknown}\n")


class _Terminal:
    """`sys` with a terminal as standard input."""

    def __getattr__(self, name: str) -> Any:
        return self if name == "stdin" else getattr(sys, name)

    def isatty(self) -> bool:
        return True


def test_nothing_is_deleted_where_nobody_can_be_asked_or_says_no(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("delete", IDS[0])
    assert (result.exit_code, server.requests) == (2, [])
    assert "add --yes" in result.stderr
    server.routes[DELETE] = (202, job("dry"))
    server.routes["GET /v1/jobs/dry"] = tried(1)
    server.routes["GET /v1/images"] = listed(IDS[0])
    monkeypatch.setattr("image_search.cli.images.sys", _Terminal())
    result = run("delete", IDS[0], input="n\n")
    assert "Delete 1 picture of the collection images? This cannot be undone." in result.output
    assert result.exit_code == 1
    assert [one["dry_run"] for one in [body(server)]] == [True]
    server.routes[DELETE] = [(202, job("dry")), (202, job())]
    server.routes["GET /v1/jobs/j1"] = job(removed=1, total=1)
    assert "1 removed" in run("delete", IDS[0], input="y\n").output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (IDS[0], "--key", "a"),
        (IDS[0], "--filter", "a=b"),
        ("abc",),
        (IDS[0][:16],),
        ("-",),
        ("--filter", "x"),
    ],
)
def test_what_names_no_pictures_is_a_usage_error(
    run: Run, server: Server, arguments: tuple[str, ...]
) -> None:
    assert (run("delete", *arguments, "--yes").exit_code, server.requests) == (2, [])


def test_all_pictures_go_only_with_all(run: Run, server: Server) -> None:
    said = '`filters` match every picture of the collection, 3: say that this is meant by `"all": true`.'
    server.routes[DELETE] = problem(422, "invalid_request", said)
    result = run("delete", "--filter", "width>=0", "--yes")
    assert (result.exit_code, "meant by --all" in result.stderr) == (1, True), result.stderr
    server.routes[DELETE] = (202, job(total=3, removed=3))
    server.routes["GET /v1/jobs/j1"] = job(total=3, removed=3)
    assert "3 removed" in run("delete", "--all", "--yes").output
    assert (body(server, 1)["filters"], body(server, 1)["all"]) == ({}, True)
