"""Where a link or a click leads nowhere: what is wrong is said once, and there is a way on."""

import re

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from examples.demo.pictures import Pictures
from tests.browser.conftest import Faults, NewPage
from tests.browser.gestures import drop
from tests.browser.header import choose, collection
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import cells, chips, detail
from tests.browser.test_collections import fill, names


def test_a_link_to_a_picture_of_somebodys_device_asks_to_drop_it_again(
    page: Page, new_page: NewPage, drawings: Pictures
) -> None:
    page.goto("/?q=red")
    page.locator("input[type=file]").set_input_files(drawings.folder / "automobile.png")
    expect(cells(page).first.locator(".name")).to_have_text("automobile.png")
    other = new_page()
    asked: list[str] = []
    other.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    other.goto(page.url)
    said = other.get_by_role("alert")
    expect(said).to_contain_text("A picture of this search is not here")
    expect(said).to_contain_text("Drop it here again", use_inner_text=True)
    expect(cells(other)).to_have_count(0)
    assert not asked, "without the picture it would be another search"
    shot(other, "dead-end-picture-light")
    assert_accessible(other)
    drop(other.get_by_role("search"), [drawings.folder / "automobile.png"])
    expect(cells(other).first.locator(".name")).to_have_text("automobile.png")
    expect(chips(other)).to_have_count(2)
    expect(said).to_have_count(0)
    page.reload()
    with page.expect_file_chooser():
        page.get_by_role("button", name="Choose the picture").click()
    page.get_by_role("button", name="Search without it").click()
    expect(page).to_have_url(re.compile(r"/\?q=red$"))
    expect(cells(page).first).to_be_visible()


def test_on_a_phone_pictures_are_chosen_not_dropped(phone_page: Page) -> None:
    phone_page.goto("/?picture=abc")
    main = phone_page.get_by_role("main")
    expect(main.get_by_role("alert")).to_contain_text("Choose it again", use_inner_text=True)
    phone_page.get_by_role("button", name="Search without it").tap()
    expect(main).to_contain_text("or choose a picture that looks like it", use_inner_text=True)
    phone_page.goto("/ingest")
    expect(main).to_contain_text("Choose pictures from this device", use_inner_text=True)
    assert "Drop" not in main.inner_text()
    assert_fits(phone_page)


@pytest.mark.parametrize("name", ["never-made", "<img src=x onerror=alert(1)>"])
def test_an_unknown_collection_is_a_page_with_ways_on(page: Page, faults: Faults, name: str) -> None:
    faults.expect("status of 4(04|22)")
    page.goto(f"/?{httpx.QueryParams({'q': 'boat', 'collection': name})}")
    said = page.get_by_role("alert")
    expect(said).to_contain_text(f"There is no collection “{name}”")
    expect(page.get_by_role("button", name="Create it…")).to_have_count(int(name == "never-made"))
    shot(page, "dead-end-collection-light")
    assert_accessible(page)
    said.get_by_role("link", name=re.compile("^images")).click()
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_an_unknown_collection_can_be_made(page: Page, http: httpx.Client, faults: Faults) -> None:
    faults.expect("status of 404")
    page.goto("/?collection=made-after-all")
    page.get_by_role("button", name="Create it…").click()
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="No pictures in “made-after-all” yet")).to_be_visible()
    assert "made-after-all" in names(http)


def test_a_collection_that_another_browser_deleted_is_said_to_be_gone(
    page: Page, http: httpx.Client, faults: Faults
) -> None:
    fill(http, "short-lived", 401)
    page.goto("/?collection=short-lived")
    expect(cells(page)).to_have_count(1)
    http.delete("/v1/collections/short-lived")
    faults.expect("status of 404")
    page.get_by_role("searchbox").fill("boat")
    expect(page.get_by_role("alert")).to_contain_text("There is no collection “short-lived”")
    expect(page.get_by_role("alert")).to_have_count(1)
    choose(page, "images")
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_a_collection_of_which_all_is_hidden_is_not_said_to_be_empty(page: Page) -> None:
    """As with NSFW_MAX, which this stack does not have."""

    def hide(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"results": []})

    page.route("**/v1/search*", hide)
    page.goto("/?q=boat")
    expect(page.get_by_role("heading", name="No picture in “images” is shown")).to_be_visible()
    expect(page.locator(".nothing")).to_contain_text(
        re.compile(r"It has \d+ pictures: .*IMAGE_SEARCH_NSFW_MAX")
    )
    assert_accessible(page)


