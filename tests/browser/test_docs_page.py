"""/docs in a browser: swagger's own scripts and styles get along with the server's policy."""

from playwright.sync_api import Page, expect

from tests.browser.looks import shot


def test_the_api_is_shown_and_nothing_is_refused(page: Page) -> None:
    page.goto("/docs")
    expect(page.get_by_text("/v1/search", exact=True).first).to_be_visible()
    shot(page, "docs")
