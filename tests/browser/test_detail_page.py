"""One picture, large: what is known of it, where the words match, its neighbours."""

import io
import re

import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from examples.demo.pictures import Pictures
from tests.browser.looks import assert_accessible, shot
from tests.browser.search_page import cell, cells, detail, search
from tests.image_server import make_photo
from tests.stack import eventually, finished


def test_a_picture_opens_with_all_that_is_known_and_closes_by_back(page: Page, http: httpx.Client) -> None:
    (image,) = http.get("/v1/images", params={"filters": '{"name": "elephant"}'}).json()["images"]
    page.goto("/")
    answer = search(page, "an elephant")
    results = page.url
    cell(page, "elephant.png").get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"q=an\\+elephant&image={image['id']}"))
    view = detail(page)
    expect(view.get_by_role("heading", name="elephant.png")).to_be_visible()
    expect(view).to_contain_text(re.compile(f"{image['width']} . {image['height']}, PNG"))
    for tag in image["tags"]:
        expect(view.get_by_role("button", name=f"Only pictures with tags {tag}", exact=True)).to_be_visible()
    expect(view.get_by_role("button", name="Only pictures with name elephant")).to_be_visible()
    large = view.get_by_role("img", name=re.compile("^elephant.png"))
    expect(large).to_be_visible()
    eventually(lambda: page.evaluate("document.querySelector('.large-image .large').naturalWidth > 256"))
    expect(view.locator(".strip a").first).to_be_visible()
    shot(page, "detail-light")
    assert_accessible(page)
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(f"image={answer['results'][1]['id']}"))
    page.keyboard.press("ArrowLeft")
    expect(view.get_by_role("heading", name="elephant.png")).to_be_visible()
    page.go_back()
    expect(page).to_have_url(results)
    expect(view).to_have_count(0)


def test_a_link_opens_the_picture_and_closing_shows_the_results(page: Page, http: httpx.Client) -> None:
    (image,) = http.get("/v1/images", params={"filters": '{"name": "rowboat"}'}).json()["images"]
    page.goto(f"/?q=boat&image={image['id']}")
    expect(detail(page).get_by_role("heading", name="rowboat.png")).to_be_visible()
    page.get_by_role("button", name="Close (Esc)").click()
    expect(page).to_have_url(re.compile(r"\?q=boat$"))
    expect(cells(page).first.locator(".name")).to_have_text("rowboat.png")


def test_a_small_score_of_what_is_explicit_is_not_rounded_to_nothing(page: Page, http: httpx.Client) -> None:
    (image,) = http.get("/v1/images", params={"filters": '{"name": "rowboat"}'}).json()["images"]
    page.route(f"**/v1/images/{image['id']}*", lambda route: route.fulfill(json=image | {"nsfw": 0.0087}))
    page.goto(f"/?q=boat&image={image['id']}")
    expect(detail(page)).to_contain_text("Explicit0.0087")


def test_an_unknown_picture_says_so(page: Page, faults: object) -> None:
    faults.expect("status of 404")  # type: ignore[attr-defined]
    page.goto(f"/?image={'0' * 64}")
    expect(detail(page).get_by_role("alert")).to_contain_text("“images” does not have this picture")


def test_the_heat_map_shows_where_the_words_match(page: Page) -> None:
    page.goto("/")
    search(page, "an apple")
    cell(page, "red-apple.png").get_by_role("link").click()
    toggle = detail(page).get_by_role("button", name="Where is “an apple”?")
    toggle.click()
    heat = detail(page).get_by_role("img", name=re.compile("^Where in the picture"))
    expect(heat).to_be_visible(timeout=60_000)
    eventually(lambda: page.evaluate("document.querySelector('.heat').naturalWidth > 256"))
    expect(toggle).to_have_attribute("aria-pressed", "true")
    legend = detail(page).get_by_role("group", name="The map")
    expect(legend).to_contain_text("matches least")
    expect(detail(page)).not_to_contain_text("No clear spot")
    shot(page, "detail-heat-light")
    assert_accessible(page)
    address = page.url
    strength = legend.get_by_role("slider", name="Strength of the map")
    strength.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert page.url == address, "the arrows are the slider's"
    eventually(lambda: heat.evaluate("element => getComputedStyle(element).opacity") == "0.5")
    shot(page, "detail-heat-faded-light")
    toggle.click()
    expect(heat).to_be_hidden()
    expect(legend).to_be_hidden()
    toggle.click()
    expect(heat).to_be_visible()


