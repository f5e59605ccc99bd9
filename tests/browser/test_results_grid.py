"""The grid of results: many of them, hostile ones, and none that moves."""

import json
import re
from itertools import pairwise

import httpx
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import WAIT_MS, Faults
from tests.browser.looks import assert_accessible, shot
from tests.browser.search_page import box, cells, detail, search
from tests.image_server import make_photo
from tests.stack import eventually, finished

MANY = 10_000
MAX_CELLS = 300
THUMBNAIL = make_photo(1, 64, 48)
SHAPES = ((640, 480), (480, 640), (600, 600), (1600, 500))
# On the page: asked from here, cell by cell, it takes ten times as long.
MOST_CELLS_ON_THE_WAY_TO = """last => {
    window.most = Math.max(window.most ?? 0, document.querySelectorAll(".cell").length);
    scrollTo(0, document.documentElement.scrollHeight);
    return document.querySelector(`.cell [href*="${last}"]`) && window.most;
}"""


def answer_many(route: Route, *, good: int = MANY) -> None:
    """MANY results of several shapes, as the server pages them, the first `good` good matches."""
    asked = route.request.post_data_json
    places = range(asked["offset"], min(asked["offset"] + asked["limit"], MANY))
    results = [
        {
            "id": f"{place:064x}",
            "score": 1 - place / MANY,
            "source": f"https://example.com/{place}.jpg",
            "thumbnail_url": f"/v1/images/{place:064x}/thumbnail",
            "width": SHAPES[place % len(SHAPES)][0],
            "height": SHAPES[place % len(SHAPES)][1],
            "tags": [],
            "confidence": 0.95 if place < good else 0.1,
            "strength": "likely" if place < good else "weak",
        }
        for place in places
    ]
    took = {"encode": 1, "index": 1, "total": 2}
    route.fulfill(json={"results": results, "took_ms": took, "model": "none"})


def test_ten_thousand_results_scroll_with_few_cells(page: Page) -> None:
    page.route("**/v1/search", answer_many)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    expect(cells(page).first).to_be_visible()
    last = f"{MANY - 1:064x}"
    most = page.wait_for_function(MOST_CELLS_ON_THE_WAY_TO, arg=last, timeout=3 * WAIT_MS).json_value()
    expect(page.locator(f'.cell:has([href*="{last}"])')).to_have_attribute("aria-posinset", str(MANY))
    assert 0 < most < MAX_CELLS
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    places = "[...document.querySelectorAll('.cell')].map(cell => Number(cell.dataset.index))"
    eventually(
        lambda: page.evaluate(f"{places}.some(place => place > {MANY // 3} && place < {2 * MANY // 3})")
    )
    indexes = page.evaluate(places)
    assert indexes == sorted(indexes), "in the document they are in order"
    assert len(indexes) < MAX_CELLS


