"""Collections on the page: which one is shown, how one goes to another, makes, exports and deletes one."""

import json
import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Faults, NewPage
from tests.browser.header import choose, collection, make, menu
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import box, cells, chips, search
from tests.image_server import make_photo
from tests.stack import finished


def fill(http: httpx.Client, name: str, *numbers: int) -> list[str]:
    """Brings photos into a collection; their ids."""
    files = [("files", (f"photo-{n}.jpg", make_photo(n, 120, 90), "image/jpeg")) for n in numbers]
    finished(http, http.post("/v1/jobs", files=files, data={"collection": name}))
    return [image["id"] for image in http.get("/v1/images", params={"collection": name}).json()["images"]]


def names(http: httpx.Client) -> set[str]:
    return {one["name"] for one in http.get("/v1/collections").json()["collections"]}


def test_the_header_says_which_collection_is_shown_and_leads_to_another(
    page: Page, http: httpx.Client
) -> None:
    fill(http, "north", 301, 302)
    page.goto("/")
    expect(collection(page)).to_have_accessible_name("Collection: images")
    search(page, "a photo")
    listed = menu(page)
    expect(listed.locator("[aria-current]")).to_have_text(re.compile("^images"))
    expect(listed.get_by_role("link", name="north 2")).to_be_visible()
    shot(page, "collections-menu-light")
    assert_accessible(page)
    choose(page, "north")
    expect(page).to_have_url(re.compile(r"/\?q=a\+photo&collection=north$"))
    expect(cells(page)).to_have_count(2)
    expect(box(page)).to_have_value("a photo")
    page.go_back()
    expect(collection(page)).to_have_accessible_name("Collection: images")


def test_links_and_keys_stay_in_the_collection(page: Page, http: httpx.Client) -> None:
    fill(http, "carried", 303)
    page.goto("/?collection=carried")
    expect(cells(page)).to_have_count(1)
    for name, path in (("Add", "/ingest"), ("Jobs", "/jobs"), ("System", "/system"), ("Search", "/")):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(rf"{path}\?collection=carried$"))
        expect(collection(page)).to_have_accessible_name("Collection: carried")
    for letter, path in (("a", "/ingest"), ("j", "/jobs"), ("y", "/system"), ("s", "/")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page).to_have_url(re.compile(rf"{path}\?collection=carried$"))
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    page.keyboard.press("/")
    expect(cells(page)).to_have_count(1)
    page.get_by_role("banner").get_by_role("link", name="image-search").click()
    expect(page).to_have_url(re.compile(r"/\?collection=carried$"))
    expect(page.get_by_role("banner").get_by_role("link", name="API")).to_have_attribute("href", "/docs")


def test_what_is_of_one_collection_is_left_behind(page: Page, http: httpx.Client) -> None:
    (wanted,) = fill(http, "left-behind", 304)
    job = http.get("/v1/jobs").json()["jobs"][0]["job_id"]
    asked = {"f": json.dumps({"job": job, "width": {"gte": 1}}), "more": wanted}
    page.goto(f"/?{httpx.QueryParams(asked)}&collection=left-behind&image={wanted}")
    page.goto(f"/?{httpx.QueryParams(asked)}&collection=left-behind")
    choose(page, "images")
    expect(page).to_have_url(re.compile(r"/\?f=%7B%22width%22%3A%7B%22gte%22%3A1%7D%7D$"))
    expect(chips(page)).to_have_count(1)
    page.goto(f"/jobs/{job}?collection=left-behind")
    choose(page, "images")
    expect(page).to_have_url(re.compile("/jobs$"))


