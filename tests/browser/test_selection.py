"""Several pictures at once: how they are selected, and what is done with them."""

import csv
import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.conftest import Faults, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import box, cell, cells, detail
from tests.browser.test_results_grid import MANY, MAX_CELLS, THUMBNAIL, answer_many
from tests.image_server import ImageServer, make_photo
from tests.stack import eventually, finished

PICTURE = re.compile(r"/v1/images/[0-9a-f]{64}(\?|$)")
Collection = str


@pytest.fixture
def collection(http: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Collection]:
    """Six photos of its own, `0.jpg` to `5.jpg`, with the metadata `n`: text in the first, else a number."""
    name = f"selected-{abs(hash(request.node.name))}"
    fill(http, name, range(6))
    yield name
    http.delete(f"/v1/collections/{name}")


def fill(http: httpx.Client, name: str, numbers: range) -> None:
    files = [("files", (f"{n}.jpg", make_photo(200 + n, 120, 90), "image/jpeg")) for n in numbers]
    metadata = json.dumps([{"n": n or "0"} for n in numbers])
    job = finished(http, http.post("/v1/jobs", files=files, data={"collection": name, "metadata": metadata}))
    assert job["status"] == "succeeded"


def images(http: httpx.Client, collection: Collection) -> dict[str, dict[str, Any]]:
    found = http.get("/v1/images", params={"collection": collection}).json()["images"]
    return {image["source"]: image for image in found}


def bar(page: Page) -> Locator:
    return page.get_by_role("region", name="Selected pictures")


def shows_selected(page: Page, count: int) -> None:
    expect(bar(page).get_by_role("status")).to_have_text(f"{count:,} selected")


def act(page: Page, name: str) -> None:
    bar(page).get_by_role("button", name=name).click()


def select(page: Page, collection: Collection, *names: str) -> None:
    page.goto(f"/?collection={collection}")
    expect(cells(page)).to_have_count(6)
    for name in names:
        checkbox(cell(page, name)).check()
    shows_selected(page, len(names))


def checkbox(one: Locator) -> Locator:
    return one.get_by_role("checkbox")


def confirm(page: Page, count: int) -> None:
    dialog = page.get_by_role("dialog", name="Please confirm")
    expect(dialog).to_contain_text(f"Delete {count} picture{'' if count == 1 else 's'} from the collection")
    dialog.get_by_role("button", name=f"Delete {count}").click()


