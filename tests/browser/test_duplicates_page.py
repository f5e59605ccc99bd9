"""The view of near-duplicates: groups side by side, of which one picture stays."""

import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import cell, cells, detail
from tests.image_server import make_photo
from tests.stack import finished

SMALLER = ((480, 360), (320, 240))


@pytest.fixture
def collection(http: httpx.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """Three groups: `0.jpg` to `2.jpg`, the first with two smaller copies, the others with one."""
    name = f"alike-{abs(hash(request.node.name))}"
    files = {f"{n}.jpg": make_photo(400 + n, 640, 480) for n in range(3)}
    files |= {f"{n}-small-{m}.jpg": smaller(400 + n, SMALLER[m]) for n, m in ((0, 0), (0, 1), (1, 0), (2, 0))}
    parts = [("files", (file, data, "image/jpeg")) for file, data in files.items()]
    finished(http, http.post("/v1/jobs", files=parts, data={"collection": name}))
    yield name
    http.delete(f"/v1/collections/{name}")


def smaller(seed: int, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(make_photo(seed, 640, 480))) as photo:
        photo.resize(size).save(file, "JPEG", quality=70)
    return file.getvalue()


def sources(http: httpx.Client, collection: str) -> set[str]:
    found = http.get("/v1/images", params={"collection": collection}).json()["images"]
    return {image["source"] for image in found}


def groups(page: Page) -> Locator:
    return page.locator(".duplicate-group")


def group(page: Page, name: str) -> Locator:
    return groups(page).filter(has=page.get_by_title(name, exact=True))


def status(page: Page) -> Locator:
    return page.get_by_role("main").get_by_role("status").first


def confirm(page: Page, question: str) -> None:
    dialog = page.get_by_role("dialog", name="Please confirm")
    expect(dialog).to_contain_text(question)
    dialog.get_by_role("button", name=re.compile("^Delete")).click()


def test_of_each_group_the_suggested_one_is_kept_and_the_others_deleted(
    page: Page, http: httpx.Client, collection: str
) -> None:
    page.goto(f"/?collection={collection}")
    page.get_by_role("link", name="Near-duplicates").click()
    expect(page).to_have_url(re.compile(f"/duplicates\\?collection={collection}$"))
    expect(status(page)).to_have_text("3 groups · 7 pictures compared")
    first = group(page, "0.jpg")
    expect(first.get_by_role("checkbox", name="Keep 0.jpg")).to_be_checked()
    expect(first.get_by_role("checkbox", checked=True)).to_have_count(1)
    expect(first.get_by_role("listitem").first).to_contain_text(re.compile("640 . 480.*JPEG, .* kB", re.S))
    expect(first.get_by_role("listitem").nth(1)).to_contain_text(re.compile(r"Score\s*[01]\.\d{4}"))
    shot(page, "duplicates-light")
    assert_accessible(page)
    first.get_by_role("button", name="Delete the other 2").click()
    confirm(page, f"Delete 2 pictures from the collection “{collection}”?")
    expect(groups(page)).to_have_count(2)
    expect(status(page)).to_have_text("2 groups · 5 pictures compared")
    expect(status(page)).to_be_focused()
    assert sources(http, collection) == {"0.jpg", "1.jpg", "2.jpg", "1-small-0.jpg", "2-small-0.jpg"}
    page.get_by_role("button", name="Delete the others of these 2 groups (2)").click()
    confirm(page, "Delete 2 pictures of 2 groups, and keep the rest")
    expect(page.get_by_text("All groups are done.")).to_be_visible()
    assert sources(http, collection) == {"0.jpg", "1.jpg", "2.jpg"}
    page.get_by_role("link", name="To the pictures").click()
    expect(cells(page)).to_have_count(3)


def test_another_one_can_be_kept_and_none_is_not_possible(
    page: Page, http: httpx.Client, collection: str
) -> None:
    page.goto(f"/duplicates?collection={collection}")
    first = group(page, "0.jpg")
    first.get_by_role("checkbox", name="Keep 0.jpg").uncheck()
    expect(first.get_by_role("button", name="Keep at least one")).to_be_disabled()
    expect(page.get_by_role("button", name="Delete the others of these 3 groups (2)")).to_be_visible()
    first.get_by_role("checkbox", name="Keep 0-small-0.jpg").check()
    first.get_by_role("button", name="Delete the other 2").click()
    confirm(page, "Delete 2 pictures")
    expect(groups(page)).to_have_count(2)
    assert sources(http, collection) & {"0.jpg", "0-small-0.jpg", "0-small-1.jpg"} == {"0-small-0.jpg"}


def test_a_collection_without_near_duplicates_says_so(page: Page, http: httpx.Client) -> None:
    http.delete("/v1/collections/nothing-alike")
    http.post("/v1/collections", json={"name": "nothing-alike"})
    page.goto("/duplicates?collection=nothing-alike")
    expect(page.get_by_text("There are no pictures to compare yet.")).to_be_visible()
    files = [("files", ("a.jpg", make_photo(1, 90, 60), "image/jpeg"))]
    finished(http, http.post("/v1/jobs", files=files, data={"collection": "nothing-alike"}))
    page.reload()
    expect(page.get_by_text("No two pictures of this collection are nearly the same.")).to_be_visible()
    expect(status(page)).to_have_text("No near-duplicates · 1 picture compared")


def test_an_unknown_collection_leads_on(page: Page, faults: Faults) -> None:
    faults.expect("status of 404")
    page.goto("/duplicates?collection=never-made")
    expect(page.get_by_role("alert")).to_contain_text("There is no collection “never-made”")
    expect(page.get_by_role("alert").get_by_role("link", name="Go to images")).to_be_visible()


def test_groups_come_by_pages_and_what_was_not_compared_is_said(page: Page, faults: Faults) -> None:
    def page_of(groups: list[int], cursor: str | None) -> dict[str, Any]:
        return {
            "groups": [
                {"keeper": f"{n:064x}", "count": 102, "images": [duplicate(n), duplicate(n + 1000)]}
                for n in groups
            ],
            "total": 4, "compared": 500, "not_compared": 12, "next_cursor": cursor,
        }  # fmt: skip

    def duplicate(number: int) -> dict[str, Any]:
        return {
            "id": f"{number:064x}", "score": 0.97, "distance": 3, "source": f"{number}.jpg", "format": "png",
            "thumbnail_url": f"/v1/images/{number:064x}/thumbnail", "width": 9, "height": 9, "bytes": 900,
            "created_at": None,
        }  # fmt: skip

    answers = {None: page_of([1, 2], "a" * 64), "a" * 64: page_of([3, 4], None)}
    page.route(
        "**/v1/duplicates?*",
        lambda route: route.fulfill(json=answers[httpx.URL(route.request.url).params.get("cursor")]),
    )
    page.route(
        "**/thumbnail", lambda route: route.fulfill(body=make_photo(1, 9, 9), content_type="image/jpeg")
    )
    page.goto("/duplicates")
    expect(status(page)).to_contain_text("2 of 4 groups shown · 500 pictures compared · 12 not compared")
    expect(groups(page).first).to_contain_text("100 more pictures of this group: not shown, and not deleted.")
    group(page, "1.jpg").get_by_role("checkbox", name="Keep 1001.jpg").check()
    page.get_by_role("button", name="Show more groups").click()
    expect(groups(page)).to_have_count(4)
    expect(page.get_by_role("button", name="Show more groups")).to_be_hidden()
    expect(page.get_by_role("button", name="Delete the others of these 4 groups (3)")).to_be_visible()
    page.unroute("**/v1/duplicates?*")
    faults.expect("status of 422")
    problem = {"status": 422, "code": "invalid_request", "detail": "It has more than 100,000 pictures."}
    page.route("**/v1/duplicates?*", lambda route: route.fulfill(status=422, json=problem))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("It has more than 100,000 pictures.")


def test_the_detail_leads_to_all_of_them(page: Page, collection: str) -> None:
    page.goto(f"/?collection={collection}")
    cell(page, "1.jpg").get_by_role("link").click()
    detail(page).get_by_role("link", name="All near-duplicates of the collection").click()
    expect(groups(page)).to_have_count(3)
    expect(detail(page)).to_have_count(0)


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_it_can_be_read_in_the_dark_and_on_a_phone(name: str, new_page: NewPage, collection: str) -> None:
    page = (
        new_page(**{**PHONE, "viewport": {"width": 360, "height": 740}})
        if name == "phone"
        else new_page(color_scheme="dark")
    )
    page.goto(f"/duplicates?collection={collection}")
    expect(groups(page)).to_have_count(3)
    shot(page, f"duplicates-{name}")
    assert_accessible(page)
    assert_fits(page)
