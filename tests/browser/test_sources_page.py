"""The view of sources: what each did last, a sync and a dry run of it as they go, and what a dry run shows.

The fetch worker is paused meanwhile, so that a test says by the ledger what a sync has found.
"""

import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from shared.ledger.ledger import Ledger
from shared.models import ITEM_STATES, Chunk, Item, ItemState, JsonObject, Stage
from shared.sources import store
from shared.sources.definition import Run
from shared.storage.blobs import Blobs
from shared.storage.manifest import ManifestWriter
from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.stack import Stack, eventually

FEED = "http://127.0.0.1:9/feeds/shop.csv"
GONE = "http://127.0.0.1:9/old.jpg"


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    return Ledger(stack.env["IMAGE_SEARCH_REDIS_URL"])


@pytest.fixture
def shop(stack: Stack, http: httpx.Client, ledger: Ledger) -> Iterator[str]:
    """The name of a source whose last run withheld removals."""
    body = {"from": FEED, "every": "1d", "delete_missing": True, "max_delete_share": 0.001}
    assert http.put("/v1/sources/shop", json=body).status_code == 201
    now = time.time()
    counts = {ItemState.INDEXED: 5, ItemState.UPDATED: 2, ItemState.UNCHANGED: 1965, ItemState.PENDING: 0}
    detail = "893 of 2,000 known entries are missing, more than 20 %: none was removed."
    run = Run("4f0c2b7d", "partial", now - 7200, now - 7000, dict(counts), withheld=893, detail=detail)
    store.add_run(Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"]), "shop", run)
    with stack.paused("fetch"):
        yield "shop"
        if running := ledger.sources.running("shop"):
            http.delete(f"/v1/jobs/{running}")
            if last := ledger.claim(Chunk(running, 1, 1), Stage.FETCH):  # of one that was planned
                ledger.advance(last, transitions=[], complete=True)
    assert http.delete("/v1/sources/shop").status_code in (204, 404)


@pytest.fixture
def empty(http: httpx.Client) -> None:
    assert http.get("/v1/sources").json()["sources"] == []


def card(page: Page, name: str = "shop") -> Locator:
    return page.locator(".source-card").filter(has=page.get_by_role("heading", name=name, exact=True))


def begun(ledger: Ledger) -> str:
    """The id of the sync that runs, once one does."""
    eventually(lambda: ledger.sources.running("shop"))
    return str(ledger.sources.running("shop"))


def end_with(ledger: Ledger, job_id: str, result: JsonObject, *, complete: bool) -> None:
    """End a sync that has no plan: a dry run, or one whose listing broke off."""
    claim = ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert claim is not None
    assert ledger.advance(claim, transitions=[], result=result, complete=complete)


def found(ids: list[str], *, withheld: bool = False) -> JsonObject:
    entries = [{"source": f"{GONE}?{one}", "key": f"sku-{one[:4]}", "image_id": one} for one in ids]
    counts = {"added": 120, "changed": 1, "unchanged": 7, "removed": len(ids), "withheld": 0}
    added = [{"source": f"http://127.0.0.1:9/new-{n}.jpg", "key": None} for n in range(100)]
    return {
        "dry_run": True, "detail": "Nothing was changed.",
        "counts": counts | ({"removed": 0, "withheld": len(ids)} if withheld else {}),
        "added": added, "changed": [{"source": "<b>odd</b>", "key": "k"}], "removed": entries,
    }  # fmt: skip


def some_ids(http: httpx.Client) -> list[str]:
    return [one["id"] for one in http.get("/v1/images?limit=3").json()["images"]]


def test_without_a_source_it_says_how_one_is_made(page: Page, empty: None) -> None:
    page.goto("/sources")
    expect(page.get_by_text("image-search sync s3://bucket/prefix --name shop --every 1d")).to_be_visible()
    assert_accessible(page)


def test_a_source_says_what_it_is_and_how_its_last_sync_went(page: Page, shop: str) -> None:
    page.goto("/sources")
    expect(card(page)).to_contain_text("Feed or sitemap")
    expect(card(page).get_by_role("link", name=FEED)).to_be_visible()
    expect(card(page)).to_contain_text("Every day")
    expect(card(page)).to_contain_text("in 24 hours")
    expect(card(page)).to_contain_text("Is removed, at most 0.1 % at once")
    expect(card(page)).to_contain_text("Partial")
    expect(card(page).locator(".counts").first).to_have_text("5 indexed2 updated1,965 unchanged")
    expect(card(page)).to_contain_text("893 removals withheld")
    expect(card(page)).to_contain_text("none was removed")
    expect(card(page).get_by_role("link", name="2 hours ago")).to_have_attribute("href", "/jobs/4f0c2b7d")
    card(page).get_by_text("Earlier syncs").click()
    expect(card(page).locator(".runs > li")).to_have_count(1)
    shot(page, "sources-light")
    assert_accessible(page)
    page.get_by_role("link", name="images", exact=True).click()
    expect(page).to_have_url("/")


def test_a_dry_run_shows_what_would_go(page: Page, shop: str, ledger: Ledger, http: httpx.Client) -> None:
    ids = some_ids(http)
    page.goto("/sources")
    page.get_by_role("button", name="Dry run shop").click()
    expect(card(page)).to_contain_text("reading the listing")
    assert_accessible(page)
    end_with(ledger, begun(ledger), found(ids), complete=True)
    expect(card(page)).to_contain_text("A sync would add 120, change 1 and remove 3; 7 unchanged.")
    expect(card(page).locator(".going img")).to_have_count(3)
    expect(card(page).get_by_role("link", name=f"Open sku-{ids[0][:4]}")).to_have_attribute(
        "href", f"/?image={ids[0]}"
    )
    card(page).locator(".going").scroll_into_view_if_needed()
    shot(page, "sources-dry-run-light")
    card(page).get_by_text("Would be added: 120").click()
    expect(card(page).get_by_role("link", name="http://127.0.0.1:9/new-0.jpg")).to_be_visible()
    expect(card(page)).to_contain_text("and 20 more")
    card(page).get_by_text("Would be changed: 1").click()
    expect(card(page).get_by_text("<b>odd</b>")).to_be_visible()
    assert_accessible(page)
    card(page).locator(".job").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shop · Sync into images")
    expect(page.locator(".going img")).to_have_count(3)
    expect(page.locator(".facts").get_by_role("link", name="By the source “shop”")).to_be_visible()


def test_removals_that_would_be_withheld_can_be_made_all_the_same(
    page: Page, shop: str, ledger: Ledger, http: httpx.Client
) -> None:
    page.goto("/sources")
    page.get_by_role("button", name="Dry run shop").click()
    end_with(ledger, begun(ledger), found(some_ids(http), withheld=True), complete=True)
    expect(card(page)).to_contain_text("3 removals would be withheld")
    expect(card(page)).to_contain_text("Missing, but kept: 3")
    page.get_by_role("button", name="Sync, and remove all 3… shop").click()
    dialog = page.get_by_role("dialog", name="Please confirm")
    expect(dialog).to_contain_text("remove the 3 that its listing has no longer")
    with page.expect_request("**/v1/sources/shop/sync") as asked:
        dialog.get_by_role("button", name="Sync and remove").click()
    assert asked.value.post_data_json == {"max_delete_share": 1}
    expect(card(page)).to_contain_text("reading the listing")


def test_a_sync_is_followed_with_its_counts(page: Page, shop: str, ledger: Ledger, stack: Stack) -> None:
    page.goto("/sources")
    page.get_by_role("button", name="Sync now shop").click()
    job_id = begun(ledger)
    expect(card(page).locator(".job .status")).to_have_text("Queued")
    states = [ItemState.UNCHANGED] * 4 + [ItemState.UPDATED] * 2 + [ItemState.REMOVED, ItemState.PENDING]
    claim = ledger.claim(Chunk(job_id, 0, 0), Stage.FETCH)
    assert claim is not None
    manifest = ManifestWriter(Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"]), job_id)
    for number in range(len(states)):
        manifest.add(Item(source=f"{GONE}?{number}"))
    manifest.flush()
    assert ledger.plan(claim, "".join(str(ITEM_STATES.index(state)) for state in states))
    expect(card(page).locator(".job .counts")).to_have_text("4 unchanged2 updated1 removed")
    expect(card(page).get_by_text("7 of 8")).to_be_visible()
    card(page).locator(".job").get_by_role("link").first.click()
    expect(page).to_have_url(f"/jobs/{job_id}")
    expect(page.locator(".job .counts")).to_have_text("4 unchanged2 updated1 removed")
    page.get_by_label("Which items").select_option("removed")
    expect(page.locator(".items tbody tr")).to_have_text([f"6{GONE}?6removed0"])
    page.goto("/jobs")
    row = page.locator(f'.jobs tr:has(a[href="/jobs/{job_id}"])')
    expect(row).to_contain_text("shop · Sync into images")
    expect(row).to_contain_text("By the source “shop”")


def test_a_second_sync_is_refused_in_a_sentence(
    page: Page, shop: str, ledger: Ledger, http: httpx.Client, faults: Faults
) -> None:
    faults.expect("status of 409")
    running = http.post("/v1/sources/shop/sync").json()["job_id"]
    page.goto("/sources")
    expect(card(page).locator(".job").get_by_role("link").first).to_have_attribute("href", f"/jobs/{running}")
    page.get_by_role("button", name="Dry run shop").click()
    expect(card(page).get_by_role("alert")).to_contain_text(running)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(card(page).locator(".job .status")).to_have_text("Cancelled")


def test_a_listing_that_broke_off_says_why(page: Page, shop: str, ledger: Ledger) -> None:
    page.goto("/sources")
    page.get_by_role("button", name="Sync now shop").click()
    end_with(ledger, begun(ledger), {"detail": "The feed broke off after 12 rows."}, complete=False)
    expect(card(page).locator(".job .status")).to_have_text("Failed")
    expect(card(page).locator(".job")).to_contain_text("The feed broke off after 12 rows.")


def test_it_is_used_by_keyboard_and_says_what_it_does(
    page: Page, shop: str, ledger: Ledger, http: httpx.Client
) -> None:
    page.goto("/sources")
    button = page.get_by_role("button", name="Dry run shop")
    button.focus()
    page.keyboard.press("Enter")
    end_with(ledger, begun(ledger), found(some_ids(http)), complete=True)
    expect(card(page).locator(".going img")).to_have_count(3)
    expect(button).to_be_focused()
    expect(card(page).get_by_role("status").filter(has_text="Succeeded")).to_have_count(1)


def test_a_source_that_is_deleted_leaves_the_list(page: Page, shop: str, http: httpx.Client) -> None:
    page.goto("/sources")
    expect(card(page)).to_be_visible()
    assert http.delete("/v1/sources/shop").status_code == 204
    expect(card(page)).to_have_count(0)


def test_a_key_without_the_scope_is_told_so(page: Page, keys: dict[str, str], faults: Faults) -> None:
    faults.expect("status of 40[13]")
    page.goto("/")
    page.evaluate("key => sessionStorage.setItem('image-search-key', key)", keys["both"])
    page.goto("/sources")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_contain_text("This API key lacks the scope “admin”.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main")).to_contain_text("This API key lacks the scope “admin”.")


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_it_can_be_read_in_the_dark_and_on_a_phone(
    name: str, new_page: NewPage, shop: str, ledger: Ledger, http: httpx.Client
) -> None:
    page = new_page(**PHONE) if name == "phone" else new_page(color_scheme="dark")
    page.goto("/sources")
    page.get_by_role("button", name="Dry run shop").click()
    end_with(ledger, begun(ledger), found(some_ids(http), withheld=True), complete=True)
    expect(card(page).locator(".going img")).to_have_count(3)
    shot(page, f"sources-{name}")
    assert_accessible(page)
    assert_fits(page)
