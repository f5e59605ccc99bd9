"""Adding pictures on the page: dropped, picked and pasted, to the end of their jobs."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.gestures import drop
from tests.browser.header import choose, collection
from tests.browser.header import make as into
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.image_server import ImageServer, make_photo
from tests.stack import Stack, eventually

HOSTILE = "<img src=x onerror=window.hacked=1>"
POSTED = re.compile(r"/v1/jobs(\?|$)")
END_MS = 60_000  # for a job on two cores that run everything


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, one of them deeper, and two files that are left out."""
    folder = tmp_path_factory.mktemp("pick") / "holiday"
    (folder / "beach").mkdir(parents=True)
    for number, name in enumerate(("one.jpg", "two.jpg", "beach/three.jpg")):
        (folder / name).write_bytes(make_photo(900 + number, 200, 150))
    (folder / "notes.docx").write_bytes(b"words")
    (folder / "beach" / ".hidden.jpg").write_bytes(b"hidden")
    return folder


@pytest.fixture
def ingest(page: Page) -> Page:
    page.goto("/ingest")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    return page


def send(page: Page) -> None:
    page.locator(".preview [type=submit]").click()


def expect_status(page: Page, status: str) -> None:
    expect(page.locator(".job .status").first).to_have_text(status, timeout=END_MS)