def test_a_collection_is_made_in_the_header(page: Page, http: httpx.Client, faults: Faults) -> None:
    page.goto("/?q=boat")
    menu(page).get_by_role("button", name="New collection…").click()
    dialog = page.get_by_role("dialog", name="New collection")
    assert_accessible(page)
    for refused in ("a b", "-a", "a/b", "x" * 64, ""):
        dialog.get_by_label("Name").fill(refused)
        dialog.get_by_role("button", name="Create").click()
        assert dialog.get_by_label("Name").evaluate("field => !field.validity.valid")
    faults.expect("status of 409")
    dialog.get_by_label("Name").fill("images")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("exists already")
    dialog.get_by_label("Name").fill(" south ")
    dialog.get_by_label("Name").press("Enter")
    expect(page).to_have_url(re.compile(r"/\?q=boat&collection=south$"))
    expect(page.get_by_role("heading", name="No pictures in “south” yet")).to_be_visible()
    expect(collection(page)).to_be_focused()
    assert "south" in names(http)
    menu(page).get_by_role("button", name="New collection…").click()
    dialog.get_by_label("Name").fill("images")
    dialog.get_by_role("button", name="Create").click()
    dialog.get_by_role("button", name="Go to images").click()
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_the_menu_works_by_keyboard_on_a_phone_and_with_a_long_name(
    page: Page, phone_page: Page, http: httpx.Client
) -> None:
    name = "x" * 63
    http.post("/v1/collections", json={"name": name})
    page.goto("/")
    collection(page).focus()
    page.keyboard.press("Enter")
    expect(menu(page).locator("[aria-current]")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(menu(page).locator("[aria-current]")).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(collection(page)).to_be_focused()
    phone_page.set_viewport_size({"width": 360, "height": 740})
    phone_page.goto("/")
    expect(cells(phone_page).first).to_be_visible()
    assert (
        collection(phone_page).locator(".ellipsis").evaluate("name => name.scrollWidth <= name.clientWidth")
    )
    opened = menu(phone_page).bounding_box()
    assert opened and opened["x"] >= 0
    phone_page.goto(f"/?collection={name}")
    choose(phone_page, name)
    assert_fits(phone_page)
    menu(phone_page)
    shot(phone_page, "collections-menu-phone")
    assert_accessible(phone_page)
    assert_fits(phone_page)
    phone_page.goto(f"/ingest?collection={name}")
    phone_page.get_by_label("Or paste URLs").fill("http://example.com/a.jpg")
    expect(phone_page.get_by_role("button", name=f"Add 1 picture to {name}")).to_be_visible()
    assert_fits(phone_page)
    http.delete(f"/v1/collections/{name}")


def test_an_empty_collection_names_those_that_are_not(page: Page, http: httpx.Client) -> None:
    fill(http, "full", 305)
    http.post("/v1/collections", json={"name": "bare"})
    page.goto("/?q=boat&collection=bare")
    expect(page.get_by_role("heading", name="No pictures in “bare” yet")).to_be_visible()
    main = page.get_by_role("main")
    expect(main.get_by_role("link", name="full 1")).to_have_attribute("href", "/?q=boat&collection=full")
    expect(main.get_by_role("link", name="bare")).to_have_count(0)
    shot(page, "collection-empty-light")
    assert_accessible(page)
    main.get_by_role("link", name=re.compile("^images")).click()
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_collections_are_made_exported_and_deleted_on_the_system_view(
    page: Page, http: httpx.Client, faults: Faults
) -> None:
    fill(http, "kept-apart", 306, 307)
    page.goto("/system?collection=kept-apart#collections")
    expect(page.get_by_role("heading", name="Collections")).to_be_in_viewport()
    page.get_by_role("main").get_by_role("button", name="New collection…").click()
    dialog = page.get_by_role("dialog", name="New collection")
    dialog.get_by_label("Name").fill("from-system")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("link", name="from-system", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Export from-system")).to_be_disabled()
    shot(page, "system-collections-light")
    assert_accessible(page)
    page.get_by_role("button", name="Export kept-apart").click()
    expect(page).to_have_url(re.compile(r"/jobs/\w+\?collection=kept-apart$"))
    expect(page.get_by_role("link", name="kept-apart.parquet")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Delete kept-apart").click()
    question = page.get_by_role("dialog", name="Please confirm")
    expect(question).to_contain_text("“kept-apart”, with its 2 pictures")
    question.get_by_role("button", name="Cancel").click()
    assert "kept-apart" in names(http)
    page.get_by_role("button", name="Delete kept-apart").click()
    question.get_by_role("button", name="Delete 2 pictures").click()
    expect(page.get_by_role("link", name="kept-apart", exact=True)).to_have_count(0)
    expect(collection(page)).to_have_accessible_name("Collection: images")
    assert "kept-apart" not in names(http)
    faults.expect("status of 404")
    page.get_by_role("button", name="Delete from-system").click()
    http.delete("/v1/collections/from-system")
    question.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("There is no collection 'from-system'.")
    expect(page.get_by_role("main").get_by_role("button", name="New collection…")).to_be_focused()
    expect(page.get_by_role("link", name="from-system", exact=True)).to_have_count(0)


def test_pictures_go_where_the_header_says_also_when_that_changes(
    new_page: NewPage, http: httpx.Client
) -> None:
    page = new_page(color_scheme="light")
    page.goto("/ingest?collection=not+allowed")
    expect(
        page.get_by_role("status").filter(has_text="“not allowed” cannot be a collection's name")
    ).to_be_visible()
    page.goto("/ingest?collection=not-yet-made")
    expect(page.get_by_role("status").filter(has_text="“not-yet-made”, which is made with")).to_be_visible()
    page.get_by_label("Or paste URLs").fill("http://10.0.0.1/a.jpg")
    expect(page.get_by_role("button", name="Add 1 picture to not-yet-made")).to_be_visible()
    make(page, "in-its-place")
    expect(page.get_by_role("button", name="Add 1 picture to in-its-place")).to_be_visible()
    expect(page.get_by_label("Or paste URLs")).to_have_value("http://10.0.0.1/a.jpg")
    page.get_by_role("button", name="Add 1 picture to in-its-place").click()
    expect(page.locator(".job .status")).to_have_text("Failed")
    job = http.get("/v1/jobs").json()["jobs"][0]
    assert job["collection"] == "in-its-place"
    assert "not-yet-made" not in names(http)
