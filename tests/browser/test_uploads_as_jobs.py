"""One upload or command is one row, with its jobs inside; what waits, why some failed, what it brought."""

import re
import secrets
from pathlib import Path

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, NewPage
from tests.browser.header import make as into
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.image_server import ImageServer, make_photo
from tests.stack import eventually

SMALL = "?w=120&h=90"
END_MS = 60_000
LABEL = {"name": "holiday", "origin": "command_line", "made_of": "folder"}


def make(http: httpx.Client, urls: list[str], collection: str, **label: str) -> str:
    """A job's id."""
    answer = http.post("/v1/jobs", json={"urls": urls, "collection": collection, **label})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def end(http: httpx.Client, job_id: str) -> None:
    eventually(lambda: http.get(f"/v1/jobs/{job_id}").json()["finished_at"], 60)


def counted(locator: Locator) -> str:
    """How far a job is, without the seconds that are counted down."""
    return re.sub(r", in \d+ s", "", locator.inner_text())


def test_an_upload_of_several_parts_is_one_row_with_its_jobs_inside(
    page: Page, http: httpx.Client, image_server: ImageServer
) -> None:
    group = secrets.token_hex(8)
    trips = f"trips-{group}"
    photos = [image_server.url(f"/photo/{number}.jpg{SMALL}") for number in (501, 502, 503)]
    make(http, [image_server.url(f"/photo/504.jpg{SMALL}")], trips)
    for urls in (photos[:2], [photos[2], "no address"]):
        job_id = make(http, urls, trips, **LABEL, group=group)
        end(http, job_id)
    page.goto(f"/jobs?collection={trips}")
    rows = page.locator(".jobs tbody tr")
    expect(rows).to_have_count(2)
    row = rows.first
    expect(row.get_by_role("link", name=f"holiday · 4 pictures into {trips}")).to_be_visible()
    expect(row).to_contain_text("A folder, from the command line")
    expect(row.locator(".counts")).to_have_text("3 indexed1 failed")
    row.get_by_text("2 jobs").click()
    expect(row.locator(".parts > li")).to_have_count(2)
    expect(row.locator(".parts .status")).to_have_text(["Succeeded", "Partial"])
    shot(page, "jobs-grouped-light")
    assert_accessible(page)
    row.get_by_role("link", name="holiday").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"holiday · 4 pictures into {trips}")
    expect(page.get_by_role("button", name="Retry all failed (none of 1 is worth it)")).to_be_visible()
    shot(page, "job-group-light")
    assert_accessible(page)
    page.get_by_role("link", name="Search these").first.click()
    expect(page.locator(".cell")).to_have_count(3)
    page.get_by_role("button", name="Remove from job holiday (2 jobs)").click()
    expect(page.locator(".cell")).to_have_count(4)


def test_the_list_is_of_the_collection_unless_all_are_asked_for(page: Page, http: httpx.Client) -> None:
    here, there = (make(http, ["no address"], name) for name in ("jobs-here", "jobs-there"))
    page.goto("/jobs?collection=jobs-here")
    mine, other = (page.locator(f'.jobs a[href^="/jobs/{job_id}?"]') for job_id in (here, there))
    expect(mine).to_be_visible()
    expect(other).to_have_count(0)
    page.get_by_label("Of which collection").select_option("Of all collections")
    expect(other).to_be_visible()
    expect(page).to_have_url(re.compile(r"/jobs\?all=1&collection=jobs-here$"))
    page.get_by_label("Which jobs").select_option("Failed")
    expect(other).to_be_visible()
    page.goto("/jobs?collection=no-jobs")
    page.get_by_role("link", name="show those of all collections").click()
    expect(mine).to_be_visible()


def test_what_waits_is_said_without_a_rate_and_list_and_card_agree_while_a_retry_runs(
    page: Page, new_page: NewPage, http: httpx.Client, image_server: ImageServer
) -> None:
    urls = [image_server.url(f"/photo/511.jpg{SMALL}"), image_server.url("/status/503?waits")]
    job_id = make(http, urls, "waits")
    listed = new_page()
    listed.goto("/jobs?collection=waits")
    page.goto(f"/jobs/{job_id}?collection=waits")
    pace = page.locator(".job .row.between p")
    row = listed.locator(".jobs tbody tr")

    def runs() -> None:
        expect(pace).to_contain_text(
            re.compile(r"^1 of 2 · waiting to retry 1, attempt 4 of 4, in \d+ s$"), timeout=END_MS
        )
        expect(row).to_contain_text("1 of 2 · waiting to retry 1, attempt 4 of 4")
        assert counted(row.locator("span.small")) == counted(pace)
        expect(row.locator(".status")).to_have_text("Running")
        expect(page.locator(".job .status")).to_have_text("Running")
        expect(row.locator(".counts")).to_have_text("1 indexed")
        expect(page.locator(".job .counts")).to_have_text("1 indexed")

    def ends() -> None:
        for place in (row, page.locator(".job")):
            expect(place.locator(".status")).to_have_text("Partial", timeout=END_MS)
            expect(place.locator(".counts")).to_have_text("1 indexed1 failed")

    runs()
    shot(page, "job-waiting-light")
    shot(listed, "jobs-waiting-light")
    assert_accessible(page)
    ends()
    expect(page.get_by_text("Worth retrying: 1")).to_be_visible()
    page.get_by_role("button", name="Retry failed", exact=True).click()
    runs()
    ends()


