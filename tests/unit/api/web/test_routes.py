"""The page's shell and its files; what they do in a browser is tests/browser's."""

import html
import json
import posixpath
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from api.search.requests import MAX_PICTURES
from image_search.models.image_files import IMAGE_HEAD, IMAGE_SUFFIXES
from image_search.models.jobs import JOB_STATUSES, MAX_ERRORS
from shared.models import COLORS, ItemState
from shared.version import VERSION
from tests.stack import ROOT
from tests.unit.api.http.test_auth import ANOTHER_MACHINE, make_with_keys
from tests.unit.fakes import Api, assert_problem, make_api, make_services

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
VIEWS = ("/", "/ingest", "/jobs", "/jobs/4f0c", "/duplicates", "/sources", "/system")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


@pytest.mark.parametrize("path", VIEWS)
def test_every_view_has_the_shell_with_what_it_needs_first(api: Api, path: str) -> None:
    response = api.http.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    view = path.split("/")[1] or "search"
    enabled = re.findall(r'href="/static/(\S+\.css)"(?: data-views="[a-z ]+")?>', response.text)
    assert {"shell/page.css", f"{view}/{view}.css"} <= set(enabled)
    others = {f"{other}/{other}.css" for other in ("search", "ingest", "jobs", "sources", "system")} - {
        f"{view}/{view}.css"
    }
    assert not others & set(enabled), "they would hold up the first paint"
    again = api.http.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", VIEWS)
def test_the_shell_names_every_module_that_a_view_loads(api: Api, path: str) -> None:
    shell = api.http.get(path).text
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', shell))
    loaded = set()
    for module in preloaded:
        imports = re.findall(r'\bfrom "(\..+)";', api.http.get(module).text)
        loaded |= {posixpath.normpath(f"{module.rpartition('/')[0]}/{name}") for name in imports}
    assert loaded < preloaded
    assert f"/static/{path.split('/')[1] or 'search'}/" in "".join(preloaded)


def test_the_page_knows_the_servers_numbers(tmp_path: Path) -> None:
    """Each is compared with what the API's description or another place says of it."""
    services = make_services(tmp_path)
    settings = services.settings.model_copy(update={"max_upload_bytes": 12_345})
    api = make_api(tmp_path, replace(services, settings=settings))
    told = server_of(api)
    description = api.http.get("/openapi.json").json
    schemas = description["components"]["schemas"]
    parameters = {
        (route, one["name"]): one["schema"]
        for route, methods in description["paths"].items()
        for one in methods.get("get", {}).get("parameters", [])
    }
    limits = told["limits"]
    assert told["version"] == description["info"]["version"]
    assert limits["upload_bytes"] == 12_345
    assert limits["jobs_listed"] == parameters["/v1/jobs", "limit"]["maximum"]
    assert limits["search_offset"] == parameters["/v1/search", "offset"]["maximum"]
    assert limits["collection_name"]["pattern"] in json.dumps(schemas["CollectionRequest"])
    assert limits["query_images"] == MAX_PICTURES
    assert limits["job_errors"] == MAX_ERRORS
    assert limits["colors"] == list(COLORS)
    for name in ("a" * 63, "a.b_c-d", "0"):
        assert re.fullmatch(limits["collection_name"]["pattern"], name)
    for name in ("a" * 64, "-a", "a.", ""):
        assert not re.fullmatch(limits["collection_name"]["pattern"], name)


def test_the_page_takes_the_files_that_the_command_line_takes(api: Api) -> None:
    limits = server_of(api)["limits"]
    assert set(limits["image_suffixes"]) == set(IMAGE_SUFFIXES)
    assert limits["image_head"] == IMAGE_HEAD


def test_every_answer_says_the_servers_version(api: Api) -> None:
    """By which the page, which may be older, knows whether it understands the answer."""
    for path in ("/", "/v1/collections", "/v1/none", "/healthz"):
        assert api.http.get(path).headers["X-Image-Search-Version"] == VERSION


