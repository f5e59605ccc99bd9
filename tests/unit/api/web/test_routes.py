"""The page's shell and its files; what they do in a browser is tests/browser's."""

import json
import re
from pathlib import Path

import pytest

from tests.unit.api.http.test_auth import ANOTHER_MACHINE, make_with_keys
from tests.unit.fakes import Api, assert_problem, make_api

VIEWS = ("/", "/ingest", "/jobs", "/jobs/4f0c", "/system")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


@pytest.mark.parametrize("path", VIEWS)
def test_every_view_has_the_same_shell(api: Api, path: str) -> None:
    response = api.http.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert response.data == api.http.get("/").data
    again = api.http.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/search", "/ingest/x", "/jobs/a/b", "/static/none.js", "/static/../app.py"]
)
def test_another_path_is_a_problem(api: Api, path: str) -> None:
    assert_problem(api.http.get(path), 404, "not_found")


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