def test_a_heat_map_without_a_clear_spot_says_so(page: Page, http: httpx.Client) -> None:
    (image,) = http.get("/v1/images", params={"filters": '{"name": "rainbow"}'}).json()["images"]
    answer = http.get("/v1/explain", params={"image_id": image["id"], "text": "asdfghjkl"})
    assert answer.headers["Heat-Spot"] == "unclear"
    page.goto(f"/?q=asdfghjkl&image={image['id']}")
    detail(page).get_by_role("button", name="Where is “asdfghjkl”?").click()
    said = detail(page).get_by_role("status").filter(has_text="No clear spot")
    expect(said).to_be_visible(timeout=60_000)
    shot(page, "detail-heat-unclear-light")


def test_like_and_filter_buttons_lead_back_to_a_query(page: Page) -> None:
    page.goto("/?q=fruit")
    cell(page, "red-apple.png").get_by_role("link").click()
    detail(page).get_by_role("button", name="Less like").click()
    expect(detail(page)).to_have_count(0)
    expect(page).to_have_url(re.compile("q=fruit&less="))
    cells(page).first.get_by_role("link").click()
    group = detail(page).get_by_role("button", name=re.compile("^Only pictures with group"))
    name = group.inner_text()
    group.click()
    expect(page.get_by_role("button", name=f"Remove group = {name}")).to_be_visible()


def test_the_score_is_explained_term_by_term(page: Page, http: httpx.Client) -> None:
    page.goto("/")
    answer = search(page, "face -cat")
    include = ["contributions", "confidence"]
    asked = {"text": "face", "negative": [{"text": "cat", "weight": 0.5}], "include": include}
    best = http.post("/v1/search", json=asked).json()["results"][0]
    assert best["id"] == answer["results"][0]["id"]
    cells(page).first.get_by_role("link").click()
    why = detail(page).locator(".score-terms")
    expect(why.get_by_role("heading")).to_have_text(f"Score {best['score']:.2f}, {best['strength']} match")
    ends = why.locator("meter").evaluate_all("meters => meters.map(meter => meter.max)")
    assert ends == [1, 1], "one scale for all terms and pictures"
    expect(why.locator("dt")).to_have_text(["face", "not cat"])
    shown = [text.replace("−", "-") for text in why.locator("dd").all_inner_texts()]  # noqa: RUF001
    assert shown == [f"{term['share']:+.2f}" for term in best["contributions"]]


def test_near_duplicates_are_told_from_similar_pictures_and_one_is_deleted(
    page: Page, http: httpx.Client, drawings: Pictures
) -> None:
    with Image.open(io.BytesIO(make_photo(31, 640, 480))) as photo:
        small = io.BytesIO()
        photo.resize((480, 360)).save(small, "JPEG", quality=70)
    files = {
        "photo.jpg": make_photo(31, 640, 480),
        "photo-small.jpg": small.getvalue(),
        "boat.png": (drawings.folder / "rowboat.png").read_bytes(),
    }
    parts = [("files", (name, data, "application/octet-stream")) for name, data in files.items()]
    finished(http, http.post("/v1/jobs", files=parts, data={"collection": "twins"}))
    page.goto("/?collection=twins")
    cell(page, "photo.jpg").get_by_role("link").click()
    near = detail(page).locator("section", has=page.get_by_role("heading", name="Near-duplicates"))
    expect(near.get_by_role("link")).to_have_count(1)
    expect(near.get_by_role("link")).to_have_accessible_name(re.compile("^photo-small.jpg"))
    similar = detail(page).locator("section", has=page.get_by_role("heading", name="Similar"))
    expect(similar.get_by_role("link")).to_have_count(1)
    near.get_by_role("link").click()
    expect(detail(page).get_by_role("heading", name="photo-small.jpg")).to_be_visible()
    detail(page).get_by_role("button", name="Delete this picture").click()
    page.get_by_role("button", name="Cancel").click()
    assert http.get("/v1/collections/twins").json()["count"] == 3
    detail(page).get_by_role("button", name="Delete this picture").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="photo-small.jpg is deleted")).to_be_visible()
    expect(cells(page)).to_have_count(2)
    assert http.get("/v1/collections/twins").json()["count"] == 2


def test_dark_and_phone(dark_page: Page, phone_page: Page, http: httpx.Client) -> None:
    (image,) = http.get("/v1/images", params={"filters": '{"name": "rainbow"}'}).json()["images"]
    for page, name in ((dark_page, "dark"), (phone_page, "phone")):
        page.goto(f"/?q=a+rainbow&image={image['id']}")
        expect(detail(page).locator(".strip img").first).to_be_visible()
        expect(detail(page).locator(".large-image .large")).to_be_visible()
        shot(page, f"detail-{name}")
        assert_accessible(page)
    assert phone_page.evaluate("document.querySelector('.detail').scrollWidth <= innerWidth")
