from html.parser import HTMLParser
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from api.http.security_headers import HEADERS
from shared.storage.blobs import file_key
from tests.unit.fakes import Api, axis, make_api, picture

PAGES = ("/", "/docs", "/docs/errors")
DATA = (
    "/healthz",
    "/openapi.json",
    "/v1/collections",
    "/metrics",
    "/docs/init.js",
    "/static/shell/main.js",
    "/static/shell/icons/icon.svg",
    "/manifest.webmanifest",
    "/v1/none",
    "/v1/images/none",
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def policy(response: TestResponse) -> dict[str, str]:
    """The directives of the answer's one Content-Security-Policy."""
    (header,) = response.headers.getlist("Content-Security-Policy")
    return {name: sources for name, _, sources in (part.strip().partition(" ") for part in header.split(";"))}


class Inline(HTMLParser):
    """What of a page a policy without 'unsafe-inline' keeps from working."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        self.found += [f"{tag} {name}" for name, value in attrs if (value or "").startswith("javascript:")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(f"inline {tag}")


@pytest.mark.parametrize("path", [*PAGES, *DATA])
def test_every_answer_has_the_security_headers(api: Api, path: str) -> None:
    response = api.http.get(path)
    for name in HEADERS:
        assert len(response.headers.getlist(name)) == 1, name
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert policy(response)["default-src"] == "'none'"
    assert policy(response)["frame-ancestors"] == "'none'"
    assert "Strict-Transport-Security" not in response.headers, "TLS is the proxy's"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_from_this_server_only_and_runs_nothing_inline(api: Api, path: str) -> None:
    response = api.http.get(path)
    directives = policy(response)
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    inline = Inline()
    inline.feed(response.text)
    assert inline.found == []


@pytest.mark.parametrize("path", DATA)
def test_data_is_no_page(api: Api, path: str) -> None:
    directives = policy(api.http.get(path))
    assert "sandbox" in directives
    assert "script-src" not in directives


def test_a_stored_picture_is_no_page(api: Api) -> None:
    image_id = api.add(1, axis(0))
    api.services.blobs.put(file_key("images", image_id, "thumbnail"), picture())
    response = api.http.get(f"/v1/images/{image_id}/thumbnail")
    assert response.mimetype == "image/webp"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in policy(response)
    assert response.headers["Cache-Control"] == "private, no-cache", "a view's own header wins"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_no_answer_lets_another_site_read_it(api: Api, method: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization"}
    for origin in ("http://localhost:3000", "https://evil.example", "null"):
        for path in ("/v1/collections", "/v1/search", "/healthz", "/docs"):
            response = api.http.open(path, method=method, headers={"Origin": origin, **asked})
            assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]
