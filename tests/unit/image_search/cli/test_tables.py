"""What people see: the tables of the commands, at a fixed width."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from click.testing import CliRunner

from api.http import auth
from deploy.cli import main
from image_search import Client
from image_search.cli import common
from image_search.cli.errors import as_options
from image_search.models.error_codes import CAUSES
from tests.unit.client_server import Server, job

WIDTH = 100
ID = "9b1c" * 16
OTHER_ID = "0f3a" * 16
Run = Callable[..., str]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command's output, without the blanks that fill its lines."""
    monkeypatch.setattr(common, "PIPE_COLUMNS", WIDTH)
    monkeypatch.setattr(common, "Client", partial(Client, transport=httpx.MockTransport(server)))

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return "\n".join(line.rstrip() for line in result.output.splitlines()).strip()

    return invoke


def table(text: str) -> str:
    return dedent(text).strip()


def test_jobs(run: Run, server: Server) -> None:
    jobs = [
        job("4f0c2b7d9e81a6c35b0f1d24", "running", 12_345, pending=2345, indexed=10_000)
        | {"name": "trip", "origin": "command_line", "made_of": "folder", "group": "a1-0", "parts": 13},
        job("77aa2b7d9e81a6c35b0f1d25", "partial", 10, indexed=8, failed=2),
    ]
    server.routes["GET /v1/jobs"] = [{"jobs": jobs, "next_cursor": None}, {"jobs": [], "next_cursor": None}]
    assert run("jobs") == table(
        """
        job                       kind    status   collection   total  done  failed  created (UTC)
        4f0c2b7d9e81a6c35b0f1d24  ingest  running  images      12,345   81%       0  2026-01-01 00:00
        trip
        folder, command line, 13
        jobs: --group a1-0
        77aa2b7d9e81a6c35b0f1d25  ingest  partial  images          10  100%       2  2026-01-01 00:00
        """
    )
    assert dict(server.requests[-1].url.params) == {"limit": "20", "grouped": "true"}
    assert run("jobs", "--collection", "cats", "--group", "a1-0") == "There are no jobs."
    assert dict(server.requests[-1].url.params) == {"limit": "20", "collection": "cats", "group": "a1-0"}


