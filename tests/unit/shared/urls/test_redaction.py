"""What of a URL is kept from whoever may only look."""

import io
import json
import logging
import time

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Settings
from shared.logs import configure_logging
from shared.models import Item
from shared.urls.redaction import redacted

# Each with one credential, written so that only it has the letters XYZZY.
SECRETS = {
    "https://user:XYZZY@host/a.jpg": "https://REDACTED@host/a.jpg",
    "HTTPS://XYZZY@host:8443/a.jpg": "HTTPS://REDACTED@host:8443/a.jpg",
    "https://u:XYZZY@g@host/a": "https://REDACTED@host/a",
    "https://u:XY/ZZY-XYZZY@host/a": "https://REDACTED@host/a",
    "https://u:XYZZY%40host/a": "https://REDACTED@/a",
    "https:\\\\u:XYZZY@host\\a": "https:\\\\REDACTED@host\\a",
    "https:u:XYZZY@host/a": "https:REDACTED@host/a",
    "//u:XYZZY@host/a": "//REDACTED@host/a",
    "u:XYZZY@host/a": "REDACTED@host/a",
    "  https://u:XY XYZZY@host/a": "  https://REDACTED@host/a",
    "ftp://u:XYZZY@host/a": "ftp://REDACTED@host/a",
    "https://[2001:db8::1]:80/a?token=XYZZY": "https://[2001:db8::1]:80/a?token=REDACTED",
    "https://h/a?w=1&token=XYZZY&h=2": "https://h/a?w=1&token=REDACTED&h=2",
    "https://h/a?w=1;TOKEN=XYZZY;h=2": "https://h/a?w=1;TOKEN=REDACTED;h=2",
    "https://h/a?token=a;XYZZY&h=2": "https://h/a?token=REDACTED&h=2",
    "https://h/a?token=a XYZZY&h=2": "https://h/a?token=REDACTED&h=2",
    "https://h/a?hdnea=exp=1~acl=/*~hmac=XYZZY&w=1": "https://h/a?hdnea=exp=1~acl=/*~hmac=REDACTED&w=1",
    "https://h/a?Signature=a~XYZZY__&w=~1": "https://h/a?Signature=REDACTED&w=~1",
    "https://h/a?w=1&amp;sig=XYZZY": "https://h/a?w=1&amp;sig=REDACTED",
    "https://h/a?t%6Fken=XYZZY": "https://h/a?t%6Fken=REDACTED",
    "https://h/a?%2574oken=XYZZY": "https://h/a?%2574oken=REDACTED",
    "https://h/a?token%3DXYZZY": "https://h/a?token%3DREDACTED",
    "https://h/a#access_token=XYZZY&x=1": "https://h/a#access_token=REDACTED&x=1",
    "https://h/a#/view?token=XYZZY": "https://h/a#/view?token=REDACTED",
    "https://h/a;jsessionid=XYZZY/b.jpg?w=1": "https://h/a;jsessionid=REDACTED/b.jpg?w=1",
    "https://h/sig=XYZZY/b.jpg": "https://h/sig=REDACTED/b.jpg",
    "https://h/a?url=https%3A%2F%2Fu%3AXYZZY%40h%2Fb": "https://h/a?url=https%3A%2F%2FREDACTED%40h%2Fb",
    "https://h/a?url=https%253A%252F%252Fu%253AXYZZY%2540h": (
        "https://h/a?url=https%253A%252F%252FREDACTED%2540h"
    ),
    "https://h/a?url=https%3A%2F%2Fh%2Fb%3Fw%3D1%26key%3DXYZZY": (
        "https://h/a?url=https%3A%2F%2Fh%2Fb%3Fw%3D1%26key%3DREDACTED"
    ),
    "https://h/a?url=https://u:XYZZY@h/b&w=1": "https://h/a?url=https://REDACTED@h/b&w=1",
    "https://h/a?next=/b?token=XYZZY": "https://h/a?next=/b?token=REDACTED",
    "https://h/a?a[token]=XYZZY": "https://h/a?a[token]=REDACTED",
    "https://h/a?\uff54oken=XYZZY": "https://h/a?\uff54oken=REDACTED",
    "https://h/a?to\tken=XYZZY": "https://h/a?to\tken=REDACTED",
    'https://h/a?q={"w": 1, "token": "XYZZY"}': 'https://h/a?q={"w": 1, "token": "REDACTED"}',
    "https://h/a?q=%7B%22token%22%3A%22XYZZY%22%7D": "https://h/a?q=%7B%22token%22%3A%22REDACTED%22%7D",
    "https://h/a?otp=XYZZY": "https://h/a?otp=REDACTED",
}
NAMES = [
    *(
        "token",
        "key",
        "api_key",
        "apikey",
        "apiKey",
        "API-KEY",
        "access_token",
        "accessToken",
        "auth",
        "Auth",
    ),
    *("authorization", "signature", "sig", "sign", "secret", "client_secret", "password", "passwd", "pwd"),
    *("credential", "credentials", "session", "session_id", "sessionid", "PHPSESSID", "X-Amz-Signature"),
    *("X-Amz-Credential", "X-Amz-Security-Token", "x-amz-signature", "AWSAccessKeyId", "X-Goog-Signature"),
    *("X-Goog-Credential", "GoogleAccessId", "Policy", "Signature", "Key-Pair-Id", "x-api-key", "auth_token"),
    *("OSSAccessKeyId", "rlkey", "resourcekey", "hm", "__token__", "x-cos-security-token", "mapsApiKey"),
    *("oauth_signature", "sas_token", "jwt", "subscription-key", "accesskey", "secret_key", "user_password"),
]
HARMLESS = [
    "https://h/a?keyword=red&monkey=1&keys=2&author=x&tokens=3&tokenizer=bpe&max_tokens=5&sort_key=name",
    "https://h/a?signal=1&design=b&assigned=c&passage=d&compass=e&secretary=f&sessions=2&policyholder=g",
    "https://h/a?w=640&h=480&sv=2020-01-01&se=2026-01-01&Expires=1&X-Amz-Date=1&v=%C3%A9%20%25",
    "https://farm1.example/12345@N02/p.jpg",
    "https://example.com/@user/p.jpg",
    "https://example.com/~user/p.jpg?v=~2~3",
    "http://127.0.0.1:8000/a.jpg?url=http://10.0.0.1/a.jpg",
    "http://[::1]:8000/a.jpg",
    "http://127.0.0.1:8000: the connection was refused, see http://127.0.0.1:9000.",
    "holiday photo; day 2 = best.jpg",
    "me@home.jpg",
    "row 17",
    "f" * 64,
]


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_a_credential_is_taken_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_is_known_by_its_name(name: str) -> None:
    assert redacted(f"https://h/a?w=1&{name}=XYZZY#b") == f"https://h/a?w=1&{name}=REDACTED#b"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redacted(text) == text