def test_a_link_to_another_collections_picture_says_where_it_is(
    page: Page, http: httpx.Client, faults: Faults
) -> None:
    (image,) = fill(http, "its-home", 402)
    faults.expect("status of 404")
    page.goto(f"/?image={image}")
    expect(detail(page).get_by_role("alert")).to_contain_text("does not have this picture")
    shot(page, "dead-end-detail-light")
    detail(page).get_by_role("link", name="its-home").click()
    expect(detail(page).get_by_role("heading", name="photo-402.jpg")).to_be_visible()
    expect(page).to_have_url(re.compile(f"image={image}&collection=its-home$"))
    for term in ("more", "less"):
        page.goto(f"/?q=boat&{term}={image}")
        said = page.get_by_role("alert")
        expect(said).to_contain_text("A picture of this search is not here")
        expect(said.get_by_role("link", name="its-home")).to_have_attribute(
            "href", f"/?q=boat&{term}={image}&collection=its-home"
        )
    assert_accessible(page)
    said.get_by_role("link", name="Search without it").click()
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_a_picture_that_no_collection_has_is_said_to_be_missing(page: Page, faults: Faults) -> None:
    faults.expect("status of 404")
    page.goto(f"/?more={'0' * 64}")
    said = page.get_by_role("alert")
    expect(said).to_contain_text("The search asks for the picture 0000000000000000…")
    page.wait_for_load_state("networkidle")
    expect(said.get_by_text("It is in")).to_have_count(0)


@pytest.mark.parametrize("path", ["/search", "/jobs/a/b", "/<img src=x onerror=alert(1)>", "/static/none.js"])
def test_an_unknown_page_is_a_page_with_ways_on(page: Page, faults: Faults, path: str) -> None:
    faults.expect("status of 404")
    response = page.goto(f"{path}?collection=images")
    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("main").get_by_role("link", name="Search images").click()
    expect(cells(page).first).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_an_unknown_job_leads_to_the_others_and_a_known_one_says_where_it_is(
    page: Page, http: httpx.Client, faults: Faults
) -> None:
    faults.expect("status of 404")
    fill(http, "job-s-own", 403)
    job = http.get("/v1/jobs").json()["jobs"][0]["job_id"]
    page.goto("/jobs/4f0c?collection=job-s-own")
    said = page.get_by_role("alert")
    expect(said.get_by_role("heading", name="There is no such job")).to_be_visible()
    assert_accessible(page)
    said.get_by_role("link", name="All jobs").click()
    expect(page).to_have_url(re.compile(r"/jobs\?collection=job-s-own$"))
    page.goto(f"/jobs/{job}")
    expect(collection(page)).to_have_accessible_name("Collection: job-s-own")
    expect(page.get_by_role("heading", name="Items")).to_be_visible()
    expect(page).to_have_url(re.compile(f"/jobs/{job}\\?collection=job-s-own$"))


@pytest.mark.parametrize("path", ["/", "/?q=boat", "/jobs", "/jobs/4f0c", "/system"])
def test_a_failure_of_the_server_is_said_once(page: Page, faults: Faults, path: str) -> None:
    faults.expect("status of 500")
    problem = {"title": "Internal error", "status": 500, "code": "internal", "detail": "It broke."}

    def fail(route: Route) -> None:
        route.fulfill(status=500, content_type="application/problem+json", json=problem)

    page.route("**/v1/**", fail)
    page.goto(path)
    expect(page.get_by_text("It broke.")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("It broke.")).to_have_count(1)


def test_each_key_of_a_shortcut_has_a_cap_of_its_own(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("?")
    caps = page.get_by_role("dialog", name="Keyboard").locator("dt kbd")
    assert {"g", "s", "a", "j", "y"} <= set(caps.all_inner_texts())
    assert not [cap for cap in caps.all_inner_texts() if " " in cap]
    expect(collection(page)).to_be_visible()
