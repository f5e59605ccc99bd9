import hashlib
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from api.http.auth import KeyRing
from shared.api_keys import check_bind, create_key, list_keys, revoke_key
from shared.download.addresses import is_loopback
from shared.download.own_services import FETCH_HEADER
from shared.errors import BlobsUnavailable, ConfigError, InvalidRequest, NotFound
from shared.storage.blobs import Blobs
from tests.unit.fakes import Api, assert_problem, make_api, make_services

ANOTHER_MACHINE = {"REMOTE_ADDR": "203.0.113.5"}
# A route for each scope; what it answers without more than the scope.
ROUTES = {
    "search": ("GET", "/v1/collections"),
    "ingest": ("GET", "/v1/jobs"),
    "metrics": ("GET", "/metrics"),
    "admin": ("GET", "/v1/sources"),
}


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}/blobs")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def make_with_keys(folder: Path, *scopes: Iterable[str]) -> tuple[Api, list[str]]:
    services = make_services(folder)
    keys = [create_key(services.blobs, "", wanted) for wanted in scopes]
    return make_api(folder, services), keys


def status(api: Api, scope: str, authorization: str | None = None, **options: Any) -> int:
    method, path = ROUTES[scope]
    headers = {} if authorization is None else {"Authorization": authorization}
    return api.http.open(path, method=method, headers=headers, **options).status_code


# No key exists


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "app.localhost"]
)
def test_without_keys_this_machine_may_do_everything(api: Api, host: str) -> None:
    for method, path in ROUTES.values():
        for origin in ({}, {"Origin": f"http://{host.lower()}"}):
            response = api.http.open(path, method=method, headers={"Host": host, **origin})
            assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Host": "search.example"},
        {"x-forwarded-proto": "https"},
        {"X-Real-IP": "192.0.2.1"},
        {"CF-Connecting-IP": "192.0.2.1"},
        {"X-Original-Host": "shop.example"},
        {"Via": "1.1 proxy"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_keys_what_came_through_a_proxy_or_from_another_site_is_refused(
    api: Api, headers: dict[str, str]
) -> None:
    for path, method in (("/v1/collections", "GET"), ("/v1/search", "POST"), ("/v1/jobs", "POST")):
        response = api.http.open(path, method=method, json=None, headers=headers)
        assert "image-search keys create" in assert_problem(response, 403, "forbidden")["detail"]
    assert api.http.get("/healthz", headers=headers).status_code == 200


def test_what_the_service_itself_sends_is_refused_whichever_way_it_came(api: Api, tmp_path: Path) -> None:
    keyed, (key,) = make_with_keys(tmp_path / "keyed", ["search"])
    own = {FETCH_HEADER: "1"}
    for http in (api.http, keyed.http):
        for path, method in (("/healthz", "GET"), ("/v1/jobs", "POST"), ("/", "GET"), ("/nowhere", "POST")):
            response = http.open(path, method=method, headers=own, environ_base=ANOTHER_MACHINE)
            assert "the service itself" in assert_problem(response, 403, "forbidden")["detail"]
    headers = own | {"Authorization": f"Bearer {key}"}
    assert keyed.http.get("/v1/collections", headers=headers).status_code == 200, "another service's"


def test_with_a_key_a_proxy_is_nobodys_business(tmp_path: Path) -> None:
    api, (key,) = make_with_keys(tmp_path, ["search"])
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "192.0.2.1", "Via": "1.1 proxy"}
    assert api.http.get("/v1/collections", headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://localhost"])
def test_without_keys_another_local_page_may_not_write(api: Api, origin: str) -> None:
    response = api.http.post("/v1/collections", json={"name": "x"}, headers={"Origin": origin})
    assert_problem(response, 403, "forbidden")
    assert api.services.index.collections() == []


@pytest.mark.parametrize("scope", ROUTES)
def test_without_keys_another_machine_may_do_nothing(api: Api, scope: str) -> None:
    assert status(api, scope, environ_base=ANOTHER_MACHINE) == 403
    response = api.http.get("/v1/collections", environ_base=ANOTHER_MACHINE)
    document = assert_problem(response, 403, "forbidden")
    assert "image-search keys create --scope" in document["detail"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"],
)
def test_without_keys_a_name_that_was_bound_to_this_machine_is_refused(api: Api, host: str) -> None:
    assert_problem(api.http.get("/v1/collections", headers={"Host": host}), 403, "forbidden")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://[",
        "https://127.0.0.1@evil.example",
        "chrome-extension://abc",
    ],
)
def test_without_keys_a_foreign_page_is_refused(api: Api, origin: str) -> None:
    response = api.http.post("/v1/collections", json={"name": "x"}, headers={"Origin": origin})
    assert_problem(response, 403, "forbidden")
    assert api.services.index.collections() == []


def test_what_is_public_needs_no_key(tmp_path: Path) -> None:
    api, _ = make_with_keys(tmp_path, ["search"])
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/errors"):
        assert api.http.get(path, environ_base=ANOTHER_MACHINE).status_code == 200


