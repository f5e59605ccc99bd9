"""Sources by the client, `image-search sync` and `sources`: canned answers."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from image_search import AsyncClient, Client, _core
from image_search._operations import jobs
from image_search.cli import common
from tests.unit.client_server import Server, job, keys, problem

Run = Callable[..., Result]
NOW = "2026-11-24T13:20:51.002Z"
LAST: dict[str, Any] = {
    "job_id": "j0", "status": "partial", "dry_run": False, "started_at": NOW, "finished_at": NOW,
    "counts": {"indexed": 5, "updated": 1, "unchanged": 1965}, "withheld": 12,
    "detail": "12 of 20 would go, which is more than 20 %.",
}  # fmt: skip
SHOP: dict[str, Any] = {
    "name": "shop", "from": "s3://bucket/shop", "collection": "images", "every": "1d",
    "delete_missing": False, "max_delete_share": 0.2, "refetch": "changed", "callback_url": None,
    "url_column": None, "key_column": None, "columns": None, "skip_columns": None, "number_columns": None,
    "created_at": NOW, "next_run_at": NOW, "running_job": None, "last_run": LAST,
}  # fmt: skip
LISTED: dict[str, Any] = {"sources": [SHOP], "next_cursor": None}
UNKNOWN = problem(404, "source_not_found", "There is no source shop.")
GET, PUT, DELETE = (f"{method} /v1/sources/shop" for method in ("GET", "PUT", "DELETE"))
SYNC = "POST /v1/sources/shop/sync"
SYNCED = job("j1", indexed=1) | {"kind": "sync", "name": "shop", "made_of": "shop"}
FOUND: dict[str, Any] = {
    "dry_run": True, "detail": "Nothing was changed. It would be: 1 added.",
    "counts": {"added": 1, "changed": 1, "unchanged": 7, "removed": 1, "withheld": 0},
    "added": [{"source": "https://example.com/new.jpg", "key": "n"}],
    "changed": [{"source": "https://example.com/other.jpg", "key": None}],
    "removed": [{"source": "https://example.com/gone.jpg", "key": "g", "image_id": "a" * 64}],
}  # fmt: skip


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return Client(transport=httpx.MockTransport(server), retries=0)


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server), retries=0))
    return lambda *arguments: CliRunner().invoke(main, [*arguments])


def sent(server: Server, method: str) -> list[dict[str, Any]]:
    """The bodies of the requests of a method."""
    return [json.loads(one.content) for one in server.requests if one.method == method]


def refused(result: Result) -> str:
    """What a command that was not tried says, in one line."""
    assert result.exit_code in (1, 2), result.output
    return " ".join(result.stderr.split())


def test_a_source_is_defined_by_what_is_given(server: Server, client: Client) -> None:
    server.routes[PUT] = (201, SHOP)
    made = client.put_source(
        "shop",
        "s3://bucket/shop",
        every="1d",
        delete_missing=True,
        max_delete_share=0.0,
        columns=["a,b", "c"],
    )
    assert (made.name, made.from_, made.every) == ("shop", "s3://bucket/shop", "1d")
    assert sent(server, "PUT") == [
        {
            "from": "s3://bucket/shop", "every": "1d", "delete_missing": True, "max_delete_share": 0.0,
            "columns": '"a,b",c',
        }
    ]  # fmt: skip


def test_sources_are_looked_at(server: Server, client: Client) -> None:
    pages = [{"sources": [SHOP], "next_cursor": "shop"}, LISTED]
    server.routes |= {"GET /v1/sources": pages, GET: SHOP | {"runs": [LAST]}}
    assert [one.last_run and one.last_run.withheld for one in client.sources()] == [12, 12]
    assert [one.url.params.get("cursor") for one in server.requests] == [None, "shop"]
    assert [one.job_id for one in client.source("shop").runs or ()] == ["j0"]


def test_deleting_a_source_returns_the_job_of_its_images(server: Server, client: Client) -> None:
    server.routes[DELETE] = [httpx.Response(204), (202, SYNCED)]
    assert client.delete_source("shop") is None
    deletion = client.delete_source("shop", images="delete")
    assert deletion is not None
    assert deletion.job_id == "j1"
    assert [one.url.params["images"] for one in server.requests] == ["keep", "delete"]


def test_a_sync_whose_answer_was_lost_is_asked_for_again_under_its_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)
    server.routes[SYNC] = [httpx.ConnectError("gone"), (202, SYNCED)]
    Client(transport=httpx.MockTransport(server)).sync("shop", dry_run=True, max_delete_share=0.5)
    assert sent(server, "POST") == [{"dry_run": True, "max_delete_share": 0.5}] * 2
    assert len(set(keys(server))) == 1


def test_the_asynchronous_client_syncs(server: Server) -> None:
    server.routes |= {SYNC: (202, SYNCED), "GET /v1/sources": LISTED}

    async def both() -> list[str]:
        async with AsyncClient(transport=httpx.MockTransport(server)) as client:
            return [(await client.sync("shop")).job_id, *(one.name for one in await client.sources())]

    assert asyncio.run(both()) == ["j1", "shop"]


def test_a_location_becomes_a_source_that_is_synced(run: Run, server: Server) -> None:
    server.routes |= {GET: UNKNOWN, PUT: (201, SHOP), SYNC: (202, SYNCED), "GET /v1/jobs/j1": SYNCED}
    result = run("sync", "s3://bucket/shop/", "--every", "1d", "--delete-missing", "--wait")
    assert result.exit_code == 0, result.output
    assert sent(server, "PUT") == [{"from": "s3://bucket/shop/", "every": "1d", "delete_missing": True}]
    assert "1 indexed" in result.output


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("https://shop.example.com/feeds/all%20shoes.csv?token=x", "all-shoes.csv"),
        ("https://user:secret@shop.example.com/", "shop.example.com"),
        ("s3://bucket", "bucket"),
        ("file:///pictures/été/", "t"),
        ("file:///pictures/商品", "pictures"),
    ],
)
def test_the_name_is_the_last_part_of_the_location(
    run: Run, server: Server, location: str, name: str
) -> None:
    path, made = f"/v1/sources/{name}", (201, SHOP | {"name": name})
    server.routes |= {f"GET {path}": UNKNOWN, f"PUT {path}": made, f"POST {path}/sync": (202, SYNCED)}
    result = run("sync", location)
    assert result.exit_code == 0, result.output
    assert "image-search status j1 --watch" in result.output


def test_a_source_that_is_there_keeps_what_is_not_said_anew(run: Run, server: Server) -> None:
    server.routes |= {GET: SHOP | {"key_column": "sku"}, PUT: SHOP, SYNC: (202, SYNCED)}
    assert run("sync", "s3://bucket/shop").exit_code == 0
    assert sent(server, "PUT") == []
    assert run("sync", "s3://bucket/shop", "--max-delete-share", "0.5").exit_code == 0
    [changed] = sent(server, "PUT")
    assert (changed["every"], changed["max_delete_share"], changed["key_column"]) == ("1d", 0.5, "sku")
    assert "callback_url" not in changed


def test_a_name_that_is_derived_twice_asks_for_another(run: Run, server: Server) -> None:
    exists = problem(409, "source_exists", "The source shop reads from s3://bucket/shop.")
    server.routes |= {GET: SHOP, PUT: exists}
    assert "--name says what to call it." in refused(run("sync", "https://example.com/shop"))
    said = refused(run("sync", "https://example.com/shop", "--name", "shop"))
    assert said == "Error: The source shop reads from s3://bucket/shop."


def test_a_source_is_synced_by_its_name(run: Run, server: Server) -> None:
    server.routes[SYNC] = (202, SYNCED)
    assert run("sync", "shop", "--max-delete-share", "1").exit_code == 0
    assert sent(server, "POST") == [{"max_delete_share": 1.0}]
    said = refused(run("sync", "shop", "--every", "1d", "--keep-missing"))
    assert "shop is the name of a source, and --every, --delete-missing how one is defined" in said
    assert len(server.requests) == 1


def test_a_sync_that_runs_already_is_an_error(run: Run, server: Server) -> None:
    server.routes[SYNC] = problem(409, "sync_running", "A sync of shop runs: job j0.")
    assert refused(run("sync", "shop")) == "Error: A sync of shop runs: job j0."


@pytest.mark.parametrize("place", ["/pictures", "./shop", "file:/pictures", "~/pictures", "."])
def test_a_path_is_told_that_it_has_to_be_the_server_s(run: Run, server: Server, place: str) -> None:
    said = refused(run("sync", place))
    assert "a folder has to be one of the server's, as file:///" in said
    assert server.requests == []


def test_a_folder_here_that_is_no_source_is_told_so_too(
    run: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path)
    server.routes[SYNC] = UNKNOWN
    assert (tmp_path / "shop").as_uri() in refused(run("sync", "shop"))
    (tmp_path / "shop").rmdir()
    assert refused(run("sync", "shop")) == "Error: There is no source shop."


def test_a_dry_run_is_followed_and_shown(run: Run, server: Server) -> None:
    server.routes |= {GET: SHOP, SYNC: (202, SYNCED), "GET /v1/jobs/j1": SYNCED | {"result": FOUND}}
    result = run("sync", "s3://bucket/shop", "--dry-run")
    assert result.exit_code == 0, result.output
    assert sent(server, "POST") == [{"dry_run": True}]
    assert result.stdout.count("1 added") == 1, "the counts are said once"
    rows = [line.split() for line in result.stdout.splitlines() if "example.com" in line]
    assert rows == [
        ["removed", "g", "https://example.com/gone.jpg"],
        ["added", "n", "https://example.com/new.jpg"],
        ["changed", "https://example.com/other.jpg"],
    ]
    told = json.loads(run("sync", "shop", "--dry-run", "--json").stdout)
    assert told["result"]["counts"] == FOUND["counts"]


def test_a_dry_run_that_would_withhold_exits_with_3(run: Run, server: Server) -> None:
    counts = {**FOUND["counts"], "removed": 0, "withheld": 1}
    done = SYNCED | {"result": FOUND | {"counts": counts, "detail": "1 would not be removed."}}
    server.routes |= {SYNC: (202, SYNCED), "GET /v1/jobs/j1": done}
    result = run("sync", "shop", "--dry-run")
    assert result.exit_code == 3
    assert "1 would not be removed." in result.output
    assert ["withheld", "g", "https://example.com/gone.jpg"] in map(str.split, result.output.splitlines())


def test_a_dry_run_changes_no_definition(run: Run, server: Server) -> None:
    server.routes |= {GET: SHOP, PUT: SHOP}
    said = refused(run("sync", "s3://bucket/shop", "--delete-missing", "--every", "1d", "--dry-run"))
    assert "shop is defined with another --delete-missing, and a dry run changes nothing" in said
    assert sent(server, "PUT") == []


def test_a_dry_run_of_what_is_new_gives_it_no_schedule(run: Run, server: Server) -> None:
    done = SYNCED | {"result": FOUND}
    server.routes |= {GET: UNKNOWN, PUT: (201, SHOP), SYNC: (202, SYNCED), "GET /v1/jobs/j1": done}
    result = run("sync", "s3://bucket/shop", "--every", "1d", "--dry-run")
    assert result.exit_code == 0, result.output
    assert sent(server, "PUT") == [{"from": "s3://bucket/shop", "delete_missing": False}]
    assert "shop gets its schedule, every 1d, by its first sync." in result.output


def test_what_was_withheld_is_told_and_exits_with_3(run: Run, server: Server) -> None:
    note = {"code": "too_many_deletions", "detail": "12 removals were withheld.", "count": 12}
    done = SYNCED | {"status": "partial", "notes": [note]}
    server.routes |= {SYNC: (202, SYNCED), "GET /v1/jobs/j1": done}
    result = run("sync", "shop", "--wait")
    assert result.exit_code == 3
    assert "Note: 12 removals were withheld." in result.output


def test_a_listing_that_broke_off_says_why(run: Run, server: Server) -> None:
    done = job("j1", "failed", total=0) | {"kind": "sync", "result": {"detail": "The feed broke off."}}
    server.routes |= {SYNC: (202, SYNCED), "GET /v1/jobs/j1": done}
    for arguments in (["--wait"], ["--dry-run"]):
        result = run("sync", "shop", *arguments)
        assert result.exit_code == 3
        assert "The feed broke off." in result.output
        assert " 0" not in result.output, "there is no progress to speak of"
    assert "The feed broke off." in run("status", "j1").output


def test_what_a_sync_could_not_fetch_is_for_the_next(run: Run, server: Server) -> None:
    done = SYNCED | job("j1", "partial", total=2, indexed=1, failed=1) | {"kind": "sync", "made_of": "shop"}
    item = {
        "index": 1, "source": "https://example.com/a.jpg", "status": "failed", "code": "timeout",
        "detail": "none in 10 s", "attempts": 4,
    }  # fmt: skip
    server.routes |= {
        SYNC: (202, SYNCED), "GET /v1/jobs/j1": done,
        "GET /v1/jobs/j1/items": {"items": [item], "next_cursor": None},
    }  # fmt: skip
    output = run("sync", "shop", "--wait").output
    assert "The next sync tries them again: image-search sync shop" in output
    assert "image-search retry" not in output


def test_sources_are_listed_and_shown(run: Run, server: Server) -> None:
    server.routes |= {"GET /v1/sources": LISTED, GET: SHOP | {"runs": [LAST], "running_job": "j9"}}
    listed = run("sources", "list")
    assert listed.exit_code == 0, listed.output
    assert "s3://bucket/shop" in listed.output
    assert "5 indexed, 1 updated, 1,965 unchanged, 12 withheld" in listed.output
    shown = run("sources", "show", "shop").output
    assert "image-search status j9 --watch" in shown
    assert "12 of 20 would go" in shown
    assert json.loads(run("sources", "list", "--json").stdout)["sources"][0]["from"] == "s3://bucket/shop"
    assert json.loads(run("sources", "show", "shop", "--json").stdout)["name"] == "shop"


def test_a_source_is_deleted_with_or_without_its_pictures(run: Run, server: Server) -> None:
    done = SYNCED | {"counts": SYNCED["counts"] | {"indexed": 0, "removed": 1}}
    server.routes |= {DELETE: [httpx.Response(204), (202, SYNCED)], "GET /v1/jobs/j1": done}
    assert run("sources", "delete", "shop").output == "shop is deleted.\n"
    result = run("sources", "delete", "shop", "--images", "delete")
    assert result.exit_code == 0, result.output
    assert "1 removed" in result.output
    asked = [one.url.params["images"] for one in server.requests if one.method == "DELETE"]
    assert asked == ["keep", "delete"]
