from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from deploy.ports import free_port
from shared.api_keys import create_key
from shared.errors import BlobsUnavailable
from shared.storage.blobs import Blobs
from tests.unit.fakes import LEDGER_DOWN, Api, assert_problem, make_api, make_services, with_services

ADDRESS = "203.0.113.5"
NEIGHBOUR = "203.0.113.6"


def make_limited(folder: Path, keys: int = 1, **settings: Any) -> tuple[Api, list[str]]:
    services = make_services(folder, **{"rate_limit": "3/hour", **settings})
    made = [create_key(services.blobs, "", ["search"]) for _ in range(keys)]
    return make_api(folder, services), made


def ask(
    api: Api, key: str | None = None, address: str = ADDRESS, path: str = "/v1/collections"
) -> TestResponse:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return api.http.get(path, headers=headers, environ_base={"REMOTE_ADDR": address})


def statuses(api: Api, count: int, *arguments: Any, **options: Any) -> list[int]:
    return [ask(api, *arguments, **options).status_code for _ in range(count)]


def test_past_its_rate_a_key_is_told_when_to_come_back(tmp_path: Path) -> None:
    api, (key,) = make_limited(tmp_path)
    assert statuses(api, 3, key) == [200, 200, 200]
    refused = ask(api, key)
    document = assert_problem(refused, 429, "rate_limited")
    assert document["detail"] == "More requests than 3 per hour (IMAGE_SEARCH_RATE_LIMIT): slow down."
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600


def test_each_key_has_a_rate_of_its_own_wherever_it_comes_from(tmp_path: Path) -> None:
    api, (one, other) = make_limited(tmp_path, keys=2)
    assert statuses(api, 2, one, ADDRESS) + statuses(api, 2, one, NEIGHBOUR) == [200, 200, 200, 429]
    assert statuses(api, 1, other, ADDRESS) == [200]


def test_several_limits_hold_together(tmp_path: Path) -> None:
    api, (key,) = make_limited(tmp_path, rate_limit="5/hour;2/minute")
    assert statuses(api, 3, key) == [200, 200, 429]


def test_a_caller_without_a_key_is_limited_by_address(tmp_path: Path) -> None:
    api, _ = make_limited(tmp_path)
    assert statuses(api, 4, None) == [401, 401, 401, 429]
    assert statuses(api, 1, None, NEIGHBOUR) == [401]
    assert statuses(api, 4, None, NEIGHBOUR, path="/docs") == [200, 200, 200, 429]


def test_addresses_of_one_ipv6_subscriber_count_together(tmp_path: Path) -> None:
    api, _ = make_limited(tmp_path, rate_limit="1/hour")
    assert statuses(api, 1, None, "2001:db8:0:1::1") == [401]
    assert statuses(api, 1, None, "2001:db8:0:1:ffff::2") == [429]
    assert statuses(api, 1, None, "2001:db8:0:2::1") == [401]


def test_an_ipv4_address_counts_as_itself_in_ipv6_too(tmp_path: Path) -> None:
    api, _ = make_limited(tmp_path, rate_limit="1/hour")
    assert statuses(api, 1, None, ADDRESS) == [401]
    assert statuses(api, 1, None, f"::ffff:{ADDRESS}") == [429]
    assert statuses(api, 1, None, f"::ffff:{NEIGHBOUR}") == [401]


@pytest.mark.parametrize("guess", [None, "isk_000000000000_" + "A" * 43])
def test_keys_cannot_be_guessed_fast_even_without_a_rate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guess: str | None
) -> None:
    monkeypatch.setattr("api.http.rate_limits.FAILURES", "3/hour")
    api, (key,) = make_limited(tmp_path, rate_limit="off")
    assert statuses(api, 4, guess) == [401, 401, 401, 429]
    assert statuses(api, 1, guess, NEIGHBOUR) == [401]
    assert statuses(api, 9, key) == [200] * 9, "a known key is not stopped by guesses from its address"


PUBLIC = (
    "/",
    "/jobs",
    "/static/shell/main.js",
    "/docs",
    "/openapi.json",
    "/docs/errors",
    "/healthz",
    "/readyz",
)


@pytest.mark.parametrize("rate_limit", ["off", "9/hour"])
def test_guesses_do_not_lock_the_public_page_and_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_limit: str
) -> None:
    monkeypatch.setattr("api.http.rate_limits.FAILURES", "3/hour")
    api, _ = make_limited(tmp_path, rate_limit=rate_limit)
    guess = "isk_000000000000_" + "A" * 43
    assert statuses(api, 12, guess) == [401] * 3 + [429] * 9
    for path in PUBLIC:
        assert statuses(api, 1, path=path) == [200], path
    assert statuses(api, 1, guess) == [429], "what anybody may read gives nobody more guesses"


def test_a_guesser_stays_one_address_whatever_forwarder_he_claims_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.rate_limits.FAILURES", "3/hour")
    api, _ = make_limited(tmp_path, rate_limit="off")
    names = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "Remote-Addr", "CF-Connecting-IP")
    answers = [
        api.http.get("/v1/collections", headers={name: f"198.51.100.{number}"})
        for number, name in enumerate(names)
    ]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 3


def test_what_succeeds_is_no_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.rate_limits.FAILURES", "1/hour")
    api, (key,) = make_limited(tmp_path, rate_limit="off")
    assert statuses(api, 3, key) == [200] * 3
    assert statuses(api, 3, None, path="/docs") == [200] * 3
    assert statuses(api, 2, None) == [401, 429]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_not_limited(tmp_path: Path, path: str) -> None:
    api, _ = make_limited(tmp_path, rate_limit="1/hour")
    assert statuses(api, 5, path=path) == [200] * 5


def test_this_machine_is_not_limited_while_no_key_exists(tmp_path: Path) -> None:
    api, _ = make_limited(tmp_path, keys=0, rate_limit="1/hour")
    assert statuses(api, 5, None, "127.0.0.1") == [200] * 5


def test_without_redis_a_server_counts_for_itself(tmp_path: Path) -> None:
    api, (key,) = make_limited(tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert statuses(api, 4, key) == [200, 200, 200, 429]
    api = with_services(api, tmp_path, ledger=LEDGER_DOWN)
    assert statuses(api, 4, None) == [401, 401, 401, 429]


def test_nobody_is_counted_while_it_is_unknown_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = make_limited(tmp_path, rate_limit="1/hour")

    def down(_: str) -> list[str]:
        raise BlobsUnavailable("The blob store failed: I/O error.")

    monkeypatch.setattr(Blobs, "list", lambda _self, prefix: down(prefix))
    for _ in range(3):
        assert_problem(ask(api), 503, "blobs_unavailable")