# Keys exist


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer isk_000000000000_" + "A" * 43,
        "Bearer ../../deployment/model",
        "Bearer é",
    ],
)
def test_with_keys_a_request_without_a_known_one_is_refused(
    tmp_path: Path, authorization: str | None
) -> None:
    api, _ = make_with_keys(tmp_path, ["search"])
    headers = {} if authorization is None else {"Authorization": authorization}
    response = api.http.get("/v1/collections", headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_opens_its_scopes_only(tmp_path: Path) -> None:
    scopes = [["search"], ["ingest"], ["search", "ingest"], ["metrics"], ["admin"]]
    api, keys = make_with_keys(tmp_path, *scopes)
    for allowed, key in zip(scopes, keys, strict=True):
        for scope in ROUTES:
            wanted = 200 if scope in allowed or "admin" in allowed else 403
            assert status(api, scope, f"Bearer {key}", environ_base=ANOTHER_MACHINE) == wanted
            assert status(api, scope, f"bearer {key}") == wanted


def test_a_missing_scope_is_named_with_the_command_that_makes_a_key_with_it(tmp_path: Path) -> None:
    api, (key,) = make_with_keys(tmp_path, ["search"])
    response = api.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    detail = assert_problem(response, 403, "forbidden")["detail"]
    assert "lacks the scope `ingest`" in detail
    assert "`image-search keys create --scope search,ingest`" in detail


def test_a_key_with_another_secret_is_unknown(tmp_path: Path) -> None:
    api, (key,) = make_with_keys(tmp_path, ["search"])
    forged = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert status(api, "search", f"Bearer {forged}") == 401


def test_a_scope_is_checked_before_the_body_is_read(tmp_path: Path) -> None:
    api, _ = make_with_keys(tmp_path, ["search"])
    assert_problem(api.http.post("/v1/collections", data=b"{"), 401, "unauthorized")


def test_an_unknown_route_is_no_secret(tmp_path: Path) -> None:
    api, _ = make_with_keys(tmp_path, ["search"])
    assert_problem(api.http.get("/v1/nothing"), 404, "not_found")
    assert_problem(api.http.put("/v1/collections"), 405, "method_not_allowed")


# Stored keys


def test_only_a_hash_is_stored(blobs: Blobs) -> None:
    plain = create_key(blobs, "mine", ["search"])
    (stored,) = blobs.list("keys/")
    text = blobs.get(stored).decode()
    secret = plain.split("_", 2)[2]
    assert len(urlsafe_b64decode(secret + "=")) == 32, "256 bits"
    assert secret not in create_key(blobs, "another", ["search"])
    assert plain not in text
    assert secret not in text
    assert json.loads(text)["hash"] == hashlib.sha256(plain.encode()).hexdigest()


def test_keys_are_listed_oldest_first(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment, name in enumerate(["one", "two", "three"]):
        monkeypatch.setattr("shared.api_keys.time.time", lambda moment=moment: 1e9 + moment)
        create_key(blobs, name, ["search", "ingest", "search"])
    listed = list_keys(blobs)
    assert [key.name for key in listed] == ["one", "two", "three"]
    assert listed[0].scopes == ["ingest", "search"]
    assert listed[0].created_at == 1e9


@pytest.mark.parametrize("scopes", [[], ["everything"], ["search", "Search"]])
def test_an_unknown_scope_makes_no_key(blobs: Blobs, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        create_key(blobs, "x", scopes)
    assert list_keys(blobs) == []


def test_a_revoked_key_opens_nothing(blobs: Blobs) -> None:
    ring = KeyRing(blobs, max_age_s=0.0)
    plain, other = create_key(blobs, "a", ["search"]), create_key(blobs, "b", ["search"])
    found = ring.find(plain)
    assert found is not None
    revoke_key(blobs, found.id)
    assert ring.find(plain) is None
    assert ring.find(other) is not None


@pytest.mark.parametrize("key_id", ["000000000000", "", "../deployment/model", "x" * 12])
def test_an_unknown_key_cannot_be_revoked(blobs: Blobs, key_id: str) -> None:
    blobs.put("deployment/model.json", b"{}")
    with pytest.raises(NotFound):
        revoke_key(blobs, key_id)
    assert blobs.exists("deployment/model.json")


def test_keys_are_not_read_at_every_request(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(blobs)
    plain = create_key(blobs, "a", ["search"])
    assert ring.find(plain) is not None
    monkeypatch.setattr(blobs, "list", lambda _: pytest.fail("read again"))
    assert ring.find(plain) is not None


def test_known_keys_hold_while_the_blob_store_is_down(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(blobs, max_age_s=0.0)
    plain = create_key(blobs, "a", ["search"])
    assert ring.find(plain) is not None

    def down(_: str) -> list[str]:
        raise BlobsUnavailable("The blob store failed: I/O error.")

    monkeypatch.setattr(blobs, "list", down)
    assert ring.find(plain) is not None
    with pytest.raises(BlobsUnavailable):
        KeyRing(blobs).keys()


def test_nobody_gets_in_while_it_is_unknown_whether_keys_exist(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: str) -> list[str]:
        raise BlobsUnavailable("The blob store failed: I/O error.")

    monkeypatch.setattr(api.services.blobs, "list", down)
    assert_problem(api.http.get("/v1/collections"), 503, "blobs_unavailable")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"id": "x"}', b"\xff"])
def test_a_key_that_cannot_be_read_still_counts_and_opens_nothing(
    tmp_path: Path, blobs: Blobs, text: bytes
) -> None:
    services = make_services(tmp_path)
    plain = create_key(services.blobs, "a", ["admin"])
    (stored,) = services.blobs.list("keys/")
    services.blobs.put(stored, text)
    api = make_api(tmp_path, services)
    assert status(api, "search") == 401
    assert status(api, "search", f"Bearer {plain}") == 401
    (listed,) = list_keys(services.blobs)
    assert listed.scopes == []
    revoke_key(services.blobs, listed.id)
    assert list_keys(services.blobs) == []


# Where to serve


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_a_loopback_address_needs_no_key(blobs: Blobs, host: str) -> None:
    assert is_loopback(host)
    check_bind(host, blobs)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "example.com", "::ffff:10.0.0.1", "1270.0.0.1"]
)
def test_another_address_needs_a_key(blobs: Blobs, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError) as caught:
        check_bind(host, blobs)
    assert "image-search keys create --scope search,ingest [--name NAME]" in caught.value.detail
    create_key(blobs, "a", ["search"])
    check_bind(host, blobs)
