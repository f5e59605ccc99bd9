import pytest

from shared.config import load_settings
from shared.errors import ConfigError
from shared.urls.origins import check_origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:1",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "http://under_score.example:65535",
    ],
)
def test_an_origin_as_browsers_send_it_is_taken_as_it_is(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("*", "name each origin"),
        ("https://*.example.com", "name each origin"),
        ("null", "name each origin"),
        ("https://shop.example.com/", "write https://shop.example.com"),
        ("https://shop.example.com/app?x#y", "write https://shop.example.com"),
        ("https://shop.example.com:443", "write https://shop.example.com"),
        ("http://shop.example.com:080", "write http://shop.example.com"),
        ("HTTPS://Shop.Example.com", "write https://shop.example.com"),
        ("https://user:word@shop.example.com", "write https://shop.example.com"),
        ("https://bücher.example", "write https://xn--bcher-kva.example"),
        ("http://[0:0::1]:80", r"write http://\[::1\]"),
        ("shop.example.com", "is no origin"),
        ("localhost:3000", "is no origin"),
        ("//shop.example.com", "begins with http"),
        ("ftp://shop.example.com", "begins with http"),
        ("file:///", "is no origin"),
        ("https://", "is no origin"),
        ("https://a b", "is no origin"),
        ("https://shop.example.com:99999", "is no origin"),
        ("http://127.1", "is no origin"),
        ("http://[", "is no origin"),
    ],
)
def test_anything_else_stops_the_start_and_is_told_what_to_write(
    monkeypatch: pytest.MonkeyPatch, text: str, advice: str
) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_ALLOW_ORIGINS", f"http://localhost:3000, {text}")
    with pytest.raises(ConfigError, match=rf"^IMAGE_SEARCH_ALLOW_ORIGINS: .*{advice}") as raised:
        load_settings()
    assert "\n" not in raised.value.detail