def test_failures_are_told_apart_each_code_with_its_cause_and_what_to_do(
    page: Page, http: httpx.Client, image_server: ImageServer
) -> None:
    long = image_server.url(f"/status/404?{'long-' * 60}end.jpg")
    urls = ["http://10.1.2.3/private.jpg", long, image_server.url("/status/404"), "no address"]
    job_id = make(http, urls, "failures")
    end(http, job_id)
    page.goto(f"/jobs/{job_id}?collection=failures")
    card = page.locator(".job")
    expect(card.get_by_text("Permanent: 4")).to_be_visible()
    expect(card.get_by_text("Worth retrying")).to_have_count(0)
    expect(card.locator("li", has_text="blocked_address")).to_contain_text("IMAGE_SEARCH_ALLOW_HOSTS")
    expect(card.locator("li", has_text="http_status 2")).to_be_visible()
    expect(card.get_by_role("button", name="Retry failed (none of 4 is worth it)")).to_be_visible()

    rows = page.locator(".items tbody tr")
    expect(rows.locator("td:first-child")).to_have_text(["0", "1", "2", "3"])
    link = rows.nth(1).get_by_role("link")
    expect(link).to_have_attribute("title", long)
    expect(link).to_have_attribute("href", long)
    box = link.bounding_box()
    assert box is not None
    assert box["height"] < 80, "a long source takes few lines"
    copied = "element => { getSelection().selectAllChildren(element); return getSelection().toString(); }"
    assert link.evaluate(copied) == long
    shot(page, "job-failures-light")
    assert_accessible(page)


def test_columns_keep_their_width_while_the_list_changes(page: Page, http: httpx.Client) -> None:
    make(http, ["no address"], "widths")
    page.goto("/jobs?collection=widths")
    expect(page.locator(".jobs tbody tr")).to_have_count(1)
    widths = "() => [...document.querySelectorAll('.jobs th')].map((head) => head.offsetWidth)"
    before = page.evaluate(widths)
    make(http, ["no address"], "widths", name="a-name-without-any-blank-in-it-" * 6)
    expect(page.locator(".jobs tbody tr")).to_have_count(2)
    assert page.evaluate(widths) == before
    assert_fits(page)


def test_the_preview_shows_the_end_of_a_long_url(page: Page) -> None:
    page.goto("/ingest")
    page.get_by_label("Or paste URLs").fill(f"http://example.com/{'x' * 90}/end.jpg")
    expect(page.locator(".preview td")).to_have_text(re.compile(r"^http://example\.com/x+…x+/end\.jpg$"))


def test_the_page_names_its_uploads_and_marks_lines_that_are_no_urls(
    page: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path
) -> None:
    page.goto("/ingest")
    into(page, "named")
    url = image_server.url(f"/photo/521.jpg{SMALL}")
    lines = f"{url}\n# a comment\nnot a url\nftp://example.com/a.jpg\nhttp://me:secret@example.com/b.jpg\n"
    page.get_by_label("Or paste URLs").fill(lines)
    expect(page.get_by_role("heading", name="4 URLs", exact=True)).to_be_visible()
    expect(page.locator(".preview td.fault")).to_have_count(3)
    expect(page.get_by_role("button", name="Add 4 pictures to named")).to_be_visible()
    shot(page, "ingest-no-urls-light")
    assert_accessible(page)
    (tmp_path / "trip").mkdir()
    (tmp_path / "trip" / "a.jpg").write_bytes(make_photo(522, 120, 90))
    page.locator("[data-choose=folder]").set_input_files(tmp_path / "trip")
    page.get_by_role("button", name="Add 5 pictures to named").click()
    statuses = page.locator(".job .status")
    expect(statuses.first).to_have_text("Partial", timeout=END_MS)
    expect(statuses.last).to_have_text("Succeeded", timeout=END_MS)
    (upload,) = http.get("/v1/jobs?grouped=true&collection=named").json()["jobs"]
    assert (upload["name"], upload["origin"], upload["made_of"]) == ("trip", "page", None)
    assert (upload["parts"], upload["total"]) == (2, 5)
    assert (upload["counts"]["indexed"], upload["counts"]["failed"]) == (2, 3)


def test_a_list_of_uploads_fits_a_phone(new_page: NewPage, http: httpx.Client) -> None:
    group = secrets.token_hex(8)
    for _ in range(2):
        make(http, ["no address"], f"phone-{group}", **LABEL, group=group)
    page = new_page(**PHONE)
    page.goto(f"/jobs?collection=phone-{group}")
    page.get_by_text("2 jobs").click()
    expect(page.locator(".parts > li")).to_have_count(2)
    shot(page, "jobs-grouped-phone")
    assert_accessible(page)
    assert_fits(page)
