"""The search view as tests use it."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect


def box(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="Search for")


def search(page: Page, words: str) -> dict[str, Any]:
    """Types and presses Enter; the answer that is shown then."""
    with page.expect_response(lambda response: response.url.endswith("/v1/search")) as answered:
        box(page).fill(words)
        box(page).press("Enter")
    answer: dict[str, Any] = answered.value.json()
    shows(page, answer)
    return answer


def shows(page: Page, answer: dict[str, Any]) -> None:
    """Waits until the first results of an answer are the first cells."""
    for place, result in enumerate(answer["results"][:3]):
        link = cells(page).nth(place).get_by_role("link")
        expect(link).to_have_attribute("href", re.compile(f"image={result['id']}"))


def cells(page: Page) -> Locator:
    return page.get_by_role("list", name="Results").get_by_role("listitem")


def cell(page: Page, name: str) -> Locator:
    return cells(page).filter(has=page.locator(".name", has_text=re.compile(f"^{re.escape(name)}$")))


def chips(page: Page) -> Locator:
    return page.get_by_role("list", name="The query").get_by_role("button", name=re.compile("^Remove "))


def detail(page: Page) -> Locator:
    return page.locator("dialog.detail")


def filters(page: Page) -> Locator:
    """The open panel."""
    panel = page.get_by_role("dialog", name="Filters")
    if not panel.is_visible():
        page.get_by_role("search").get_by_role("button", name=re.compile("^Filters")).click()
    return panel