def test_urls_within_a_text_are_found() -> None:
    text = 'see {"url": "https://u:XYZZY@h/a?key=XYZZY"}, ask me@example.com, or http://h/?sig=XYZZY now'
    shown = (
        'see {"url": "https://REDACTED@h/a?key=REDACTED"}, ask me@example.com, or http://h/?sig=REDACTED now'
    )
    assert redacted(text) == shown


def test_a_changing_signature_is_one_source() -> None:
    url = "https://b.s3.example/a.jpg?X-Amz-Credential=AK%2F{0}&X-Amz-Signature={0}"
    assert len({Item(source=url.format(number), url=url.format(number)).source for number in range(9)}) == 1


PIECES = st.sampled_from(
    [*"/:@?#&;=%\\ ", "https://", "token", "sig", "key", "a", "%3D", "%26", "%40", "%25", "u:p@h", "REDACTED"]
)


@given(st.lists(PIECES, max_size=24).map("".join))
def test_what_is_redacted_stays_so_whatever_it_was(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_password_before_the_host_never_stays(text: str) -> None:
    assert "XYZZY" not in redacted(f"https://user:XYZZY@{text}")
    assert "XYZZY" not in redacted(f"https://host/?token=XYZZY&{text}")


@pytest.mark.parametrize(
    "text",
    [
        *("https://" + "a:b" * 30_000, "https:" * 15_000, "?token=" * 12_000, "/" * 90_000, "@" * 90_000),
        *("https://h/?x=" + "%25" * 30_000, "/" + "a=b;" * 20_000, "https://a:b " * 8_000),
        *("A" * 90_000 + "key", "https://h?" + "A" * 90_000 + "key=1", "a://" * 20_000 + "@", "=" * 90_000),
    ],
)
def test_a_line_made_to_take_long_takes_no_second(text: str) -> None:
    started = time.process_time()
    redacted(text)
    assert time.process_time() - started < 1.0


def test_a_log_has_no_credentials_not_even_in_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.INFO)
    configure_logging(Settings(log_format="json"))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    handler.setStream(written)
    secret = "https://u:XYZZY@host/a?token=XYZZY"
    try:
        int(secret)
    except ValueError:
        structlog.get_logger("a").exception("item_failed", source=secret, number=1)
        logging.getLogger("b").exception("no %s", secret)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["item_failed", "no https://REDACTED@host/a?token=REDACTED"]
    assert "XYZZY" not in written.getvalue()
    structlog.reset_defaults()