def test_pictures_are_selected_by_mouse(page: Page) -> None:
    page.goto("/?q=animal")
    expect(cells(page).nth(8)).to_be_visible()
    expect(bar(page)).to_have_count(0)
    cells(page).nth(1).hover()
    checkbox(cells(page).nth(1)).click()
    shows_selected(page, 1)
    cells(page).nth(4).get_by_role("link").click(modifiers=["Shift"])
    shows_selected(page, 4)
    cells(page).nth(7).get_by_role("link").click(modifiers=["ControlOrMeta"])
    cells(page).nth(2).get_by_role("link").click()
    shows_selected(page, 4)
    assert [checkbox(cells(page).nth(place)).is_checked() for place in range(8)] == [
        False, True, False, True, True, False, False, True,
    ]  # fmt: skip
    expect(page).to_have_url(re.compile(r"/\?q=animal$"))
    shot(page, "selection-light")
    assert_accessible(page)
    cells(page).nth(3).get_by_role("link").press("Enter")
    expect(detail(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail(page)).to_have_count(0)
    shows_selected(page, 4)
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    assert not page.locator(".select:checked").count()
    cells(page).nth(3).get_by_role("link").click()
    expect(detail(page)).to_be_visible()


def test_pictures_are_selected_by_keyboard(page: Page) -> None:
    page.goto("/?q=animal")
    expect(cells(page).nth(8)).to_be_visible()
    cells(page).first.get_by_role("link").focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    shows_selected(page, 3)
    page.keyboard.press("Shift+ArrowLeft")
    shows_selected(page, 2)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    shows_selected(page, 3)
    page.keyboard.press("x")
    shows_selected(page, 2)
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    page.keyboard.press("Escape")
    expect(box(page)).to_be_focused()


def test_pictures_are_selected_by_touch(phone_page: Page) -> None:
    page = phone_page
    page.goto("/?q=animal")
    expect(page.locator(".cell img.loaded").nth(4)).to_be_visible()
    page.get_by_role("button", name="Select", exact=True).tap()
    shows_selected(page, 0)
    expect(bar(page).get_by_role("button", name="Delete")).to_be_disabled()
    for place in (0, 2):
        cells(page).nth(place).tap()
    shows_selected(page, 2)
    shot(page, "selection-phone")
    assert_accessible(page)
    assert_fits(page)
    bar(page).get_by_role("button", name="Leave the selection").tap()
    expect(bar(page)).to_be_hidden()
    press(page, cells(page).nth(1))
    shows_selected(page, 1)
    expect(detail(page)).to_have_count(0)
    cells(page).nth(1).tap()
    expect(bar(page)).to_be_hidden()
    cells(page).nth(1).tap()
    expect(detail(page)).to_be_visible()


def press(page: Page, target: Locator) -> None:
    """A finger that rests for a second."""
    place = target.bounding_box()
    assert place is not None
    points = [{"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}]
    session = page.context.new_cdp_session(page)
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    page.wait_for_timeout(1000)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()


def test_ten_thousand_are_selected_and_stay_so_while_one_scrolls(page: Page) -> None:
    page.route("**/v1/search", answer_many)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    page.evaluate(
        """() => { window.longest = 0; let last = performance.now();
        const frame = (now) => { window.longest = Math.max(window.longest, now - last); last = now;
            requestAnimationFrame(frame); }; requestAnimationFrame(frame); }"""
    )
    page.get_by_role("button", name="Select", exact=True).click()
    act(page, "Select all")
    expect(bar(page).get_by_role("status")).to_contain_text("Loading")
    shows_selected(page, MANY)
    assert page.evaluate("window.longest") < 2000, "two busy cores; alone it is a tenth of that"
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    far = f"[...document.querySelectorAll('.cell')].some(cell => Number(cell.dataset.index) > {MANY // 3})"
    eventually(lambda: page.evaluate(far))
    assert 0 < page.locator(".select").count() == page.locator(".select:checked").count() < MAX_CELLS
    checkbox(cells(page).first).uncheck()
    shows_selected(page, MANY - 1)
    box(page).fill("something else")
    expect(bar(page)).to_be_hidden()


def test_selected_pictures_are_deleted_also_where_another_browser_was_first(
    page: Page, http: httpx.Client, collection: Collection, faults: Faults
) -> None:
    faults.expect("status of 404")
    before = images(http, collection)
    select(page, collection, "1.jpg", "3.jpg", "4.jpg")
    act(page, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert len(images(http, collection)) == 6
    where = {"collection": collection}
    assert http.delete(f"/v1/images/{before['3.jpg']['id']}", params=where).status_code == 204
    act(page, "Delete")
    confirm(page, 3)
    expect(page.locator(".toast.ok")).to_contain_text("2 pictures deleted, 1 gone already.")
    expect(cells(page)).to_have_count(3)
    expect(bar(page)).to_be_hidden()
    expect(cells(page).first.get_by_role("link")).to_be_focused()
    assert images(http, collection).keys() == {"0.jpg", "2.jpg", "5.jpg"}
    page.get_by_role("link", name="Jobs").click()
    page.go_back()
    expect(cells(page)).to_have_count(3)


def test_a_server_that_is_busy_or_away_is_waited_for(
    page: Page, http: httpx.Client, collection: Collection, faults: Faults
) -> None:
    faults.expect("status of (429|503)")
    faults.expect("ERR_CONNECTION_REFUSED|failed: DELETE")
    answers = iter([("index_unavailable", 503), ("rate_limited", 429), None])

    def answer(route: Route) -> None:
        if route.request.method != "DELETE" or (refusal := next(answers, "")) == "":
            route.continue_()
        elif refusal is None:
            route.abort("connectionrefused")
        else:
            code, status = refusal
            problem = {"status": status, "code": code, "detail": "The index is being written to."}
            route.fulfill(status=status, json=problem, headers={"Retry-After": "1"})

    select(page, collection, "0.jpg", "1.jpg")
    page.route(PICTURE, answer)
    act(page, "Delete")
    confirm(page, 2)
    progress = page.get_by_role("dialog", name="Deleting 2 pictures")
    expect(progress).to_contain_text("Waiting 1 s. The index is being written to.")
    expect(page.locator(".toast.ok")).to_contain_text("2 pictures deleted.")
    assert len(images(http, collection)) == 4


def test_what_failed_is_told_with_its_reason_and_tried_again(
    page: Page, http: httpx.Client, collection: Collection, faults: Faults
) -> None:
    faults.expect("status of 500")
    broken = images(http, collection)["1.jpg"]["id"]
    problem = {"status": 500, "code": "internal", "detail": "Something went wrong."}
    select(page, collection, "0.jpg", "1.jpg", "2.jpg")
    page.route(re.compile(broken), lambda route: route.fulfill(status=500, json=problem))
    act(page, "Delete")
    confirm(page, 3)
    progress = page.get_by_role("dialog", name="Deleting 3 pictures")
    expect(progress).to_contain_text("2 pictures deleted, 1 failed.")
    expect(progress.get_by_role("listitem")).to_contain_text("Something went wrong. (1.jpg)")
    shot(page, "selection-failed-light")
    assert_accessible(page)
    page.unroute(re.compile(broken))
    progress.get_by_role("button", name="Try 1 again").click()
    expect(page.locator(".toast.ok")).to_contain_text("3 pictures deleted.")
    assert len(images(http, collection)) == 3


def test_a_deletion_can_be_stopped_and_gone_on_with(
    page: Page, http: httpx.Client, collection: Collection
) -> None:
    held: list[Route] = []
    select(page, collection, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    page.route(PICTURE, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks its handlers
    act(page, "Delete")
    confirm(page, 4)
    progress = page.get_by_role("dialog", name="Deleting 4 pictures")
    eventually(lambda: page.evaluate("1") and len(held) == 1)
    progress.get_by_role("button", name="Stop").click()
    held[0].continue_()
    expect(progress).to_contain_text("1 picture deleted, 3 not tried.")
    page.unroute(PICTURE)
    progress.get_by_role("button", name="Close").click()
    expect(cells(page)).to_have_count(5)
    shows_selected(page, 3)
    assert len(images(http, collection)) == 5


def test_pictures_are_deleted_while_a_job_writes(
    page: Page, http: httpx.Client, collection: Collection, image_server: ImageServer
) -> None:
    urls = [image_server.url(f"/photo/{number}.jpg") for number in range(30)]
    select(page, collection, *(f"{number}.jpg" for number in range(6)))
    job = http.post("/v1/jobs", json={"urls": urls, "collection": collection})
    act(page, "Delete")
    confirm(page, 6)
    expect(page.locator(".toast.ok")).to_contain_text("6 pictures deleted.")
    assert finished(http, job)["counts"]["indexed"] == 30
    assert images(http, collection).keys() == {*urls}


def test_metadata_is_set_and_names_are_removed(
    page: Page, http: httpx.Client, collection: Collection
) -> None:
    select(page, collection, "0.jpg", "1.jpg", "2.jpg")
    act(page, "Set metadata")
    dialog = page.get_by_role("dialog", name="Metadata of 3 pictures")
    expect(dialog.locator("datalist option")).to_have_count(1)
    dialog.get_by_label("Metadata name").fill("n")
    dialog.get_by_label("Kind of value").select_option("number")
    expect(dialog).to_contain_text("becomes a number in all")
    dialog.get_by_label("Metadata value").fill("seven")
    dialog.get_by_role("button", name="Set in 3").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Metadata value").fill("7")
    dialog.get_by_role("button", name="Another name").click()
    dialog.get_by_label("Metadata name").nth(1).fill("shop")
    dialog.get_by_label("Metadata value").nth(1).fill("north")
    shot(page, "selection-metadata-light")
    assert_accessible(page)
    dialog.get_by_role("button", name="Set in 3").click()
    expect(page.locator(".toast.ok")).to_contain_text("3 pictures changed.")
    expect(bar(page).get_by_role("button", name="Set metadata")).to_be_focused()
    found = images(http, collection)
    assert [found[f"{n}.jpg"]["metadata"] for n in range(4)] == [*[{"n": 7, "shop": "north"}] * 3, {"n": 3}]
    act(page, "Set metadata")
    dialog.get_by_label("Metadata name").fill("shop")
    dialog.get_by_label("Kind of value").select_option("remove")
    dialog.get_by_role("button", name="Set in 3").click()
    eventually(lambda: [images(http, collection)[f"{n}.jpg"]["metadata"] for n in range(3)] == [{"n": 7}] * 3)


def test_metadata_that_is_refused_is_refused_once(
    page: Page, http: httpx.Client, collection: Collection, faults: Faults
) -> None:
    faults.expect("status of 422")
    sent: list[Request] = []
    page.on("request", lambda request: request.method == "PATCH" and sent.append(request))
    select(page, collection, "0.jpg", "1.jpg", "2.jpg")
    act(page, "Set metadata")
    dialog = page.get_by_role("dialog", name="Metadata of 3 pictures")
    dialog.get_by_label("Metadata name").fill("width")
    dialog.get_by_label("Metadata value").fill("7")
    dialog.get_by_role("button", name="Set in 3").click()
    progress = page.get_by_role("dialog", name="Setting metadata of 3 pictures")
    expect(progress).to_contain_text("1 failed, 2 not tried.")
    expect(progress.get_by_role("listitem")).to_contain_text("width is the name of a built-in field")
    assert len(sent) == 1
    progress.get_by_role("button", name="Close").click()
    shows_selected(page, 3)


def test_ids_and_urls_are_copied_whole(
    new_page: NewPage, http: httpx.Client, collection: Collection, image_server: ImageServer
) -> None:
    url = image_server.url("/photo/77.jpg?a=" + "long" * 40)
    finished(http, http.post("/v1/jobs", json={"urls": [url], "collection": collection}))
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/?collection={collection}")
    expect(cells(page)).to_have_count(7)
    found = images(http, collection)
    for name in ("0.jpg", "77.jpg"):
        checkbox(cell(page, name)).check()
    act(page, "Copy ids")
    expect(page.locator(".toast.ok")).to_contain_text("2 ids copied.")
    copied = "navigator.clipboard.readText()"
    assert page.evaluate(copied).split() == [found["0.jpg"]["id"], found[url]["id"]]
    act(page, "Copy URLs")
    expect(page.locator(".toast.ok").last).to_contain_text("1 URL copied; 1 picture came as files, without")
    assert page.evaluate(copied) == url
    page.keyboard.press("Escape")
    cell(page, "77.jpg").get_by_role("link").click()
    detail(page).get_by_role("button", name="Copy the id").click()
    expect(detail(page).get_by_text("Copied")).to_be_visible()
    assert page.evaluate(copied) == found[url]["id"]
    detail(page).get_by_role("button", name="Copy the URL").click()
    expect(detail(page).get_by_text("Copied").last).to_be_visible()
    assert page.evaluate(copied) == url


def test_ids_are_copied_without_https_too(page: Page, collection: Collection) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    select(page, collection, "0.jpg")
    act(page, "Copy ids")
    expect(page.locator(".toast.ok")).to_contain_text("1 id copied.")
    page.keyboard.press("Escape")
    with page.expect_response("**/v1/search"):
        box(page).press("ControlOrMeta+v")
    expect(box(page)).to_have_value(re.compile("^[0-9a-f]{64}$"))


def test_lists_and_pictures_are_downloaded(page: Page, http: httpx.Client, collection: Collection) -> None:
    formula = "=SUM(1,2)"
    files = [("files", (formula, make_photo(300, 90, 60), "image/jpeg"))]
    finished(http, http.post("/v1/jobs", files=files, data={"collection": collection}))
    found = images(http, collection)
    page.goto(f"/?collection={collection}")
    expect(cells(page)).to_have_count(7)
    page.get_by_role("button", name="Select", exact=True).click()
    act(page, "Select all")
    shows_selected(page, 7)

    def download(name: str) -> bytes:
        act(page, "Download")
        with page.expect_download() as downloading:
            page.get_by_role("dialog").get_by_role("button", name=name).click()
        return downloading.value.path().read_bytes()

    rows = [*csv.DictReader(io.StringIO(download("List as CSV").decode("utf-8-sig")))]
    assert {row["id"] for row in rows} == {image["id"] for image in found.values()}
    assert {row["source"] for row in rows} == {f"'{formula}", *(f"{number}.jpg" for number in range(6))}
    assert {row["n"] for row in rows} == {"", *map(str, range(6))}
    listed = json.loads(download("List as JSON"))
    assert {image["id"]: image for image in listed} == {image["id"]: image for image in found.values()}
    with zipfile.ZipFile(io.BytesIO(download("Pictures as ZIP"))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len({*names}) == 7 and {"0.jpg", "5.jpg"} < {*names}
        assert not any(re.search(r"[/\\=\"]", name) for name in names)
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                picture.verify()


def test_many_pictures_are_no_zip(page: Page) -> None:
    page.route("**/v1/search", answer_many)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    cells(page).first.hover()
    checkbox(cells(page).first).check()
    act(page, "Select all")
    shows_selected(page, MANY)
    act(page, "Download")
    expect(page.get_by_role("dialog").get_by_role("button", name="Pictures as ZIP")).to_be_disabled()
    page.keyboard.press("Escape")
    shows_selected(page, MANY)


def test_selecting_all_can_be_stopped(page: Page) -> None:
    def slowly(route: Route) -> None:
        time.sleep(0.05)
        answer_many(route)

    page.route("**/v1/search", slowly)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    page.get_by_role("button", name="Select", exact=True).click()
    act(page, "Select all")
    act(page, "Stop")
    shows_selected(page, 0)
