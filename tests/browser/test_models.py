"""Models on the page: each collection's own, one for a new collection, and one that is not there yet."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.header import choose, collection, menu
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import box, cells
from tests.browser.test_collections import fill
from tests.checkpoints import tiny_checkpoint
from tests.stack import Stack

REFUSAL = {
    "type": "about:blank", "title": "Model is loading", "status": 503, "code": "model_not_ready",
    "detail": "The model is still being downloaded.",
}  # fmt: skip
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE | {"viewport": {"width": 360, "height": 740}},
}


@pytest.fixture(scope="module")
def other(stack: Stack) -> str:
    """The folder of a checkpoint that a collection may be of."""
    folder = Path(stack.env["IMAGE_SEARCH_MODELS_FOLDER"]) / "other"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        tiny_checkpoint(folder, seed=1)
    return str(folder)


class NotReady:
    """Refuses to search, and says that the model is being downloaded."""

    def __init__(self, page: Page, model: str) -> None:
        self.is_there = False
        self.refused = 0
        self._model = model
        page.route("**/v1/search", self._answer)
        page.route("**/v1/models", self._list)

    def _answer(self, route: Route) -> None:
        if self.is_there:
            route.continue_()
            return
        self.refused += 1
        route.fulfill(
            status=503, json=REFUSAL, headers={"Retry-After": "1"}, content_type="application/problem+json"
        )

    def _list(self, route: Route) -> None:
        answer: dict[str, Any] = route.fetch().json()
        others = [one for one in answer["models"] if one["name"] != self._model]
        unknown = dict.fromkeys(("kind", "dimension", "languages", "detail"))
        mine = {"name": self._model, "state": "downloading", "progress": 0.42, **unknown}
        route.fulfill(json={"models": [mine, *others] if not others else [others[0], mine, *others[1:]]})


def new_collection(page: Page, name: str, model: str) -> Any:
    """The dialog, filled in."""
    menu(page).get_by_role("button", name="New collection…").click()
    dialog = page.get_by_role("dialog", name="New collection")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Model").fill(model)
    return dialog


def test_a_collection_is_made_of_another_model_and_shown_with_it(
    page: Page, http: httpx.Client, faults: Faults, other: str
) -> None:
    faults.expect("status of 503")
    http.delete("/v1/collections/of-another")
    page.goto("/")
    dialog = new_collection(page, "of-another", f" {other} ")
    expect(dialog.get_by_label("Model")).to_have_attribute("placeholder", "The server's default: starter")
    assert dialog.locator("datalist option").first.get_attribute("value") == "starter"
    shot(page, "collection-of-a-model-light")
    assert_accessible(page)
    dialog.get_by_role("button", name="Create").click()
    expect(collection(page)).to_have_accessible_name("Collection: of-another")
    assert http.get("/v1/collections/of-another").json()["model"] == other
    fill(http, "of-another", 311, 312)
    listed = menu(page)
    expect(listed.get_by_role("link", name="images")).to_contain_text("starter")
    expect(listed.get_by_role("link", name="of-another")).to_contain_text(other)
    shot(page, "collections-menu-models-light")
    assert_accessible(page)
    choose(page, "of-another")
    box(page).fill("a photo")
    box(page).press("Enter")  # by itself, once the model is loaded
    expect(cells(page)).to_have_count(2)
    page.goto("/system#collections")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="of-another", exact=True))
    expect(row).to_contain_text(other)
    expect(row).not_to_contain_text("cannot be searched")
    models = page.get_by_role("region", name="Models", exact=True)
    expect(models.get_by_role("row").filter(has_text=other)).to_contain_text("loaded")
    shot(page, "system-models-light")
    assert_accessible(page)
    http.delete("/v1/collections/of-another")


def test_what_the_server_says_of_a_model_that_cannot_be_taken_is_shown(page: Page, faults: Faults) -> None:
    faults.expect("status of 422")
    page.goto("/")
    dialog = new_collection(page, "refused", "/etc")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("The model's folder must be below")
    dialog.get_by_label("Model").fill("")
    dialog.get_by_role("button", name="Cancel").click()
    expect(collection(page)).to_have_accessible_name("Collection: images")


@pytest.mark.parametrize("look", LOOKS)
def test_a_search_is_shown_once_its_model_is_there(look: str, new_page: NewPage, faults: Faults) -> None:
    faults.expect("status of 503")
    page = new_page(**LOOKS[look])
    model = NotReady(page, "starter")
    page.goto("/?q=boat")
    notice = page.get_by_role("status").filter(has_text="The model is not ready yet")
    expect(notice).to_contain_text("The model is still being downloaded.")
    main = page.get_by_role("main")
    expect(main.get_by_text("starter: being downloaded, 42 %")).to_be_visible()
    expect(main.get_by_role("progressbar")).to_have_attribute("value", "0.42")
    shot(page, f"search-model-{look}")
    assert_accessible(page)
    assert_fits(page)
    page.wait_for_timeout(2500)
    expect(notice).to_be_visible()  # it asks again and again
    assert model.refused > 1
    model.is_there = True
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")
    expect(notice).to_have_count(0)


def test_who_goes_elsewhere_is_not_held_up_by_a_model(page: Page, faults: Faults) -> None:
    faults.expect("status of 503")
    model = NotReady(page, "starter")
    page.goto("/?q=boat")
    expect(page.get_by_text("The model is not ready yet")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.wait_for_timeout(1500)
    asked = model.refused
    page.wait_for_timeout(2000)
    assert model.refused == asked


@pytest.mark.parametrize("look", ["dark", "phone"])
def test_a_new_collection_says_how_far_its_model_is(
    look: str, new_page: NewPage, http: httpx.Client, other: str
) -> None:
    name = f"waits-{look}"
    http.delete(f"/v1/collections/{name}")
    page = new_page(**LOOKS[look])
    NotReady(page, other)
    page.goto("/")
    dialog = new_collection(page, name, other)
    shot(page, f"collection-of-a-model-{look}")
    assert_accessible(page)
    assert_fits(page)
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=f"No pictures in “{name}” yet")).to_be_visible()
    expect(page.get_by_role("main").get_by_text(f"{other}: being downloaded, 42 %")).to_be_visible()
    shot(page, f"collection-empty-model-{look}")
    assert_accessible(page)
    assert_fits(page)
    page.goto("/system#collections")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("being downloaded, 42 %")
    shot(page, f"system-models-{look}")
    assert_accessible(page)
    assert_fits(page)
    http.delete(f"/v1/collections/{name}")


def test_another_model_needs_a_key_for_it(
    page: Page, keys: dict[str, str], faults: Faults, other: str
) -> None:
    faults.expect("status of 40[13]")
    page.goto("/")
    page.evaluate("key => sessionStorage.setItem('image-search-key', key)", keys["both"])
    page.goto("/")
    if (asked := page.get_by_role("dialog", name="Sign in")).is_visible():
        asked.get_by_role("button", name="Cancel").click()
    dialog = new_collection(page, "not-for-me", other)
    dialog.get_by_role("button", name="Create").click()
    asked = page.get_by_role("dialog", name="Sign in")
    expect(asked).to_contain_text("admin")
    asked.get_by_role("button", name="Cancel").click()
    expect(dialog.get_by_role("alert")).to_contain_text(re.compile("scope .admin."))
    assert_accessible(page)
