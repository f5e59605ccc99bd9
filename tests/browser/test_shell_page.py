"""The shell around the views: signing in, the theme, the help, moving between views."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Faults
from tests.browser.looks import assert_accessible, shot
from tests.browser.search_page import cells
from tests.image_server import make_photo
from tests.stack import Stack, finished


def test_a_key_is_asked_for_where_keys_are_on_and_opens_the_page(
    page: Page, stack: Stack, key: str, faults: Faults
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        files = [("files", (f"{n}.jpg", make_photo(n, 120, 90), "image/jpeg")) for n in (81, 82)]
        finished(http, http.post("/v1/jobs", files=files, data={"collection": "signed"}))
    faults.expect("status of 401")
    page.goto("/?collection=signed")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    expect(dialog).to_have_count(1)
    shot(page, "sign-in")
    assert_accessible(page)
    dialog.get_by_label("API key").fill("isk_000000000000_" + "A" * 43)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_contain_text("not known")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Sign in").click()
    expect(cells(page)).to_have_count(2)
    expect(page.locator(".cell img.loaded")).to_have_count(2)
    assert (page.locator(".cell img").first.get_attribute("src") or "").startswith("blob:")
    assert page.evaluate("localStorage.length") == 0, "kept for this window only"
    page.reload()
    expect(cells(page)).to_have_count(2)
    page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_be_visible()
    expect(cells(page)).to_have_count(0)
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_label("Remember it on this device").check()
    dialog.get_by_role("button", name="Sign in").click()
    expect(cells(page)).to_have_count(2)
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [1, 0]


def test_who_does_not_sign_in_is_told_what_is_missing(page: Page, key: str, faults: Faults) -> None:
    assert key
    faults.expect("status of 401")
    page.goto("/")
    page.get_by_role("dialog", name="Sign in").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("API key")
    page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()


def test_without_keys_nobody_is_asked_to_sign_in(page: Page) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Sign"))).to_have_count(0)


def test_a_chosen_theme_stays(page: Page) -> None:
    page.goto("/")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(background) == light
    assert page.evaluate("localStorage.length") == 0


def test_views_are_a_key_or_a_click_away_and_back_works(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("?")
    help_dialog = page.get_by_role("dialog", name="Keyboard")
    expect(help_dialog).to_contain_text("to the search box")
    assert_accessible(page)
    shot(page, "shortcuts")
    page.keyboard.press("Escape")
    expect(help_dialog).to_have_count(0)
    for letter, path, name in (
        ("a", "/ingest", "Add"), ("o", "/sources", "Sources"),
        ("j", "/jobs", "Jobs"), ("y", "/system", "System"),
    ):  # fmt: skip
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page).to_have_url(re.compile(f"{path}$"))
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page).to_have_url(re.compile("/jobs$"))
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()


def test_the_page_can_be_installed(page: Page) -> None:
    page.goto("/")
    session = page.context.new_cdp_session(page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [error["errorId"] for error in errors] == ["in-incognito"], "as every window of a test is"