def test_a_line_is_drawn_after_the_good_matches(page: Page) -> None:
    good, held = 95, []

    def answer(route: Route) -> None:
        if route.request.post_data_json["offset"] and not held:
            held.append(route)
        else:
            answer_many(route, good=good)

    page.route("**/v1/search", answer)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    status, line = page.locator(".result-status"), page.locator(".certainty-line")
    expect(status).to_have_text(re.compile("^more than 80 good matches, best first"))
    expect(line).to_be_hidden()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    eventually(lambda: page.wait_for_timeout(20) or held)
    answer_many(held[0], good=good)
    expect(status).to_have_text(re.compile(f"^{good} good matches; less certain below"))
    last, first = (page.locator(f'.cell[data-index="{index}"]') for index in (good - 1, good))

    def assert_between() -> None:
        line.scroll_into_view_if_needed()
        expect(first).to_be_visible()
        above, at, below = (dict(one.bounding_box() or {}) for one in (last, line, first))
        assert above["y"] + above["height"] < at["y"]
        assert at["y"] + at["height"] < below["y"] < at["y"] + at["height"] + 20
        assert below["x"] == at["x"]

    assert_between()
    shot(page, "search-line-light")
    assert_accessible(page)
    expect(last.get_by_role("link")).to_have_accessible_name(re.compile("likely match"))
    expect(first.get_by_role("link")).to_have_accessible_name(re.compile("weak match"))
    last.get_by_role("link").focus()
    page.keyboard.press("ArrowRight")
    expect(first.get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowUp")
    focused = page.locator(".cell:focus-within")
    assert int(focused.get_attribute("data-index") or good) < good
    page.keyboard.press("ArrowDown")
    assert int(focused.get_attribute("data-index") or 0) >= good
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    eventually(lambda: int(cells(page).last.get_attribute("data-index") or 0) > 200)
    page.keyboard.press("Home")
    page.set_viewport_size({"width": 700, "height": 900})
    assert_between()
    indexes = page.evaluate("[...document.querySelectorAll('.cell')].map(cell => Number(cell.dataset.index))")
    assert indexes == sorted(indexes)


def test_rows_fill_the_width_and_nothing_moves_when_pictures_come(page: Page) -> None:
    held: list[Route] = []
    page.route("**/thumbnail", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks its handlers
    page.goto("/")  # without a line
    expect(cells(page).nth(15)).to_be_visible()
    before = boxes(page)
    eventually(lambda: page.evaluate("document.querySelectorAll('.cell img').length > 15"))
    for route in held:
        route.continue_()
    page.unroute("**/thumbnail")
    expect(page.locator(".cell img.loaded").nth(15)).to_be_visible()
    assert boxes(page) == before
    rows: dict[float, list[dict[str, float]]] = {}
    for place in before:
        rows.setdefault(place["y"], []).append(place)
    grid = page.locator(".grid").bounding_box()
    assert grid is not None
    first, second = list(rows.values())[:2]
    for row in (first, second):
        assert len({place["height"] for place in row}) == 1
        end = max(place["x"] + place["width"] for place in row)
        assert abs(end - grid["x"] - grid["width"]) < 1
        for left, right in pairwise(row):
            assert right["x"] > left["x"] + left["width"]


def boxes(page: Page) -> list[dict[str, float]]:
    return [dict(one.bounding_box() or {}) for one in cells(page).all()[:16]]


def test_back_returns_to_where_one_was(page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 500})
    page.goto("/?q=animal")
    expect(cells(page).first).to_be_visible()
    page.evaluate("scrollTo(0, 900)")
    eventually(lambda: page.evaluate("history.state?.scroll === 900"))
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", name="Jobs").first).to_be_visible()
    page.go_back()
    expect(cells(page).first).to_be_visible()
    eventually(lambda: page.evaluate("scrollY === 900"))
    page.reload()
    eventually(lambda: page.evaluate("scrollY === 900"))


def test_a_page_that_cannot_be_had_is_asked_for_again_on_demand(page: Page, faults: Faults) -> None:
    page.route("**/v1/search", answer_many)
    page.route("**/thumbnail", lambda route: route.fulfill(body=THUMBNAIL, content_type="image/jpeg"))
    page.goto("/?q=anything")
    expect(cells(page).first).to_be_visible()
    faults.expect("status of 503")
    problem = {"status": 503, "code": "index_unavailable", "detail": "Chroma cannot be reached."}
    page.unroute("**/v1/search")
    page.route("**/v1/search", lambda route: route.fulfill(status=503, json=problem))
    more = page.get_by_role("main").get_by_role("alert")
    for _ in range(20):
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        if more.count():
            break
        page.wait_for_timeout(100)
    expect(more).to_contain_text("Chroma cannot be reached.")
    page.unroute("**/v1/search")
    page.route("**/v1/search", answer_many)
    before = page.evaluate("document.documentElement.scrollHeight")
    more.get_by_role("button", name="Try again").click()
    expect(more).to_have_count(0)
    eventually(lambda: page.evaluate("document.documentElement.scrollHeight") > before)


def test_pictures_that_were_added_meanwhile_are_found_by_a_new_search(page: Page, http: httpx.Client) -> None:
    def add(number: int) -> None:
        files = [("files", (f"{number}.jpg", make_photo(number, 90, 60), "image/jpeg"))]
        finished(http, http.post("/v1/jobs", files=files, data={"collection": "growing"}))

    add(91)
    page.goto("/?collection=growing")
    expect(cells(page)).to_have_count(1)
    add(92)
    box(page).fill("photo")
    expect(cells(page).locator(".score")).to_have_count(2)
    box(page).fill("")
    expect(cells(page).locator(".score")).to_have_count(0)
    expect(cells(page)).to_have_count(2)


def test_text_from_the_index_is_never_markup(page: Page, http: httpx.Client) -> None:
    evil = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    scheme = "javascript:window.hacked=1"
    files = [
        ("files", (name, make_photo(70 + n, 90, 60), "image/jpeg")) for n, name in enumerate((evil, scheme))
    ]
    form = {"collection": "hostile", "metadata": json.dumps([{"note": evil}, {"note": scheme}])}
    job = finished(http, http.post("/v1/jobs", files=files, data=form))
    assert job["counts"]["indexed"] == 2

    def with_evil_tags(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        for image in document.get("images", []) or document.get("results", []) or [document]:
            image["tags"] = [evil]
        route.fulfill(response=answer, json=document)

    page.route(re.compile(r"/v1/(search|images(/[0-9a-f]{64})?)(\?|$)"), with_evil_tags)
    page.goto("/?collection=hostile")
    expect(cells(page)).to_have_count(2)
    expect(page.locator(".examples a")).to_have_text([evil])
    search(page, evil)
    page.goto("/?collection=hostile&f=" + httpx.QueryParams({"f": json.dumps({"note": evil})})["f"])
    expect(cells(page)).to_have_count(1)
    cells(page).first.get_by_role("link").click()
    expect(detail(page).locator(".pairs .chip")).to_have_text([evil])
    page.goto("/?collection=hostile")
    page.locator(".cell", has=page.locator(f'[title="{scheme}"]')).get_by_role("link").click()
    expect(detail(page).locator(".source-address")).to_have_text(scheme)
    assert detail(page).locator("a[href^='javascript']").count() == 0
    assert page.locator("main script, dialog script, [onerror]").count() == 0
    assert page.evaluate("window.hacked") is None
