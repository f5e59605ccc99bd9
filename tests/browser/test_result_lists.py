"""Lists that people work with: their order, one of each, words that must be there, parts of pictures."""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Request, Route, expect

from examples.demo.pictures import Pictures
from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.gestures import drop
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import cells, chips, detail, filters
from tests.image_server import make_photo

MANY = 300
SIZE = 12  # pictures of a group
PHOTO = make_photo(1, 640, 480)
NAMES = [
    {"name": name, "pictures": MANY, "types": {kind: MANY}, "values": [], "more_values": True}
    for name, kind in (("title", "text"), ("price", "number"))
]
MODEL = "none"


def identity(place: int) -> str:
    return f"{place:064x}"


class Server:
    """Answers what a page asks for its lists, and keeps what was asked for pages of results."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.model = MODEL
        self.searches: list[dict[str, Any]] = []
        self.uploads = 0
        self.lists: list[dict[str, list[str]]] = []
        page.route("**/v1/search", self._search)
        page.route("**/v1/images?*", self._list)
        page.route(re.compile(r"/v1/images/[0-9a-f]{64}(\?|$)"), self._image)
        page.route(re.compile("/similar"), lambda route: route.fulfill(json={"results": []}))
        page.route(
            re.compile("/(thumbnail|rendition)"),
            lambda route: route.fulfill(body=PHOTO, content_type="image/jpeg"),
        )
        names = {"names": NAMES, "fields": [], "pictures": MANY, "complete": True}
        page.route("**/metadata", lambda route: route.fulfill(json=names))

    @property
    def asked(self) -> dict[str, Any]:
        """The last search for results, once it is answered."""
        expect(self._page.locator(".grid[aria-busy]")).to_have_count(0)
        return self.searches[-1]

    def _search(self, route: Route) -> None:
        is_upload = "multipart" in route.request.headers["content-type"]
        asked = _query_of(route.request)
        if "facets" in asked:
            counted: dict[str, list[Any]] = {name: [] for name in asked["facets"]}
            scope = {"pictures": MANY, "complete": True, "bound": 10_000, "cut_off": []}
            route.fulfill(json=self._answer([]) | {"facets": counted, "facet_scope": scope})
            return
        self.uploads += is_upload
        ids = re.findall(r'"id": \{"in": \[([^\]]*)', json.dumps(asked))
        places = [int(one, 16) for one in json.loads(f"[{ids[0]}]")] if ids else range(MANY)
        if "contributions" not in asked["include"]:
            self.searches.append(asked)
            places = places[asked["offset"] : asked["offset"] + asked["limit"]]
        answer = self._answer([self._result(place, asked) for place in places])
        if "vectors" in asked["include"]:
            pointers = ["/image/0"] * is_upload + [
                f"/positive/{n}/{'image_id' if 'image_id' in term else 'image_base64'}"
                for n, term in enumerate(asked["positive"])
                if "box" in term
            ]
            answer["vectors"] = [{"pointer": one, "vector": [0.6, 0.8]} for one in pointers]
        if {"order_by", "group_by"} & asked.keys():
            answer["list_scope"] = {"by": "among", "pictures": 200, "complete": False, "bound": 10_000}
        route.fulfill(json=answer)

    def _answer(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "results": results,
            "took_ms": {"encode": 1, "index": 1, "total": 2},
            "model": self.model,
        }

    def _result(self, place: int, asked: dict[str, Any]) -> dict[str, Any]:
        found = _picture(place) | {"score": 1 - place / MANY, "confidence": 0.95, "strength": "likely"}
        if by := asked.get("group_by"):
            ids = [identity(place * SIZE + other) for other in range(SIZE if place % 2 else 1)]
            value = None if by == "near_duplicates" else f"title {place}"
            found["group"] = {"value": value, "size": len(ids), "ids": ids}
        if "keywords" in asked:
            found["matched"] = {"north face": ["title"]}
        if "contributions" in asked["include"]:
            found["contributions"] = []
        return found

    def _list(self, route: Route) -> None:
        self.lists.append(parse_qs(urlsplit(route.request.url).query))
        images = [_picture(place) for place in range(8)]
        route.fulfill(json={"images": images, "next_cursor": None})

    def _image(self, route: Route) -> None:
        place = int(urlsplit(route.request.url).path[-64:], 16)
        about = {
            "sources": [], "format": "jpeg", "bytes": 900, "colors": [], "keys": [], "phash": None,
            "nsfw": None, "lat": None, "lon": None, "taken_at": None, "created_at": None,
            "metadata": {"title": "The North-Face, a boot", "brand": "North Face"},
        }  # fmt: skip
        route.fulfill(json=_picture(place) | about)


def _query_of(request: Request) -> dict[str, Any]:
    body = request.post_data_buffer or b""
    found = re.search(rb'name="query"\r\n\r\n(.+?)\r\n--', body, re.DOTALL)
    query: dict[str, Any] = json.loads(found[1] if found else body)
    return query


def _picture(place: int) -> dict[str, Any]:
    return {
        "id": identity(place), "source": f"https://example.com/{place}.jpg", "tags": [],
        "thumbnail_url": f"/v1/images/{identity(place)}/thumbnail", "width": 640, "height": 480,
    }  # fmt: skip


@pytest.fixture
def server(page: Page) -> Server:
    return Server(page)


def test_the_first_view_is_the_newest_first(page: Page, server: Server) -> None:
    page.goto("/")
    expect(page.locator(".result-status")).to_have_text(re.compile("pictures?, newest first$"))
    assert server.lists[0]["order_by"] == ["-created_at"]
    panel = filters(page)
    for label in ("Order", "One of each", "Variety"):
        expect(panel.get_by_label(label)).to_be_hidden()
    page.goto('/?order_by=price&group_by=title&f={"shop":"north"}')
    expect(chips(page)).to_have_text(["shop = north"])
    assert server.lists[-1]["order_by"] == ["-created_at"], "prices are for what is searched for"


def test_an_order_is_asked_for_among_the_nearest_and_is_in_the_address(page: Page, server: Server) -> None:
    page.goto("/?q=shoe")
    panel = filters(page)
    panel.get_by_label("Order").select_option("Price, largest first")
    expect(page).to_have_url(re.compile(r"\?q=shoe&order_by=-price$"))
    status = page.locator(".result-status")
    expect(status).to_have_text(re.compile("^the 200 nearest pictures( in images)?, price, largest first"))
    assert (server.asked["order_by"], server.asked["among"]) == ("-price", 200)
    expect(page.locator(".certainty-line")).to_be_hidden()
    expect(panel.get_by_role("slider", name="Variety")).to_be_hidden()
    page.reload()
    panel = filters(page)
    expect(panel.get_by_label("Order")).to_have_value("-price")
    shot(page, "list-order-light")
    assert_accessible(page)
    panel.get_by_label("Only what surely fits").check()
    expect(page).to_have_url(re.compile("sure=1"))
    expect(page.get_by_role("search").get_by_role("button", name="Filters (2)")).to_be_visible()
    assert "among" not in server.asked
    page.get_by_role("button", name="Remove price, largest first").click()
    expect(panel.get_by_label("Order")).to_have_value("")
    assert "order_by" not in server.asked
    page.go_back()
    expect(panel.get_by_label("Order")).to_have_value("-price")


def test_variety_is_set_by_keyboard(page: Page, server: Server) -> None:
    page.goto("/?q=shoe")
    variety = filters(page).get_by_role("slider", name="Variety")
    variety.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"diversity=0\.3$"))
    expect(variety).to_have_attribute("aria-valuetext", "0.3")
    expect(page.locator(".result-status")).to_have_text(re.compile("nearest first, varied"))
    assert server.asked["diversity"] == 0.3
    page.get_by_role("button", name="Remove variety 0.3").click()
    expect(page).to_have_url(re.compile("q=shoe$"))


def test_a_group_is_a_stack_that_opens_and_back_returns_to_its_place(page: Page, server: Server) -> None:
    page.goto("/?q=shoe")
    filters(page).get_by_label("One of each").select_option("One of each title")
    expect(page.locator(".result-status")).to_have_text(re.compile("^(more than )?80 (groups|good matches)"))
    expect(cells(page).nth(1).get_by_role("link")).to_have_accessible_name(re.compile("and 11 more like it$"))
    expect(cells(page).nth(0).get_by_role("link")).not_to_have_accessible_name(re.compile("more like it"))
    shot(page, "list-groups-light")
    assert_accessible(page)
    cells(page).nth(1).get_by_role("link").focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    stack = page.locator(".cell:focus-within")
    expect(stack).to_have_attribute("data-index", "41")
    before = page.evaluate("scrollY")
    assert before > 0
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove title = title 41")).to_be_visible()
    assert server.asked["filters"] == {"title": "title 41"}
    assert "group_by" not in server.asked
    page.go_back()
    expect(stack).to_have_attribute("data-index", "41")
    assert abs(page.evaluate("scrollY") - before) < 300


def test_near_duplicates_open_by_their_ids_and_from_a_link_by_what_is_alike(
    page: Page, new_page: NewPage, server: Server
) -> None:
    page.goto("/?q=shoe&group_by=near_duplicates")
    expect(page.get_by_role("button", name="Remove one of near-duplicates")).to_be_visible()
    cells(page).nth(1).get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"stack={identity(1)}$"))
    expect(cells(page)).to_have_count(SIZE)
    assert server.asked["text"] == "shoe"
    assert server.asked["filters"] == {"id": {"in": [identity(SIZE + other) for other in range(SIZE)]}}
    link = new_page()
    another = Server(link)
    link.goto(page.url)
    expect(cells(link).first).to_be_visible()
    assert another.asked["positive"] == [{"image_id": identity(1)}]
    assert another.asked["min_score"] == 0.95
    assert not {"text", "group_by"} & another.asked.keys()
    page.get_by_role("button", name=re.compile("^Remove near-duplicates of picture")).click()
    expect(page).to_have_url(re.compile("group_by=near_duplicates$"))


def test_keywords_are_asked_for_and_marked_where_they_matched(page: Page, server: Server) -> None:
    page.goto("/")
    panel = filters(page)
    panel.get_by_label("Keywords", exact=True).fill("north face, boot")
    panel.get_by_label("Keywords", exact=True).press("Enter")
    expect(page.get_by_role("button", name="Remove with north face or boot")).to_be_visible()
    assert server.asked["text"] == "north face boot", "a search needs something to be near to"
    panel.get_by_role("button", name="Only in title").click()
    expect(panel.get_by_role("button", name="Only in title")).to_have_attribute("aria-pressed", "true")
    expect(panel.get_by_role("button", name="Only in price")).to_have_count(0)
    panel.get_by_label("How many of the keywords").select_option("all")
    expect(page.get_by_role("button", name="Remove with north face and boot in title")).to_be_visible()
    assert server.asked["keywords"] == {"all": ["north face", "boot"], "in": ["title"]}
    shot(page, "list-keywords-light")
    assert_accessible(page)
    page.reload()
    expect(filters(page).get_by_label("Keywords", exact=True)).to_have_value("north face, boot")
    cells(page).first.get_by_role("link").click()
    expect(detail(page).locator("mark")).to_have_text(["North-Face"])
    assert_accessible(page)


def test_why_keywords_cannot_be_had_is_the_servers_sentence(page: Page, faults: Faults) -> None:
    faults.expect("status of 409")
    detail = "The texts of this collection are still being prepared for `keywords`: 3 of 9 done."
    problem = {"status": 409, "code": "keywords_not_ready", "title": "Conflict", "detail": detail}
    page.route("**/v1/search", lambda route: route.fulfill(status=409, json=problem))
    page.goto('/?q=shoe&keywords={"any":["boot"]}')
    expect(page.get_by_role("alert")).to_contain_text("still being prepared for “keywords”: 3 of 9 done.")
    expect(page.get_by_role("button", name="Remove with boot")).to_be_visible()


def scroll_on(page: Page, server: Server) -> None:
    """To the end, until another page of results was asked for."""
    with page.expect_response(lambda response: '"offset":80' in (response.request.post_data or "")):
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert server.asked["offset"] > 0


def part_dialog(page: Page) -> Any:
    return page.get_by_role("dialog", name=re.compile("^Search for a part of"))


def test_a_part_is_chosen_by_keyboard_and_searched_for(page: Page, server: Server) -> None:
    page.goto(f"/?q=shoe&image={identity(3)}")
    detail(page).get_by_role("button", name="Search for a part").click()
    frame = part_dialog(page).get_by_role("application")
    expect(frame).to_be_focused()
    shot(page, "part-light")
    assert_accessible(page)
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expect(part_dialog(page).get_by_role("status")).to_have_text("23 to 75 % across, 23 to 77 % down")
    page.keyboard.press("Escape")
    expect(part_dialog(page)).to_have_count(0)
    expect(detail(page)).to_be_visible()
    page.keyboard.press("p")
    expect(frame).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"\?more={identity(3)}%400\.23%2C0\.25%2C0\.73%2C0\.75$"))
    expect(detail(page)).to_have_count(0)
    assert server.asked["positive"] == [{"image_id": identity(3), "box": [0.23, 0.25, 0.73, 0.75]}]
    chip = page.get_by_role("button", name=re.compile("^Remove part of picture 0000"))
    drawn = "canvas => canvas.getContext('2d').getImageData(24, 24, 1, 1).data[3]"
    expect(chip.locator("canvas")).to_be_visible()
    page.wait_for_function(f"() => ({drawn})(document.querySelector('.chip canvas')) === 255")
    scroll_on(page, server)
    assert server.asked["positive"] == [{"vector": [0.6, 0.8]}], "the server has encoded it once"


@pytest.mark.parametrize("pointer", ["mouse", "finger"])
def test_a_part_is_drawn(new_page: NewPage, pointer: str) -> None:
    page = new_page(**PHONE) if pointer == "finger" else new_page()
    server = Server(page)
    page.goto(f"/?image={identity(2)}")
    detail(page).get_by_role("button", name="Search for a part").click()
    # Not an expression: that is evaluated anew each time, which the page's CSP refuses.
    page.wait_for_function("() => document.querySelector('.part-picture img')?.naturalWidth")
    assert_fits(page)
    draw(page, pointer, ((0.1, 0.1), (0.3, 0.5), (0.5, 0.9)))
    expect(part_dialog(page).get_by_role("status")).to_have_text("10 to 50 % across, 10 to 90 % down")
    shot(page, f"part-drawn-{pointer}")
    with page.expect_response(lambda response: '"box"' in (response.request.post_data or "")):
        part_dialog(page).get_by_role("button", name="Search for this part").click()
    (term,) = server.asked["positive"]
    assert term["box"] == pytest.approx([0.1, 0.1, 0.5, 0.9], abs=0.01)


def draw(page: Page, pointer: str, shares: tuple[tuple[float, float], ...]) -> None:
    """Goes down at the first place of the picture, by shares of its sides, and up at the last."""
    box = part_dialog(page).locator("img").bounding_box() or {}
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]
    if pointer == "mouse":
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
        return
    session = page.context.new_cdp_session(page)
    for number, (x, y) in enumerate(places):
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_dropped_picture_is_uploaded_once_and_again_for_another_model(
    page: Page, server: Server, drawings: Pictures
) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    drop(page.get_by_role("search"), [drawings.folder / "elephant.png"])
    expect(chips(page)).to_have_count(1)
    expect(page.locator(".score").first).to_be_visible()
    assert (server.uploads, server.asked["include"]) == (1, ["tags", "confidence", "vectors"])
    scroll_on(page, server)
    filters(page).get_by_label("Only what surely fits").check()
    expect(page).to_have_url(re.compile("sure=1"))
    assert server.asked["positive"] == [{"vector": [0.6, 0.8]}]
    assert server.uploads == 1
    assert "vectors" not in server.asked["include"]
    server.model = "another"
    filters(page).get_by_label("Only what surely fits").uncheck()
    expect(page).not_to_have_url(re.compile("sure=1"))
    assert "vectors" in server.asked["include"]
    assert server.uploads == 2, "the vector was the other model's"


def test_a_part_of_a_dropped_picture_is_cut_out_by_the_server(
    page: Page, server: Server, drawings: Pictures
) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    drop(page.get_by_role("search"), [drawings.folder / "elephant.png"])
    page.get_by_role("button", name="Choose a part of elephant.png").click()
    part_dialog(page).get_by_role("button", name="Search for this part").click()
    expect(page.get_by_role("button", name="Remove part of picture elephant.png")).to_be_visible()
    assert (server.asked["box"], server.asked["positive"]) == ([0.25, 0.25, 0.75, 0.75], [])
    assert server.uploads == 2, "as a file, which may be larger than one in base64"
    scroll_on(page, server)
    assert (server.asked["positive"], server.uploads) == ([{"vector": [0.6, 0.8]}], 2)
    assert "box" not in server.asked


def test_the_server_gives_what_the_page_asks_for(page: Page, drawings: Pictures) -> None:
    page.goto("/?q=an+elephant&group_by=group")
    stack = page.locator(".cell.stacked").first
    others = int(stack.locator(".others").inner_text().removeprefix("+"))
    stack.get_by_role("link").click()
    expect(cells(page)).to_have_count(others + 1)
    page.goto("/?q=a+photo&order_by=-taken_at")
    expect(page.locator(".result-status")).to_have_text(re.compile("last taken first"))
    expect(cells(page).first.locator(".name")).to_have_text("photo-11.jpg")
    drop(page.get_by_role("search"), [drawings.folder / "elephant.png"])
    page.get_by_role("button", name="Remove words a photo").click()
    page.get_by_role("button", name=re.compile("^Remove last taken first")).click()
    expect(cells(page).first.locator(".name")).to_have_text("elephant.png")
    with page.expect_response(
        lambda response: '"vector":[' in (response.request.post_data or "")
    ) as answered:
        page.get_by_role("searchbox", name="Search for").fill("animal")
    assert answered.value.ok
    page.get_by_role("button", name="Choose a part of elephant.png").click()
    part_dialog(page).get_by_role("button", name="Search for this part").click()
    chip = page.get_by_role("button", name="Remove part of picture elephant.png")
    expect(chip).to_be_visible()
    expect(page.locator(".grid[aria-busy]")).to_have_count(0)
    expect(cells(page).first).to_be_visible()


def test_keywords_of_the_filters_are_marked_where_the_server_matched_them(page: Page) -> None:
    page.goto("/?q=a+cat")
    panel = filters(page)
    panel.get_by_label("Keywords", exact=True).fill("CAT face, boot")
    panel.get_by_label("Keywords", exact=True).press("Enter")
    panel.get_by_role("button", name="Only in name").click()
    expect(page.get_by_role("button", name="Remove with CAT face or boot in name")).to_be_visible()
    expect(cells(page)).to_have_count(2)
    expect(cells(page).locator(".name")).to_have_text([re.compile("cat-face")] * 2)
    cells(page).first.get_by_role("link").click()
    expect(detail(page).locator("mark")).to_have_text(["cat face"])
    expect(detail(page).locator('[data-name="name"]')).to_contain_text("cat face")
