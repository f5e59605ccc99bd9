"""The header as tests use it: where one is, and how one goes to another collection."""

import re

from playwright.sync_api import Locator, Page, expect


def collection(page: Page) -> Locator:
    """The button that says which collection is shown, and opens the menu of all."""
    return page.get_by_role("banner").get_by_role("button", name=re.compile("^Collection: "))


def menu(page: Page) -> Locator:
    """The open menu, once it has the collections."""
    opened = page.get_by_role("dialog", name="Collections")
    if not opened.is_visible():
        collection(page).click()
    expect(opened.get_by_role("link").nth(1)).to_be_visible()
    return opened


def choose(page: Page, name: str) -> None:
    menu(page).get_by_role("link", name=re.compile(f"^{re.escape(name)}\\b")).click()
    expect(collection(page)).to_have_accessible_name(f"Collection: {name}")


def make(page: Page, name: str) -> None:
    """Makes a collection there, unless an earlier try of the test has, and is in it."""
    if menu(page).get_by_role("link", name=re.compile(f"^{re.escape(name)}\\b")).count():
        choose(page, name)
        return
    menu(page).get_by_role("button", name="New collection…").click()
    dialog = page.get_by_role("dialog", name="New collection")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Create").click()
    expect(collection(page)).to_have_accessible_name(f"Collection: {name}")
