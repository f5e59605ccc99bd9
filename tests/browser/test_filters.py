"""The filter panel: counts, what a collection's own metadata offer, and names that no picture has."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Request, expect

from examples.demo.pictures import Pictures
from tests.browser.conftest import NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.pictures import NAMED
from tests.browser.search_page import cells, chips, filters, search
from tests.stack import Stack, finished

SHOPS = ("north", "south", "south", "west")


@pytest.fixture(scope="module")
def goods(stack: Stack, drawings: Pictures) -> Iterator[str]:
    """A collection of eight drawings, each with a shop, a price, a zip code that is a text, and a name."""
    files = [(f"{name}.png", (drawings.folder / f"{name}.png").read_bytes(), "image/png") for name in NAMED]
    metadata = [
        {"shop": SHOPS[n % 4], "price": n + 1, "zip": f"80{n:02}", "name": name, "sold": n % 2 == 0}
        for n, name in enumerate(NAMED)
    ]
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        body = {"metadata": json.dumps(metadata), "collection": "goods"}
        job = finished(http, http.post("/v1/jobs", files=[("files", one) for one in files], data=body))
        assert job["status"] == "succeeded", job
        yield "goods"
        assert http.delete("/v1/collections/goods").status_code == 204


def toggle(panel: Locator, group: str, value: str) -> Locator:
    return panel.get_by_role("group", name=group, exact=True).get_by_role(
        "button", name=re.compile(f"^{value}\\b")
    )


def counts(panel: Locator, group: str) -> dict[str, str]:
    buttons = panel.get_by_role("group", name=group, exact=True).get_by_role("button")
    expect(buttons.first).to_be_visible()
    return dict(one.inner_text().split() for one in buttons.all())


def conditions(request: Request) -> Any:
    return (request.post_data_json or {}).get("filters") if request.url.endswith("/v1/search") else None


def test_nothing_is_asked_of_the_metadata_until_the_panel_is_opened(page: Page, goods: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/?collection={goods}&q=animal")
    expect(cells(page).first).to_be_visible()
    assert not [url for url in asked if "metadata" in url or "facets" in url]
    with page.expect_response(re.compile(f"/v1/collections/{goods}/metadata$")):
        filters(page)


def test_counts_stand_at_tags_colours_and_the_collections_own_values(page: Page, goods: str) -> None:
    page.goto(f"/?collection={goods}")
    panel = filters(page)
    assert counts(panel, "shop") == {"south": "4", "north": "2", "west": "2"}
    assert counts(panel, "sold") == {"true": "4", "false": "4"} or counts(panel, "sold") == {
        "false": "4",
        "true": "4",
    }
    red = panel.get_by_role("button", name="red", exact=True)
    expect(red).to_have_attribute("title", re.compile(r"red: \d pictures?$"))
    shot(page, "filters-counts-light")
    assert_accessible(page)
    toggle(panel, "shop", "south").click()
    expect(page.get_by_role("button", name="Remove shop = south")).to_be_visible()
    expect(cells(page)).to_have_count(4)
    # Of a list that is filtered nobody knows the counts, and the other values stay.
    expect(toggle(panel, "shop", "north")).to_have_text("north")
    toggle(panel, "shop", "north").click()
    expect(cells(page)).to_have_count(6)
    toggle(panel, "shop", "south").click()
    toggle(panel, "shop", "north").click()
    expect(chips(page)).to_have_count(0)


def test_counts_are_of_what_the_query_finds_and_others_can_be_added(page: Page, goods: str) -> None:
    page.goto(f"/?collection={goods}&q=animal")
    panel = filters(page)
    assert counts(panel, "shop") == {"south": "4", "north": "2", "west": "2"}
    toggle(panel, "shop", "west").click()
    expect(cells(page)).to_have_count(2)
    expect(toggle(panel, "sold", "false")).to_have_text(re.compile(r"^false\s*2$"))
    expect(toggle(panel, "sold", "true")).to_have_text(re.compile(r"^true\s*0$"))
    assert counts(panel, "shop") == {"south": "4", "north": "2", "west": "2"}
    expect(toggle(panel, "shop", "west")).to_be_focused()
    tags = counts(panel, "Tags")
    assert all(count.isdigit() for count in tags.values())


def test_names_and_values_are_offered_while_one_types(page: Page, goods: str) -> None:
    page.goto(f"/?collection={goods}&q=animal")
    panel = filters(page)
    name, value = panel.get_by_label("Metadata name"), panel.get_by_label("Metadata value")
    offered = panel.locator(f"datalist#{name.get_attribute('list')} option")
    expect(offered).to_have_count(5)
    expect(offered.filter(has=page.locator("xpath=self::*[@value='price']"))).to_have_attribute(
        "label", "price · 8 pictures"
    )
    name.fill("zip")
    expect(value).to_have_attribute("placeholder", "text")
    values = panel.locator(f"datalist#{value.get_attribute('list')} option")
    expect(values).to_have_count(8)
    # All zip codes are texts, so a number is typed as one of them.
    expect(values.first).to_have_attribute("value", "8000")
    value.fill("8003")
    with page.expect_request(lambda request: bool(conditions(request))) as sent:
        panel.get_by_role("button", name="Add").click()
    assert conditions(sent.value) == {"zip": {"eq": "8003"}}
    expect(cells(page)).to_have_count(1)
    expect(page.locator(".query-notes p")).to_have_count(0)


def test_the_two_ends_of_a_range_are_one_condition(page: Page, goods: str) -> None:
    page.goto(f"/?collection={goods}")
    panel = filters(page)
    for operator, bound in (("≥", "3"), ("≤", "6"), (">", "3")):
        panel.get_by_label("Metadata name").fill("price")
        panel.get_by_label("Comparison").select_option(operator)
        panel.get_by_label("Metadata value").fill(bound)
        panel.get_by_role("button", name="Add").click()
    expect(page.get_by_role("button", name="Remove price ≤ 6, price > 3")).to_be_visible()
    expect(cells(page)).to_have_count(3)


def test_the_bound_of_what_is_explicit_reaches_the_small_scores_of_a_siglip(page: Page, goods: str) -> None:
    page.goto(f"/?collection={goods}&f=" + '{"nsfw":{"lte":0.25}}')
    bound = filters(page).get_by_role("slider", name="Explicit (nsfw), at most")
    expect(bound).to_have_attribute("aria-valuetext", "at most 0.25")
    for told in ("0.1", "0.05", "0.02", "0.01"):
        bound.press("ArrowLeft")
        expect(bound).to_have_attribute("aria-valuetext", f"at most {told}")
        expect(page).to_have_url(re.compile(rf"%22lte%22%3A{told}%7D"))
    bound.press("End")
    expect(page).to_have_url(re.compile(r"^[^%]*$"))


def test_an_unknown_name_is_said_once_beside_the_filters(page: Page, goods: str) -> None:
    notes = page.locator(".query-notes p")
    for query in ("", "&q=animal"):
        page.goto(f"/?collection={goods}{query}&f=" + '{"prise":3}')
        expect(notes).to_have_text(["No picture of this collection has prise; did you mean price?"])
        expect(page.locator(".toast")).to_have_count(0)
    shot(page, "filters-unknown-light")
    assert_accessible(page)
    page.get_by_role("button", name="Remove prise = 3").click()
    expect(notes).to_have_count(0)
    page.go_back()
    expect(notes).to_have_count(1)
    page.goto(f"/?collection={goods}&q=animal&f=" + '{"price":"3"}')
    expect(notes).to_have_text(['Price is a number in this collection; "3" is a text, so they never match.'])


def test_by_keyboard_and_on_a_phone(new_page: NewPage, phone_page: Page, goods: str) -> None:
    page = phone_page
    page.goto(f"/?collection={goods}&q=animal")
    panel = filters(page)
    assert counts(panel, "shop")["south"] == "4"
    assert_fits(page)
    for target in panel.locator("button:visible").all():
        size = target.bounding_box() or {}
        assert min(size["width"], size["height"]) >= 44, target.evaluate("element => element.outerHTML")
    panel.get_by_label("Metadata name").scroll_into_view_if_needed()
    shot(page, "filters-metadata-phone")
    dark = new_page(color_scheme="dark")
    dark.goto(f"/?collection={goods}&q=animal")
    panel = filters(dark)
    toggle(panel, "shop", "north").focus()
    dark.keyboard.press("Space")
    expect(toggle(panel, "shop", "north")).to_have_attribute("aria-pressed", "true")
    expect(toggle(panel, "shop", "north")).to_be_focused()
    panel.get_by_label("Metadata name").focus()
    dark.keyboard.type("price")
    for key in ("Tab", "ArrowDown", "ArrowDown", "Tab", "5", "Enter"):
        dark.keyboard.press(key)
    expect(dark.get_by_role("button", name="Remove price ≥ 5")).to_be_visible()
    shot(dark, "filters-metadata-dark")
    assert_accessible(dark)


def test_metadata_that_cannot_be_had_leave_the_fields(page: Page, goods: str, faults: Any) -> None:
    faults.expect("status of 503")
    problem = {"title": "x", "status": 503, "code": "index_unavailable", "detail": "Chroma is away."}
    page.route("**/metadata", lambda route: route.fulfill(status=503, json=problem, headers={
        "X-Image-Search-Version": "0", "Content-Type": "application/problem+json",
    }))  # fmt: skip
    page.goto(f"/?collection={goods}")
    panel = filters(page)
    panel.get_by_label("Metadata name").fill("shop")
    panel.get_by_label("Metadata value").fill("south")
    panel.get_by_role("button", name="Add").click()
    expect(cells(page)).to_have_count(4)
    search(page, "animal")