def test_no_word_of_jobs_is_folded_on_a_usual_terminal(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job("4f0c2b7d9e81a6c35b0f1d24", "succeeded", 12_345, indexed=12_345) | {"collection": "holidays"}
    server.routes["GET /v1/jobs"] = {"jobs": [one], "next_cursor": None}
    monkeypatch.setattr(common, "PIPE_COLUMNS", 80)
    assert run("jobs") == table(
        """
        job                       status     collection   total  done  failed
        4f0c2b7d9e81a6c35b0f1d24  succeeded  holidays    12,345  100%       0
        ingest, 2026-01-01 00:00
        """
    )


def test_a_job_with_failures(run: Run, server: Server) -> None:
    failed = {"source": "https://example.com/" + "long-" * 12 + "name.jpg", "status": "failed"}
    server.routes["GET /v1/jobs/j1"] = job("j1", "partial", 40, indexed=10, duplicate=5, failed=25) | {
        "failures": [
            {"code": "http_status", "count": 20, "worth_retrying": 4},
            {"code": "too_many_pixels", "count": 5, "worth_retrying": 0},
        ]
    }
    server.routes["GET /v1/jobs/j1/items"] = {
        "items": [
            {**failed, "index": 7, "code": "http_status", "detail": "404 Not Found"},
            {"source": "http://x/8", "status": "failed", "index": 8, "code": "http_status", "detail": "503"},
            {
                **failed,
                "index": 1234,
                "code": "too_many_pixels",
                "detail": "It has 90,000,000 pixels.",
            },
        ],
        "next_cursor": "8",
    }
    advice = {code: f"{known.cause} {known.next_step}" for code, known in CAUSES.items()}
    assert run("status", "j1") == table(
        """
        Job j1: partial, 100% of 40. 10 indexed, 5 duplicate, 25 failed
        Worth retrying: 4
        item  source      code         why
           8  http://x/8  http_status  503
        Permanent: 21
        item  source                                              code             why
           7  https://example.com/long-long-long-long-long-long-  http_status      404 Not Found
              long-long-long-long-long-long-name.jpg
        1234  https://example.com/long-long-long-long-long-long-  too_many_pixels  It has 90,000,000 pixels.
              long-long-long-long-long-long-name.jpg
        5 more: GET /v1/jobs/j1/items?status=failed
        http_status: {http_status}
        too_many_pixels: {too_many_pixels}
        Try them again: image-search retry j1 (4 of 25 are worth it)
        """
    ).format(**advice)


def test_a_preview_of_a_table(run: Run, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text("anything", encoding="utf-8")
    row = {"url": "https://example.com/1.jpg", "key": "007", "metadata": {"Product_Name": "Boot", "n": 9.5}}
    answer: dict[str, object] = {
        "kind": "csv",
        "columns": [
            {"name": "URL ", "metadata_name": None, "use": "url", "type": "text"},
            {"name": "sku", "metadata_name": None, "use": "key", "type": "text"},
            {"name": "Product Name", "metadata_name": "Product_Name", "use": "metadata", "type": "text"},
            {"name": "Unnamed: 0", "metadata_name": None, "use": "left_out", "type": None},
        ],
        "rows": [
            row | {"error": None},
            {"url": "", "key": None, "metadata": {}, "error": "invalid_url: The URL is empty."},
        ],
        "notes": [{"code": "column_renamed", "detail": "`Product Name` is `Product_Name`.", "count": 1}],
        "total": 1234,
        "partial": False,
    }
    server.routes["POST /v1/jobs"] = [answer, answer | {"partial": True}, answer]
    told = table(
        """
        {path}: csv, 1,234 rows
        column        becomes       type
        URL           the URL       text
        sku           the key       text
        Product Name  Product_Name  text
        Unnamed: 0    nothing
        url                        key  metadata
        https://example.com/1.jpg  007  {{"Product_Name": "Boot", "n": 9.5}}
                                        invalid_url: The URL is empty.
        Note: `Product Name` is `Product_Name`.
        """
    ).format(path=path)
    assert run("ingest", str(path), "--preview") == told
    assert run("ingest", str(path), "--preview", "--key-column", "sku").splitlines() == [
        f"{path}: csv, the first 1,234 rows",
        *told.splitlines()[1:],
        "This is of its first MiB: further rows may make a column of numbers one of text.",
    ]
    assert server.requests[1].url.params["key_column"] == "sku"
    assert json.loads(run("ingest", str(path), "--preview", "--json")) == {"tables": {str(path): answer}}
    assert "--preview is for tables" in run("ingest", "http://x/a", "--preview")
    assert len(server.requests) == 3


def test_options_are_named_as_the_command_line_does() -> None:
    said = "`url_column`, which `columns` names; it has `columns`. `number_columns` takes it"
    assert (
        as_options(said) == "--url-column, which --columns names; it has `columns`. --number-columns takes it"
    )


def test_search_results(run: Run, server: Server) -> None:
    hit = {"width": 640, "height": 480, "thumbnail_url": "/x"}
    server.routes["POST /v1/search"] = {
        "results": [
            {**hit, "id": ID, "score": 0.31234, "source": "https://example.com/a.jpg", "metadata": {}},
            {**hit, "id": OTHER_ID, "score": -0.02, "source": "trip/[b] \x1b[31mé.jpg", "metadata": {"n": 1}},
        ],
        "took_ms": {"encode": 1.0, "index": 2.0, "total": 3.0},
        "model": "m",
        "warnings": ["/text: the end was left out"],
    }  # fmt: skip
    assert run("search", "a red car") == table(
        """
        Note: /text: the end was left out
        #    score  picture
        1   0.3123  https://example.com/a.jpg
                    9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c
        2  -0.0200  trip/[b] \\x1b[31mé.jpg
                    0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a
        """
    )


def test_search_results_with_words_for_how_well_they_match(run: Run, server: Server) -> None:
    hit = {"width": 640, "height": 480, "thumbnail_url": "/x", "metadata": {}}
    likely = {**hit, "id": ID, "score": 0.31234, "source": "a.jpg", "confidence": 0.97, "strength": "likely"}
    weak = {**hit, "id": OTHER_ID, "score": 0.2, "source": "b.jpg", "confidence": 0.1, "strength": "weak"}
    answer = {"took_ms": {"encode": 1.0, "index": 2.0, "total": 3.0}, "model": "m"}
    server.routes["POST /v1/search"] = [answer | {"results": [likely, weak]}, answer | {"results": [weak]}]
    assert run("search", "a red car") == table(
        """
        #   score  strength  picture
        1  0.3123  likely    a.jpg
                             9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c
        2  0.2000  weak      b.jpg
                             0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a
        """
    )
    assert run("search", "asdfghjkl") == table(
        """
        Nothing surely fits; the nearest are:
        #   score  strength  picture
        1  0.2000  weak      b.jpg
                             0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a
        """
    )


def test_near_duplicates(run: Run, server: Server) -> None:
    one = {
        "distance": 0, "thumbnail_url": "/x", "width": 3024, "height": 4032,
        "created_at": "2026-11-24T13:20:53.120Z",
    }  # fmt: skip
    group = [
        {**one, "id": ID, "score": 1.0, "source": "a.jpg", "bytes": 2_481_193},
        {**one, "id": OTHER_ID, "score": 0.9893, "source": "b.jpg", "bytes": 143_021},
    ]
    server.routes["GET /v1/duplicates"] = {
        "groups": [{"keeper": ID, "count": 2, "images": group}],
        "total": 3, "compared": 1000, "not_compared": 4, "next_cursor": None,
    }  # fmt: skip
    assert run("duplicates") == table(
        """
        group             size      bytes   score  picture
            1  keep  3024x4032  2,481,193  1.0000  a.jpg
                                                   9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9b1c9
                                                   b1c9b1c
            1        3024x4032    143,021  0.9893  b.jpg
                                                   0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0f3a0
                                                   f3a0f3a
        2 more groups: --limit
        Not compared, having no perceptual hash: 4 pictures.
        """
    )


def test_collections(run: Run, server: Server) -> None:
    one = {"dimension": 512, "created_at": "2026-11-24T13:20:53.120Z"}
    server.routes["GET /v1/collections"] = {
        "collections": [
            {**one, "name": "images", "count": 1_234_567, "model": "openai/clip-vit-base-patch32"},
            {**one, "name": "cats", "count": 0, "model": "starter"},
        ]
    }
    assert run("collections", "list") == table(
        """
        name     pictures  model                         created (UTC)
        images  1,234,567  openai/clip-vit-base-patch32  2026-11-24 13:20
        cats            0  starter                       2026-11-24 13:20
        """
    )


def test_keys(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("--data-dir", str(tmp_path))
    assert run("keys", "list", *place) == "There are no keys."
    monkeypatch.setattr(auth.time, "time", lambda: 0.0)
    run("keys", "create", "--name", "shop [a]", "--scope", "search,ingest", *place)
    assert re.sub(r"[0-9a-f]{12}", "0" * 12, run("keys", "list", *place)) == table(
        """
        id            scopes         name      created (UTC)
        000000000000  ingest,search  shop [a]  1970-01-01 00:00
        """
    )