def indexed(http: httpx.Client, collection: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = http.get("/v1/images", params={"collection": collection}).json()[
        "images"
    ]
    return found


def test_a_dropped_folder_is_looked_over_sent_and_there(
    ingest: Page, http: httpx.Client, folder: Path
) -> None:
    shot(ingest, "ingest-empty-light")
    assert_accessible(ingest)
    drop(ingest.locator(".drop"), [folder])
    expect(ingest.get_by_role("heading", name="3 pictures")).to_be_visible()
    ingest.get_by_text("Left out: 1 notes.docx, 1 hidden").click()
    expect(ingest.get_by_text("1 .docx: holiday/notes.docx")).to_be_visible()
    expect(ingest.get_by_text("1 hidden: holiday/beach/.hidden.jpg")).to_be_visible()
    into(ingest, "dropped")
    shot(ingest, "ingest-chosen-light")
    assert_accessible(ingest)
    send(ingest)
    expect(ingest.get_by_role("link", name="3 pictures into dropped")).to_be_visible()
    expect_status(ingest, "Succeeded")
    expect(ingest.locator(".job .counts")).to_have_text("3 indexed")
    assert {image["source"] for image in indexed(http, "dropped")} == {
        "holiday/one.jpg",
        "holiday/two.jpg",
        "holiday/beach/three.jpg",
    }
    shot(ingest, "ingest-done-light")
    assert_accessible(ingest)
    expect(ingest.get_by_role("link", name="Search these")).to_have_attribute(
        "href", re.compile(r"^/\?f=%7B%22job%22%3A%22\w+%22%7D&collection=dropped$")
    )


def test_a_picked_folder_is_read_to_its_depth(ingest: Page, folder: Path) -> None:
    ingest.locator("[data-choose=folder]").set_input_files(folder)
    expect(ingest.get_by_role("heading", name="3 pictures")).to_be_visible()
    expect(ingest.get_by_role("img", name="holiday/beach/three.jpg")).to_be_visible()
    ingest.get_by_role("button", name="Clear").click()
    expect(ingest.get_by_role("heading", name="3 pictures")).to_be_hidden()
    expect(ingest.get_by_role("button", name="Choose files")).to_be_focused()


def test_a_dead_url_fails_with_its_reason_and_is_tried_again(ingest: Page, image_server: ImageServer) -> None:
    dead = image_server.url("/status/404")
    ingest.get_by_label("Or paste URLs").fill(f"{image_server.url('/photo/71.jpg?w=120&h=90')}\n{dead}\n")
    into(ingest, "pasted")
    send(ingest)
    expect_status(ingest, "Partial")
    card = ingest.locator(".job")
    expect(card.get_by_role("link", name=dead)).to_have_attribute("rel", "noopener noreferrer")
    expect(card.locator(".reason")).to_contain_text("404")
    shot(ingest, "ingest-partly-failed-light")
    assert_accessible(ingest)
    assert image_server.hits["/status/404"] == 1
    card.get_by_role("button", name="Retry failed").click()
    eventually(lambda: image_server.hits["/status/404"] == 2)
    expect_status(ingest, "Partial")
    expect(card.locator(".counts")).to_have_text("1 indexed1 failed")


def test_what_the_server_refuses_is_said_and_nothing_is_made(
    ingest: Page, http: httpx.Client, faults: Faults
) -> None:
    faults.expect("status of 422")
    ingest.get_by_label("Or paste URLs").fill("http://10.0.0.1/a.jpg")
    into(ingest, "refused")
    ingest.get_by_role("button", name="Add metadata").click()
    ingest.get_by_label("Metadata name").fill("tags")
    ingest.get_by_label("Metadata value").fill("x")
    send(ingest)
    fault = ingest.get_by_role("alert")
    expect(fault).to_contain_text("metadata, tags: tags is the name of a built-in field")
    shot(ingest, "ingest-refused-light")
    assert_accessible(ingest)
    assert "refused" not in [job["collection"] for job in http.get("/v1/jobs").json()["jobs"]]
    ingest.get_by_role("button", name="Change it").click()
    expect(fault).to_be_hidden()
    expect(ingest.get_by_label("Or paste URLs")).to_have_value("http://10.0.0.1/a.jpg")
    ingest.get_by_label("Metadata name").fill("label")
    send(ingest)
    expect_status(ingest, "Failed")


def test_an_upload_that_breaks_off_is_repeated_with_its_key(
    ingest: Page, http: httpx.Client, faults: Faults, folder: Path
) -> None:
    faults.expect("failed: POST|net::ERR_FAILED")
    keys: list[str | None] = []

    def break_first(route: Route) -> None:
        keys.append(route.request.header_value("idempotency-key"))
        if len(keys) == 1:
            route.abort("failed")
        else:
            route.continue_()

    ingest.route(POSTED, break_first)
    ingest.locator("[data-choose=files]").set_input_files(folder / "one.jpg")
    into(ingest, "repeated")
    send(ingest)
    expect_status(ingest, "Succeeded")
    assert len(keys) == 2
    assert keys[0] == keys[1]
    made = [job for job in http.get("/v1/jobs").json()["jobs"] if job["collection"] == "repeated"]
    assert len(made) == 1


def test_a_running_job_can_be_cancelled(ingest: Page, image_server: ImageServer) -> None:
    urls = "\n".join(image_server.url(f"/hang?{number}") for number in range(8))
    ingest.get_by_label("Or paste URLs").fill(urls)
    into(ingest, "cancelled")
    send(ingest)
    expect_status(ingest, "Running")
    shot(ingest, "ingest-running-light")
    assert_accessible(ingest)
    ingest.locator(".job").get_by_role("button", name="Cancel").click()
    ingest.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect_status(ingest, "Cancelled")
    expect(ingest.locator(".job .counts")).to_contain_text("cancelled")


def test_an_upload_goes_on_while_another_view_is_shown(
    ingest: Page, http: httpx.Client, folder: Path
) -> None:
    ingest.locator("[data-choose=files]").set_input_files(folder / "two.jpg")
    into(ingest, "elsewhere")
    send(ingest)
    ingest.get_by_role("navigation").get_by_role("link", name="System").click()
    eventually(lambda: bool(indexed_or_none(http, "elsewhere")), 60)
    ingest.get_by_role("navigation").get_by_role("link", name="Add").click()
    expect_status(ingest, "Succeeded")


def indexed_or_none(http: httpx.Client, collection: str) -> list[object] | None:
    images: list[object] | None = (
        http.get("/v1/images", params={"collection": collection}).json().get("images")
    )
    return images


def test_the_keyboard_suffices(page: Page, image_server: ImageServer) -> None:
    ingest = page
    ingest.goto("/ingest?collection=typed")
    expect(ingest.get_by_label("Or paste URLs")).to_be_visible()
    keyboard = ingest.keyboard
    for _ in range(20):
        keyboard.press("Tab")
        if ingest.evaluate("document.activeElement.id") == "urls":
            break
    keyboard.type(image_server.url("/photo/91.jpg?w=120&h=90"))
    expect(ingest.get_by_role("heading", name="1 URL")).to_be_visible()
    for _ in range(20):
        keyboard.press("Tab")
        if ingest.evaluate("document.activeElement.type") == "submit":
            break
    keyboard.press("Enter")
    expect(ingest.get_by_role("region", name="Uploads and their jobs")).to_be_focused()
    expect_status(ingest, "Succeeded")
    keyboard.press("Tab")
    expect(ingest.get_by_role("link", name="1 picture into typed")).to_be_focused()


def test_an_empty_metadata_row_is_left_out_and_a_half_one_is_not(
    ingest: Page, http: httpx.Client, image_server: ImageServer
) -> None:
    ingest.get_by_label("Or paste URLs").fill(image_server.url("/photo/92.jpg?w=120&h=90"))
    into(ingest, "empty-rows")
    for _ in range(3):
        ingest.get_by_role("button", name="Add metadata").click()
    ingest.get_by_label("Metadata name").nth(0).fill("shop")
    ingest.get_by_label("Metadata value").nth(0).fill("north")
    ingest.get_by_label("Metadata value").nth(2).fill("nameless")
    send(ingest)
    expect(ingest.get_by_label("Metadata name").nth(2)).to_be_focused()
    expect(ingest.locator(".job")).to_have_count(0)
    ingest.get_by_label("Metadata value").nth(2).fill("")
    send(ingest)
    expect_status(ingest, "Succeeded")
    assert [image["metadata"] for image in indexed(http, "empty-rows")] == [{"shop": "north"}]


def test_one_uploads_options_do_not_slip_into_the_next(ingest: Page, faults: Faults) -> None:
    ingest.get_by_label("Or paste URLs").fill("http://10.0.0.1/a.jpg")
    into(ingest, "slipped")
    ingest.get_by_role("button", name="Add metadata").click()
    ingest.get_by_label("Metadata name").fill("width")
    ingest.get_by_label("Metadata value").fill("007")
    ingest.get_by_label("Skip near-duplicates").check()
    faults.expect("status of 422")
    send(ingest)
    ingest.get_by_label("Or paste URLs").fill("http://10.0.0.1/a.jpg")
    expect(ingest.get_by_label("Skip near-duplicates")).not_to_be_checked()
    expect(ingest.get_by_label("Metadata name")).to_have_count(0)
    choose(ingest, "images")
    ingest.get_by_role("button", name="Change it").click()
    expect(collection(ingest)).to_have_accessible_name("Collection: slipped")
    expect(ingest.get_by_label("Metadata name")).to_have_value("width")
    expect(ingest.get_by_label("Metadata value")).to_have_value("007")
    expect(ingest.get_by_label("Skip near-duplicates")).to_be_checked()
    ingest.get_by_role("button", name="Clear").click()
    ingest.get_by_label("Or paste URLs").fill("http://10.0.0.1/a.jpg")
    expect(ingest.get_by_label("Metadata name")).to_have_count(0)


def test_a_hostile_file_name_stays_text(ingest: Page, tmp_path: Path) -> None:
    (tmp_path / f"{HOSTILE}.jpg").write_bytes(b"no picture")
    ingest.locator("[data-choose=files]").set_input_files(tmp_path / f"{HOSTILE}.jpg")
    expect(ingest.locator(".thumbs")).to_contain_text(HOSTILE)
    into(ingest, "hostile")
    send(ingest)
    expect_status(ingest, "Failed")
    expect(ingest.locator(".errors .source")).to_have_text(f"{HOSTILE}.jpg")
    assert ingest.evaluate("window.hacked") is None


def test_a_key_is_asked_for_once_and_sent_with_every_upload(
    page: Page, key: str, faults: Faults, folder: Path
) -> None:
    faults.expect("status of 401")
    page.goto("/ingest")
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    page.locator("[data-choose=files]").set_input_files(folder / "one.jpg")
    send(page)
    expect_status(page, "Succeeded")
    expect(dialog).to_be_hidden()


@pytest.fixture(params=["dark", "phone"])
def other_page(request: pytest.FixtureRequest, new_page: NewPage) -> Iterator[tuple[str, Page]]:
    yield request.param, new_page(**PHONE) if request.param == "phone" else new_page(color_scheme="dark")


def test_it_can_be_read_in_the_dark_and_on_a_phone(
    other_page: tuple[str, Page], image_server: ImageServer, folder: Path
) -> None:
    name, page = other_page
    page.goto("/ingest")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    shot(page, f"ingest-empty-{name}")
    page.locator("[data-choose=files]").set_input_files([folder / "one.jpg", folder / "two.jpg"])
    page.get_by_label("Or paste URLs").fill(f"url,shop\n{image_server.url('/status/410')},north")
    into(page, f"looks-{name}")
    expect(page.get_by_role("heading", name="2 pictures and 1 URL")).to_be_visible()
    page.get_by_role("heading", name="2 pictures and 1 URL").scroll_into_view_if_needed()
    shot(page, f"ingest-chosen-{name}")
    assert_accessible(page)
    send(page)
    expect(page.locator(".job .status")).to_have_text(["Failed", "Succeeded"], timeout=END_MS)
    shot(page, f"ingest-done-{name}")
    assert_accessible(page)
    assert_fits(page)


def test_many_jobs_of_one_upload_are_shown_as_one(ingest: Page, http: httpx.Client, tmp_path: Path) -> None:
    for number in range(601):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"no picture, number %d" % number)
    (tmp_path / "000.jpg").write_bytes(make_photo(990, 120, 90))
    ingest.locator("[data-choose=files]").set_input_files(sorted(tmp_path.iterdir()))
    into(ingest, "together")
    send(ingest)
    expect(ingest.get_by_role("heading", name="601 pictures into together")).to_be_visible()
    together = ingest.locator(".job").first
    expect(together.locator(".status").first).to_have_text("Partial", timeout=END_MS)
    expect(together.locator(".counts").first).to_have_text("1 indexed600 failed")
    shot(ingest, "ingest-many-jobs-light")
    assert_accessible(ingest)
    ingest.get_by_text("4 jobs").click()
    expect(ingest.get_by_role("link", name="200 pictures into together")).to_have_count(3)
    ingest.get_by_role("button", name="Retry all failed").click()
    expect(together.locator(".status").first).to_have_text("Running")
    expect(together.locator(".status").first).to_have_text("Partial", timeout=END_MS)
    jobs = [job for job in http.get("/v1/jobs").json()["jobs"] if job["collection"] == "together"]
    assert sorted(job["total"] for job in jobs) == [1, 200, 200, 200]


