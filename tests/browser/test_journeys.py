"""What people come for, from one end to the other, on the page as it is served."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from examples.demo.pictures import Pictures
from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.gestures import drop
from tests.browser.header import collection
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.image_server import ImageServer
from tests.stack import Stack

EVERY = 4  # of the drawings: enough to see the job's progress
JOB_MS = 90_000  # for a job's end
Look = Callable[[str], None]


def cells(page: Page) -> Locator:
    return page.locator(".cell a.result")


def found(page: Page) -> list[str]:
    """The files' names, best first, of the results that are near the window."""
    return [str(cell.get_attribute("aria-label")).partition(",")[0] for cell in cells(page).all()]


def ask(page: Page, words: str) -> None:
    box = page.get_by_role("searchbox", name="Search for")
    box.fill(words)
    box.press("Enter")


def begins_with(page: Page, name: str) -> None:
    expect(cells(page).first).to_have_attribute("aria-label", re.compile(f"^{re.escape(name)}"))


def part_of_query(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name="The query").get_by_role(
        "button", name=re.compile(f"^Remove {name}")
    )


def asks_for(page: Page, *names: str) -> None:
    """The query has these parts, and the results are those of it."""
    for name in names:
        expect(part_of_query(page, name)).to_be_visible()
    expect(page.get_by_role("list", name="Results")).not_to_have_attribute("aria-busy", "true")


def tab_to(page: Page, target: Locator) -> None:
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {target}")


def test_from_a_folder_to_a_link(
    page: Page, new_page: NewPage, http: httpx.Client, drawings: Pictures, tmp_path: Path
) -> None:
    names = [*list(drawings.metadata)[::EVERY], "elephant.png", "rowboat.png"]
    folder = tmp_path / "drawings"
    folder.mkdir()
    for name in names:
        shutil.copy(drawings.folder / name, folder)
    (folder / "letter.pdf").write_bytes(b"%PDF-1.7")

    page.goto("/ingest?collection=journey")
    drop(page.locator(".drop"), [folder])
    expect(page.get_by_text("Left out: 1 letter.pdf")).to_be_visible()
    page.get_by_role("button", name=f"Add {len(set(names))} pictures").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_text(f"{len(set(names))} indexed", exact=True)).to_be_visible(timeout=JOB_MS)
    page.get_by_role("link", name="Search these").click()

    ask(page, "elephant")
    begins_with(page, "elephant.png")
    cells(page).first.hover()
    page.get_by_role("button", name="More like elephant.png").click()
    asks_for(page, "more like")
    begins_with(page, "elephant.png")
    unwanted = found(page)[1]
    cells(page).nth(1).hover()
    page.get_by_role("button", name=f"Less like {unwanted}").click()
    asks_for(page, "more like", "less like")
    begins_with(page, "elephant.png")
    assert unwanted not in found(page)[:2]

    page.get_by_role("button", name="Filters").click()
    page.get_by_role("button", name="gray", exact=True).click()
    asks_for(page, "more like", "less like", "colour gray")
    begins_with(page, "elephant.png")
    shown = [str(cell.get_attribute("href")) for cell in cells(page).all()[:5]]
    for href in shown:
        (image_id,) = parse_qs(urlsplit(href).query)["image"]
        image = http.get(f"/v1/images/{image_id}", params={"collection": "journey"}).json()
        assert "gray" in image["colors"]
    link, results = page.url, found(page)

    cells(page).first.click()
    picture = page.get_by_role("dialog", name="elephant.png")
    expect(picture.get_by_role("img", name=re.compile("^elephant.png"))).to_be_visible()
    expect(picture.get_by_role("heading", name="Similar")).to_be_visible()
    picture.get_by_role("button", name="Where is “elephant”?").click()
    expect(
        picture.get_by_role("img", name=re.compile("^Where in the picture “elephant” matches"))
    ).to_be_visible()
    picture_link = page.url
    page.go_back()
    expect(picture).to_be_hidden()
    assert page.url == link

    other = new_page()
    other.goto(link)
    asks_for(other, "more like", "less like", "colour gray")
    begins_with(other, "elephant.png")
    assert found(other)[:10] == results[:10]
    other.goto(picture_link)
    expect(other.get_by_role("dialog", name="elephant.png")).to_be_visible()

    part_of_query(page, "colour gray").click()
    expect(part_of_query(page, "colour gray")).to_be_hidden()
    page.go_back()
    asks_for(page, "more like", "less like", "colour gray")


