"""The system view: all up, and with a dependency that has stopped."""

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.stack import Stack, finished


def test_all_is_told_while_all_is_up(page: Page, http: httpx.Client) -> None:
    job = finished(http, http.post("/v1/jobs", json={"urls": ["no address"], "collection": "system"}))
    page.goto("/system")
    expect(page.get_by_text("Everything works")).to_be_visible()
    expect(page.locator(".tile .state")).to_have_text(["Works"] * 4)
    expect(page.locator(".stages h3")).to_contain_text(["fetch", "encode", "index"])
    expect(page.locator(".stages").get_by_text("1 worker, 1 slot")).to_have_count(3)
    expect(page.locator(".stages").get_by_text("0 items waiting")).to_have_count(3)
    expect(page.locator(".limit")).to_have_text("Nothing waits.")
    collection = page.get_by_role("row").filter(has=page.get_by_role("link", name="images", exact=True))
    expect(collection).to_contain_text("starter")
    expect(page.locator(".facts")).to_contain_text(["starter", "image-search"])
    error = page.get_by_role("row").filter(has_text="no address").first
    expect(error).to_contain_text("invalid_url")
    shot(page, "system-light")
    assert_accessible(page)
    error.get_by_role("link").click()
    expect(page).to_have_url(f"/jobs/{job['job_id']}?status=failed&collection=system")


def test_what_limits_ingestion_is_said_before_the_numbers(page: Page) -> None:
    def busy(route: Route) -> None:
        told = route.fetch().json()
        fetch = {"stage": "fetch", "waiting": 2, "running": 1, "items": 9_800, "oldest_wait_s": 75.2}
        told["jobs"]["queues"][0] = fetch
        told["ingestion"] = {
            "limited_by": "fetch",
            "detail": "Fetch limits ingestion: 9,800 items wait to be fetched.",
        }
        route.fulfill(json=told)

    page.route("**/v1/system", busy)
    page.goto("/system")
    limit = page.locator('[data-part="queues"] > div > :first-child')
    expect(limit).to_have_text("Fetch limits ingestion: 9,800 items wait to be fetched.")
    fetch = page.locator(".stages li").first
    expect(fetch).to_contain_text("1 at work, 2 chunks waiting")
    expect(fetch).to_contain_text("9,800 items waiting, the oldest chunk for 1 min 15 s")
    shot(page, "system-busy-light")
    assert_accessible(page)


def test_without_redis_it_says_what_still_works_and_what_to_do(page: Page, stack: Stack) -> None:
    page.goto("/system")
    expect(page.get_by_text("Everything works")).to_be_visible()
    with stack.paused("redis"):
        expect(page.get_by_text("Search works, new jobs cannot be taken")).to_be_visible(timeout=30_000)
        tile = page.locator(".tile").filter(has_text="Redis")
        expect(tile).to_contain_text("Does not work")
        expect(tile).to_contain_text("IMAGE_SEARCH_REDIS_URL")
        expect(page.get_by_role("link", name="images", exact=True)).to_be_visible()
        shot(page, "system-redis-down-light")
        assert_accessible(page)
    expect(page.get_by_text("Everything works")).to_be_visible(timeout=30_000)


def test_without_chroma_search_does_not_work(page: Page, stack: Stack) -> None:
    page.goto("/system")
    expect(page.get_by_text("Everything works")).to_be_visible()
    with stack.paused("chroma"):
        expect(page.get_by_text("Search does not work")).to_be_visible(timeout=30_000)
        expect(page.locator(".tile").filter(has_text="Chroma")).to_contain_text("IMAGE_SEARCH_CHROMA_URL")
        expect(page.locator(".stages h3")).to_have_count(3)
    expect(page.get_by_text("Everything works")).to_be_visible(timeout=30_000)


def test_a_key_that_may_only_search_is_told_so(page: Page, keys: dict[str, str], faults: Faults) -> None:
    faults.expect("status of 40[13]")
    page.goto("/system")
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("API key").fill(keys["both"])
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Everything works")).to_be_visible()
    page.evaluate("key => sessionStorage.setItem('image-search-key', key)", keys["search"])
    expect(page.get_by_text("This API key lacks the scope “ingest”.")).to_be_visible()


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_it_can_be_read_in_the_dark_and_on_a_phone(name: str, new_page: NewPage) -> None:
    page = new_page(**PHONE) if name == "phone" else new_page(color_scheme="dark")
    page.goto("/system")
    expect(page.locator(".tile")).to_have_count(4)
    shot(page, f"system-{name}")
    assert_accessible(page)
    assert_fits(page)


def test_the_list_of_workers_stays_unfolded_and_focused_while_the_numbers_change(page: Page) -> None:
    page.clock.install()
    asked = 0

    def busier(route: Route) -> None:
        nonlocal asked
        asked += 1
        told = route.fetch().json()
        told["jobs"]["queues"][0]["items"] = asked
        route.fulfill(json=told)

    page.route("**/v1/system", busier)
    page.goto("/system")
    summary = page.locator("details summary", has_text="workers")
    summary.click()
    before = asked
    page.clock.fast_forward(5000)
    expect(page.locator(".stages")).to_contain_text(f"{before + 1} items waiting")
    expect(page.locator("details")).to_have_attribute("open", "")
    expect(summary).to_be_focused()
