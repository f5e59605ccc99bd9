"""Searching on the page: words, pictures, what is more and less alike, filters, links that reproduce it."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Request, expect

from examples.demo.pictures import Pictures
from tests.browser.conftest import Faults, NewPage
from tests.browser.gestures import drop
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.browser.search_page import box, cell, cells, chips, filters, search, shows
from tests.image_server import ImageServer, make_photo
from tests.stack import finished


def asked(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = request.post_data_json
    return body


def is_search(request: Request) -> bool:
    """A page of results; facets are asked for with a limit of 1."""
    return request.url.endswith("/v1/search") and '"offset"' in (request.post_data or "")


def test_the_first_thing_shown_is_the_collection(page: Page, http: httpx.Client) -> None:
    count = http.get("/v1/collections/images").json()["count"]
    page.goto("/")
    expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text=f"{count} pictures")).to_be_visible()
    expect(page.locator(".cell img.loaded").first).to_be_visible()
    shot(page, "search-start-light")
    assert_accessible(page)
    page.locator(".examples a").first.click()
    expect(page).to_have_url(re.compile(r"\?q=\w+"))
    expect(page.get_by_role("status").filter(has_text="good match")).to_be_visible()


def test_words_find_pictures_and_the_link_finds_them_again(page: Page, new_page: NewPage) -> None:
    page.goto("/")
    answer = search(page, "an elephant")
    expect(page).to_have_url(re.compile(r"/\?q=an\+elephant$"))
    expect(page).to_have_title("an elephant · image-search")
    best = answer["results"][0]
    assert best["source"] == "elephant.png"
    first = cells(page).first.get_by_role("link")
    tags = ", ".join(best["tags"][:3])
    expect(first).to_have_accessible_name(
        f"elephant.png, score {best['score']:.2f}, {best['strength']} match, {tags}".removesuffix(", ")
    )
    assert f"{best['score']:.4f}" in (cells(page).first.locator(".score").get_attribute("title") or "")
    other = new_page()
    other.goto(page.url)
    shows(other, answer)
    expect(box(other)).to_have_value("an elephant")


def test_typing_searches_after_a_pause_and_is_one_step_of_the_history(page: Page) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    box(page).press_sequentially("bicy")
    expect(page).to_have_url(re.compile("q=bicy$"))
    box(page).press_sequentially("cle")
    expect(page).to_have_url(re.compile("q=bicycle$"))
    expect(cells(page).first.locator(".name")).to_have_text("bicycle.png")
    page.go_back()
    expect(page).to_have_url(re.compile("/$"))
    expect(box(page)).to_have_value("")
    page.go_forward()
    expect(box(page)).to_have_value("bicycle")
    expect(cells(page).first.locator(".name")).to_have_text("bicycle.png")


@pytest.mark.parametrize(
    ("words", "without", "direction"),
    [
        ("夜の濡れた道にある赤い車", "猫", "ltr"),
        ("قطة سوداء تنام, cat", "سيارة", "rtl"),
        ("गीली सड़क पर लाल कार", "बिल्ली", "ltr"),
        ("μια ομπρέλα cafe\u0301 👩🏽\u200d🚀", "\u200fقطة", "ltr"),
    ],
)
def test_any_script_is_asked_as_it_was_typed_and_reads_in_its_direction(
    page: Page, new_page: NewPage, words: str, without: str, direction: str
) -> None:
    page.goto("/")
    with page.expect_request(is_search) as sent:
        box(page).fill(f"{words} -{without}")
        box(page).press("Enter")
    assert asked(sent.value)["text"] == words
    assert [term["text"] for term in asked(sent.value)["negative"]] == [without]
    expect(box(page)).to_have_css("direction", direction)
    expect(chips(page).first.locator(".ellipsis")).to_have_css("direction", direction)
    link = new_page()
    with link.expect_request(is_search) as again:
        link.goto(page.url)
    assert asked(again.value)["text"] == words
    expect(box(link)).to_have_value(f"{words} -{without}")


def test_what_an_input_method_composes_is_asked_once_it_is_done(page: Page) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    keyboard = page.context.new_cdp_session(page)
    box(page).focus()
    texts: list[str] = []

    def note(request: Request) -> None:
        if is_search(request):
            texts.append(asked(request)["text"])

    page.on("request", note)
    for composed in ("n", "ね", "ねk", "ねこ"):
        keyboard.send("Input.imeSetComposition", {"text": composed, "selectionStart": 2, "selectionEnd": 2})
        page.wait_for_timeout(400)  # longer than the pause after which it searches
        expect(box(page)).to_have_value(composed)
    keyboard.send("Input.insertText", {"text": "猫"})
    expect(page).to_have_url(re.compile("q=%E7%8C%AB$"))
    assert texts == ["猫"]


def test_a_leading_minus_takes_away(page: Page) -> None:
    page.goto("/")
    with page.expect_request(is_search) as sent:
        search(page, 'face -cat -"red apple"')
    assert asked(sent.value)["text"] == "face"
    assert asked(sent.value)["negative"] == [
        {"text": "cat", "weight": 0.5},
        {"text": "red apple", "weight": 0.5},
    ]
    expect(chips(page)).to_have_count(3)
    with page.expect_request(is_search) as sent:
        page.get_by_role("button", name="Remove not cat").click()
    assert [term["text"] for term in asked(sent.value)["negative"]] == ["red apple"]
    expect(box(page)).to_have_value('face -"red apple"')
    page.get_by_role("button", name="Remove words face").click()
    expect(box(page)).to_have_value('-"red apple"')


def test_more_and_less_like_this_build_a_query_of_chips(page: Page, new_page: NewPage) -> None:
    page.goto("/")
    answer = search(page, "face")
    first, second = answer["results"][0], answer["results"][1]
    cells(page).first.hover()
    with page.expect_response(lambda response: is_search(response.request)):
        cells(page).first.get_by_role("button", name=re.compile("^More like")).click()
    expect(page).to_have_url(re.compile(f"more={first['id']}"))
    expect(chips(page)).to_have_count(2)
    target = cell(page, second["source"])
    target.hover()
    with page.expect_response(lambda response: is_search(response.request)) as answered:
        target.get_by_role("button", name=re.compile("^Less like")).click()
    sent = asked(answered.value.request)
    assert sent["text"] == "face"
    assert sent["positive"] == [{"image_id": first["id"]}]
    assert sent["negative"] == [{"image_id": second["id"]}], "the server knows how much is right"
    shows(page, answered.value.json())
    scores = {result["id"]: result["score"] for result in answered.value.json()["results"]}
    assert scores[second["id"]] < second["score"], "it is pushed down"
    shot(page, "search-combined-light")
    link = new_page()
    link.goto(page.url)
    shows(link, answered.value.json())
    expect(chips(link)).to_have_count(3)
    page.get_by_role("button", name=re.compile("^Remove less like picture")).click()
    expect(page).to_have_url(re.compile(f"q=face&more={first['id']}$"))
    page.go_back()
    shows(page, answered.value.json())


def test_only_similar_pictures_start_a_query_of_their_own(page: Page) -> None:
    page.goto("/")
    search(page, "a boat")
    boat = cell(page, "rowboat.png")
    boat.hover()
    boat.get_by_role("button", name=re.compile("^Only similar")).click()
    expect(page).to_have_url(re.compile(r"/\?more=[0-9a-f]{64}$"))
    expect(cells(page).first.locator(".score")).to_have_text("1.00 strong")
    expect(box(page)).to_have_value("")


def test_a_picked_picture_is_searched_for_and_stays_for_back(page: Page, drawings: Pictures) -> None:
    page.goto("/")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Picture").click()
    chooser.value.set_files(drawings.folder / "elephant.png")
    expect(page.get_by_role("button", name="Remove picture elephant.png")).to_have_attribute(
        "title", re.compile("in no link")
    )
    expect(cells(page).first.locator(".name")).to_have_text("elephant.png")
    page.get_by_role("button", name="Remove picture elephant.png").click()
    expect(chips(page)).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("button", name="Remove picture elephant.png")).to_be_visible()
    expect(cells(page).first.locator(".name")).to_have_text("elephant.png")


def test_a_dropped_picture_is_searched_for_together_with_words(page: Page, drawings: Pictures) -> None:
    page.goto("/")
    search(page, "red")
    with page.expect_response(lambda response: response.url.endswith("/v1/search")) as answered:
        drop(page.get_by_role("search"), [drawings.folder / "automobile.png"])
    assert answered.value.request.headers["content-type"].startswith("multipart/form-data")
    shows(page, answered.value.json())
    expect(cells(page).first.locator(".name")).to_have_text("automobile.png")
    expect(chips(page)).to_have_count(2)
    expect(page.locator(".drop-overlay")).to_be_hidden()


def test_what_is_no_picture_is_refused_in_a_sentence(page: Page, tmp_path: Any) -> None:
    page.goto("/")
    (tmp_path / "notes.txt").write_text("no picture")
    drop(page.get_by_role("search"), [tmp_path / "notes.txt"])
    expect(page.get_by_role("alert")).to_contain_text("That is no picture")


PASTE = """text => {
  const data = new DataTransfer();
  data.setData("text/plain", text);
  document.activeElement.dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def test_the_address_of_a_picture_can_be_pasted(
    page: Page, image_server: ImageServer, faults: Faults
) -> None:
    page.goto("/")
    box(page).focus()
    url = image_server.url("/photo/3.jpg?w=600&h=900")
    with page.expect_response(lambda response: response.url.endswith("/v1/search")) as answered:
        page.evaluate(PASTE, url)
    assert asked(answered.value.request)["positive"] == [{"image_url": url}]
    shows(page, answered.value.json())
    expect(page.get_by_role("button", name="Remove picture 3.jpg")).to_be_visible()
    faults.expect("422")
    page.goto("/?image_url=http%3A%2F%2F10.0.0.1%2Fa.jpg")
    expect(page.get_by_role("alert")).to_contain_text("the host's address is not a public one")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_filters_narrow_what_is_found_and_are_chips(page: Page, http: httpx.Client) -> None:
    page.goto("/")
    search(page, "a photo")
    panel = filters(page)
    assert_accessible(page)
    with page.expect_request(is_search) as sent:
        panel.get_by_label("From").fill("2022-01-01")
    assert asked(sent.value)["filters"] == {"taken_at": {"gte": "2022-01-01"}}
    with page.expect_request(is_search) as sent:
        panel.get_by_label("Until").fill("2022-12-31")
    assert asked(sent.value)["filters"] == {"taken_at": {"gte": "2022-01-01", "lt": "2023-01-01"}}
    again = {"text": "a photo", "filters": asked(sent.value)["filters"], "include": ["confidence"]}
    found = http.post("/v1/search", json=again).json()
    assert len(found["results"]) == 4
    expect(cells(page)).to_have_count(4)
    good = sum(one["strength"] != "weak" for one in found["results"])
    said = re.compile(f"^{good} good match" if good else "^No good match.*; the nearest first")
    expect(page.get_by_role("status").filter(has_text=said)).to_be_visible()
    shot(page, "search-filters-light")
    panel.get_by_label("Metadata name").fill("place")
    panel.get_by_label("Metadata value").fill("Paris")
    panel.get_by_role("button", name="Add").click()
    expect(page.get_by_role("button", name="Remove place = Paris")).to_be_visible()
    expect(page.get_by_role("button", name="Remove taken from 2022-01-01 until 2022-12-31")).to_be_visible()
    page.reload()
    expect(cells(page)).to_have_count(4)
    expect(filters(page).get_by_label("Until")).to_have_value("2022-12-31")
    filters(page).get_by_role("button", name="Clear all").click()
    expect(chips(page)).to_have_count(0)


def test_colours_tags_and_sizes_filter_without_words_too(page: Page, http: httpx.Client) -> None:
    page.goto("/")
    panel = filters(page)
    panel.get_by_role("button", name="red", exact=True).click()
    panel.get_by_role("button", name="yellow", exact=True).click()
    expect(panel.get_by_role("button", name="red", exact=True)).to_have_attribute("aria-pressed", "true")
    panel.get_by_label("Least width in pixels").fill("400")
    panel.get_by_label("Least width in pixels").press("Enter")
    wanted = '{"colors": {"in": ["red", "yellow"]}, "width": {"gte": 400}}'
    ids = {image["id"] for image in http.get("/v1/images", params={"filters": wanted}).json()["images"]}
    expect(cells(page)).to_have_count(len(ids))
    links = [link.get_attribute("href") or "" for link in cells(page).get_by_role("link").all()]
    assert {re.search("image=(\\w+)", link)[1] for link in links} == ids  # type: ignore[index]
    tag = panel.get_by_role("group", name="Tags").get_by_role("button").first
    name = tag.inner_text()
    tag.click()
    expect(page.get_by_role("button", name=f"Remove tag {name}")).to_be_visible()


def test_a_place_is_asked_for_only_on_demand(new_page: NewPage) -> None:
    page = new_page(geolocation={"latitude": 47.37, "longitude": 8.54}, permissions=["geolocation"])
    page.goto("/")
    panel = filters(page)
    expect(panel.get_by_label("Latitude")).to_have_value("")
    panel.get_by_role("button", name="Use my position").click()
    expect(page.get_by_role("button", name="Remove within 5 km of 47.37, 8.54")).to_be_visible()
    expect(cells(page)).to_have_count(4)


def test_nothing_fits_says_so_and_offers_the_way_out(page: Page) -> None:
    page.goto("/?q=boat&f=%7B%22place%22%3A%22Atlantis%22%7D")
    expect(page.get_by_role("heading", name="Nothing fits")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_words_that_nothing_fits_are_said_to_and_the_nearest_come_on_demand(page: Page) -> None:
    page.goto("/")
    with page.expect_response(lambda response: is_search(response.request)) as answered:
        box(page).fill("asdfghjkl")
        box(page).press("Enter")
    assert {one["strength"] for one in answered.value.json()["results"]} == {"weak"}
    expect(page.get_by_role("heading", name="No good match")).to_be_visible()
    expect(cells(page)).to_have_count(0)
    status = page.get_by_role("main").locator(".result-status")
    expect(status).to_have_text(re.compile("^No good match"))
    shot(page, "search-no-match-light")
    assert_accessible(page)
    box(page).press("ArrowDown")
    nearest = page.get_by_role("button", name="Show the nearest anyway")
    expect(nearest).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=asdfghjkl&nearest=1$"))
    expect(cells(page).first.get_by_role("link")).to_be_focused()
    expect(cells(page).first.locator(".score")).to_have_text(re.compile("weak$"))
    expect(status).to_have_text(re.compile("^No good match.*; the nearest first"))
    expect(page.locator(".certainty-line")).to_be_hidden()
    page.go_back()
    expect(nearest).to_be_visible()
    expect(cells(page)).to_have_count(0)
    page.go_forward()
    expect(cells(page).first).to_be_visible()
    search(page, "a bicycle")
    expect(page).to_have_url(re.compile("q=a\\+bicycle$"))


def test_nothing_that_surely_fits_leads_to_the_nearest_too(page: Page) -> None:
    page.goto("/?q=asdfghjkl&sure=1")
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page).to_have_url(re.compile("q=asdfghjkl&nearest=1$"))
    expect(cells(page).first).to_be_visible()


def test_pictures_filters_and_few_pictures_never_leave_the_results_empty(
    page: Page, http: httpx.Client
) -> None:
    last = http.get("/v1/images", params={"filters": '{"name": "elephant"}'}).json()["images"][0]["id"]
    for query in (
        f"more={last}",
        f"less={last}",
        f"q=asdfghjkl&less={last}",
        "q=asdfghjkl&f=%7B%22place%22%3A%22Paris%22%7D",
    ):
        page.goto(f"/?{query}")
        expect(cells(page).first.locator(".score")).to_have_text(re.compile("strong|likely|weak"))
    file = ("files", ("one.jpg", make_photo(41, 90, 60), "image/jpeg"))
    finished(http, http.post("/v1/jobs", files=[file], data={"collection": "single"}))
    page.goto("/?q=asdfghjkl&collection=single")
    expect(cells(page)).to_have_count(1)
    expect(
        page.get_by_role("status").filter(has_text=re.compile("^1 picture.*, nearest first"))
    ).to_be_visible()
    expect(cells(page).locator(".score")).to_have_text(re.compile(r"^-?\d\.\d\d$"))
    assert page.locator("#toasts [role]").count() == 0


def test_a_broken_link_is_shown_without_what_cannot_be_read(page: Page) -> None:
    page.goto("/?q=boat&f=%7Bnot-json")
    expect(page.get_by_role("alert")).to_contain_text("cannot be read")
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_a_collection_without_pictures_asks_for_some(page: Page, http: httpx.Client) -> None:
    assert http.post("/v1/collections", json={"name": "empty-one"}).status_code == 201
    page.goto("/?collection=empty-one")
    page.get_by_role("main").get_by_role("link", name="Add pictures").click()
    expect(page).to_have_url(re.compile(r"/ingest\?collection=empty-one$"))


def test_keyboard_alone_searches_opens_and_refines(page: Page) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    page.keyboard.press("/")
    expect(box(page)).to_be_focused()
    page.keyboard.type("an animal")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="good match")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(cells(page).nth(0).get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cells(page).nth(2).get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowDown")
    below = page.locator(":focus")
    assert (below.bounding_box() or {})["y"] > (cells(page).nth(2).bounding_box() or {})["y"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    name = cells(page).first.locator(".name").inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name=re.compile(f"^{re.escape(name)}"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(cells(page).first.get_by_role("link")).to_be_focused()
    page.keyboard.press("l")
    expect(page).to_have_url(re.compile("less="))
    expect(page.locator(".cell :focus")).to_have_count(1)
    page.keyboard.press("m")
    expect(page).to_have_url(re.compile("more="))
    page.keyboard.press("Escape")
    expect(box(page)).to_be_focused()


def test_dark_and_phone_are_readable_and_fit(dark_page: Page, phone_page: Page) -> None:
    for page, name in ((dark_page, "dark"), (phone_page, "phone")):
        page.goto("/")
        expect(page.locator(".cell img.loaded").first).to_be_visible()
        shot(page, f"search-start-{name}")
        search(page, "fruit -apple")
        expect(page.locator(".cell img.loaded").first).to_be_visible()
        shot(page, f"search-results-{name}")
        assert_accessible(page)
        filters(page)
        shot(page, f"search-filters-{name}")
        assert_accessible(page)
        assert_fits(page)
    targets = phone_page.locator("button:visible, nav a:visible, .cell a:visible")
    for target in targets.all():
        size = target.bounding_box() or {}
        assert min(size["width"], size["height"]) >= 44, target.evaluate("element => element.outerHTML")