def test_by_keyboard_alone(page: Page, image_server: ImageServer) -> None:
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("a red car")
    page.keyboard.press("Enter")
    begins_with(page, "automobile.png")
    page.keyboard.press("ArrowDown")
    expect(cells(page).first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(cells(page).nth(1)).to_be_focused()
    page.keyboard.press("l")
    asks_for(page, "less like")
    tab_to(page, cells(page).first)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(cells(page).first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).to_be_focused()
    tab_to(page, part_of_query(page, "less like"))
    page.keyboard.press("Enter")
    expect(part_of_query(page, "less like")).to_be_hidden()

    tab_to(page, page.get_by_role("link", name="Add", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to(page, page.get_by_label("Or paste URLs of pictures"))
    page.keyboard.type(image_server.url("/photo/601.jpg?w=96&h=72"))
    tab_to(page, collection(page))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="New collection…"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="New collection").get_by_label("Name")).to_be_focused()
    page.keyboard.type("by-keyboard")
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Add 1 picture to by-keyboard"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 indexed", exact=True)).to_be_visible(timeout=JOB_MS)
    tab_to(page, page.get_by_role("link", name="Search these"))
    page.keyboard.press("Enter")
    begins_with(page, "601.jpg")
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_on_a_phone(phone_page: Page) -> None:
    page = phone_page
    page.goto("/")
    ask(page, "a red car")
    begins_with(page, "automobile.png")
    page.get_by_role("button", name="Filters").tap()
    sheet = page.get_by_role("dialog", name="Filters")
    sheet.get_by_role("button", name="white", exact=True).tap()
    sheet.get_by_role("button", name="Close the filters").tap()
    asks_for(page, "colour white")
    begins_with(page, "automobile.png")
    cells(page).first.tap()
    picture = page.get_by_role("dialog", name="automobile.png")
    picture.get_by_role("button", name="Similar", exact=True).tap()
    expect(picture).to_be_hidden()
    asks_for(page, "more like")


def views(page: Page, look: Look, job_id: str) -> None:
    """Goes through every view as it is with pictures in it, and looks at each."""
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    look("start")
    page.goto("/?q=a+red+car+-train")
    begins_with(page, "automobile.png")
    look("results")
    page.get_by_role("button", name="Filters").click()
    look("filters")
    page.goto("/?q=a+red+car+-train")
    cells(page).first.click()
    expect(page.get_by_role("heading", name="Similar")).to_be_visible()
    look("detail")
    page.goto("/ingest")
    page.get_by_label("Or paste URLs of pictures").fill("url,shop\nhttps://example.com/a.jpg,north")
    expect(page.get_by_role("button", name="Add 1 picture")).to_be_visible()
    look("ingest")
    page.goto("/jobs")
    expect(page.get_by_role("cell", name="Succeeded").first).to_be_visible()
    look("jobs")
    page.goto(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", name="Items")).to_be_visible()
    look("job")
    page.goto("/system")
    expect(page.get_by_role("heading", name="Collections")).to_be_visible()
    look("system")


@pytest.mark.parametrize("theme", ["light", "dark", "phone"])
def test_every_view_is_accessible_fits_and_asks_nobody_else(
    theme: str, new_page: NewPage, stack: Stack, http: httpx.Client
) -> None:
    page = new_page(**PHONE if theme == "phone" else {"color_scheme": theme})
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))

    def look(name: str) -> None:
        shot(page, f"{name}-{theme}")
        assert_accessible(page)
        assert_fits(page)

    newest = http.get("/v1/jobs?status=succeeded").json()["jobs"][0]
    views(page, look, newest["job_id"])
    assert not [url for url in asked if not url.startswith((stack.url, "blob:", "data:"))]


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("/?image_url=http%3A%2F%2F127.0.0.1%3A1%2Fa.jpg", "the connection was refused"),
        ("/?image_url=javascript%3Aalert(1)", "the URL does not begin with http:// or https://"),
        ("/?f=%7B%22<img src=x onerror=alert(1)>%22%3A1%7D", "A field name is 1 to 63 letters"),
        (
            "/?more=..%2F..%2Fhealthz",
            "the picture ../../healthz, which the collection “images” does not have",
        ),
        ("/?image=<img src=x onerror=alert(1)>", "does not have this picture"),
        ("/jobs/%E0%A4%A", "There is no job"),
        ("/jobs/<img src=x onerror=alert(1)>", "There is no job '<img src=x onerror=alert(1)>'"),
    ],
)
def test_a_bad_link_says_once_what_is_wrong(page: Page, faults: Faults, link: str, reason: str) -> None:
    """And runs nothing: what the CSP would refuse is a fault, too."""
    faults.expect("status of 4(04|22)")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text(reason)
    page.wait_for_load_state("networkidle")
    assert len(asked) <= 1