def test_no_script_of_the_page_knows_a_number_of_the_servers() -> None:
    """Those that nobody else would write: a limit that is asked of the server is not written down again."""
    numbers = re.compile(r"10[_,]?000\b|\b0\.95\b|A-Za-z0-9|\bheic\b")
    scripts = (resources.files("api.web") / "static").rglob("*.js")  # type: ignore[attr-defined]
    assert {path.name: found for path in scripts if (found := numbers.findall(path.read_text()))} == {}


def server_of(api: Api) -> dict[str, Any]:
    """What the shell tells the page of the server."""
    content = re.search(r'<meta name="server" content="([^"]+)">', api.http.get("/").text)
    assert content
    told: dict[str, Any] = json.loads(html.unescape(content[1]))
    return told


@pytest.mark.parametrize(
    "path", ["/search", "/ingest/x", "/jobs/a/b", "/static/none.js", "/static/../app.py"]
)
def test_another_path_is_a_problem(api: Api, path: str) -> None:
    assert_problem(api.http.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["/search", "/jobs/a/b", "/static/none.js", "/docs/none", "/%ff"])
def test_another_path_is_a_page_for_a_browser(api: Api, path: str) -> None:
    response = api.http.get(path, headers={"Accept": BROWSER})
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "/static/no_page/no_page.js" in response.text
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/v1/none", BROWSER),
        ("/v1", BROWSER),
        ("/none", "*/*"),
        ("/none", "application/json, text/html;q=0.5, */*;q=0.8"),
        ("/none", "image/avif,image/*"),
    ],
)
def test_a_program_gets_a_problem_for_another_path(api: Api, path: str, accept: str) -> None:
    assert_problem(api.http.get(path, headers={"Accept": accept}), 404, "not_found")


def test_whatever_the_shell_and_the_manifest_name_is_served(api: Api) -> None:
    shell = api.http.get("/").text
    manifest = json.loads(api.http.get("/manifest.webmanifest").data)
    files = re.findall(r'(?:src|href)="(/static/[^"]+|/manifest[^"]+)"', shell)
    files += [icon["src"] for icon in manifest["icons"]]
    assert len(files) > 8
    for file in files:
        response = api.http.get(file)
        assert response.status_code == 200, file
        again = api.http.get(file, headers={"If-None-Match": response.headers["ETag"]})
        assert again.status_code == 304
        assert response.headers["Cache-Control"] == "no-cache"
    kinds = {file.rpartition(".")[2]: api.http.get(file).mimetype for file in files}
    assert kinds["js"] == "text/javascript"
    assert kinds["webmanifest"] == "application/manifest+json"


def test_the_shell_may_ask_where_the_visitor_is_and_nothing_else_may(api: Api) -> None:
    assert "geolocation=(self)" in api.http.get("/").headers["Permissions-Policy"]
    assert "camera=()" in api.http.get("/").headers["Permissions-Policy"]
    assert "geolocation=()" in api.http.get("/docs").headers["Permissions-Policy"]


def test_the_shell_is_public_and_the_data_is_not(tmp_path: Path) -> None:
    api, _ = make_with_keys(tmp_path, ["search"])
    for path in (*VIEWS, "/manifest.webmanifest", "/static/shell/main.js"):
        assert api.http.get(path, environ_base=ANOTHER_MACHINE).status_code == 200
    assert api.http.get("/v1/images", environ_base=ANOTHER_MACHINE).status_code == 401


def test_the_page_calls_states_what_the_api_calls_them() -> None:
    """As the command line does; docs/api.md has the table of both."""
    card = (ROOT / "api/web/static/jobs/job_card.js").read_text("utf-8")
    (words,) = re.findall(r"STATUSES = \{\n(.*?)\n\};", card, re.DOTALL)
    assert dict(re.findall(r'(\w+): "(\w+)"', words)) == {one: one.capitalize() for one in JOB_STATUSES}
    told = (ROOT / "docs/api.md").read_text("utf-8").partition("## States")[2]
    for state in (*JOB_STATUSES, *ItemState):
        assert re.search(rf"^\| .*`{state}`.* \|", told, re.MULTILINE), state
