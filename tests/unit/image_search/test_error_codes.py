"""The table of what each code of a failed item means agrees with what the workers try again."""

from http import HTTPStatus

import pytest

from image_search.models.error_codes import CAUSES, RETRIED_STATUSES, worth_retrying
from shared.config import PREFIX, Settings
from shared.errors import ITEM_CODES, RETRYABLE_HTTP_STATUSES, RETRYABLE_ITEM_CODES, ItemError


def test_every_code_has_a_cause_and_a_next_step() -> None:
    assert tuple(CAUSES) == ITEM_CODES
    for code, known in CAUSES.items():
        for sentence in (known.cause, known.next_step):
            assert sentence[0].isupper(), code
            assert sentence.endswith("."), code


def test_what_is_worth_retrying_is_what_the_workers_try_again() -> None:
    assert {code for code, known in CAUSES.items() if known.retried} == RETRYABLE_ITEM_CODES
    assert [code for code, known in CAUSES.items() if known.retried is None] == ["http_status"]
    assert RETRIED_STATUSES == RETRYABLE_HTTP_STATUSES


def test_a_status_is_worth_retrying_when_the_workers_try_it_again() -> None:
    for status in HTTPStatus:
        detail = f"{status.value} {status.phrase}"
        transient = ItemError("http_status", detail, http_status=status.value).transient
        assert worth_retrying("http_status", detail) is transient, detail
        refused = f"not asked: the host has failed 404 times in a row, the last time with: {detail}"
        assert worth_retrying("http_status", refused) is transient, refused


@pytest.mark.parametrize(
    ("code", "detail", "worth"),
    [
        ("timeout", "nothing came for 20 s (IMAGE_SEARCH_FETCH_TIMEOUT_S)", True),
        ("timeout", "the whole took more than 200 s (IMAGE_SEARCH_FETCH_TIMEOUT_S is 20)", False),
        ("connect_error", "the answer broke off", True),
        ("connect_error", "the answer is not valid HTTP", False),
        ("blocked_address", "the host's address is not a public one", False),
        ("http_status", "599", True),
        ("http_status", "the server's X-Robots-Tag says noai", False),
        ("http_status", "", False),
        ("of_a_later_version", "503 Service Unavailable", False),
    ],
)
def test_worth_retrying(code: str, detail: str, worth: bool) -> None:
    assert worth_retrying(code, detail) is worth


def test_a_next_step_names_the_setting_that_mends_it() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for code, setting in (
        ("blocked_address", "ALLOW_HOSTS"),
        ("too_large", "MAX_IMAGE_BYTES"),
        ("too_many_pixels", "MAX_IMAGE_PIXELS"),
        ("timeout", "FETCH_TIMEOUT_S"),
        ("connect_error", "CA_BUNDLE"),
    ):
        assert PREFIX + setting in known
        assert PREFIX + setting in CAUSES[code].cause + CAUSES[code].next_step
