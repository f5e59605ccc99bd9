"""The documentation's pages in a browser: they get along with the server's policy, in any light and width."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot


def test_the_api_is_shown_and_nothing_is_refused(page: Page) -> None:
    page.goto("/docs")
    expect(page.get_by_text("/v1/search", exact=True).first).to_be_visible()
    shot(page, "docs")
    page.get_by_role("link", name="Errors").click()
    expect(page.get_by_role("heading", name="Errors")).to_be_visible()


def test_the_page_of_errors_says_of_each_code_what_to_do(new_page: NewPage) -> None:
    for name, options in {
        "light": {"color_scheme": "light"},
        "dark": {"color_scheme": "dark"},
        "phone": PHONE,
    }.items():
        page = new_page(**options)
        page.goto("/docs/errors")
        assert_accessible(page)
        assert_fits(page)
        shot(page, f"errors-{name}")
        page.goto("/docs/errors#blocked_address")
        row = page.get_by_role("row", name="blocked_address")
        expect(row).to_be_in_viewport()
        expect(row).to_contain_text("IMAGE_SEARCH_ALLOW_HOSTS")
        shot(page, f"errors-{name}-picture")


def test_the_page_of_errors_follows_the_theme_that_was_chosen(page: Page) -> None:
    page.goto("/docs/errors")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