def test_an_upload_and_all_its_jobs_can_be_cancelled(
    ingest: Page, stack: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    for number in range(601):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"no picture, number %d" % number)
    posts: list[Route] = []

    def hold_the_third(route: Route) -> None:
        posts.append(route)
        if len(posts) != 3:
            route.continue_()

    ingest.route(POSTED, hold_the_third)
    with stack.paused("fetch"):
        ingest.locator("[data-choose=files]").set_input_files(sorted(tmp_path.iterdir()))
        into(ingest, "all-cancelled")
        send(ingest)
        expect(ingest.get_by_text("2 jobs")).to_be_visible()
        shot(ingest, "ingest-uploading-light")
        ingest.get_by_role("button", name="Cancel the upload").click()
        expect(ingest.get_by_role("heading", name="Cancelled: 601 pictures")).to_be_visible()
        ingest.get_by_role("button", name="Cancel all").click()
        ingest.get_by_role("dialog").get_by_role("button", name="Cancel the jobs").click()
        expect(ingest.locator(".job .status").first).to_have_text("Cancelled")
    expect(ingest.locator(".job .counts").first).to_have_text("400 cancelled")
    ingest.get_by_role("button", name="Dismiss").click()
    expect(ingest.locator(".sent article")).to_have_count(0)
    made = [job for job in http.get("/v1/jobs").json()["jobs"] if job["collection"] == "all-cancelled"]
    assert [job["status"] for job in made] == ["cancelled", "cancelled"]
