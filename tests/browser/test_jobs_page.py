"""The list of jobs, and one job's page, as they change."""

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.image_server import ImageServer
from tests.stack import finished

SMALL = "?w=120&h=90"
END_MS = 60_000


def make(http: httpx.Client, urls: list[str], collection: str) -> str:
    """A job's id."""
    answer = http.post("/v1/jobs", json={"urls": urls, "collection": collection})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


@pytest.fixture
def failed_job(http: httpx.Client, image_server: ImageServer) -> str:
    """A finished job of a picture, a dead URL and one that is no web address."""
    urls = [
        image_server.url(f"/photo/301.jpg{SMALL}"),
        image_server.url("/status/404"),
        "javascript:alert(1)",
    ]
    return str(finished(http, http.post("/v1/jobs", json={"urls": urls, "collection": "jobs"}))["job_id"])


def test_jobs_are_listed_newest_first_a_page_at_a_time(page: Page, http: httpx.Client) -> None:
    ids = [make(http, ["no address"], f"many-{number}") for number in range(60)]
    page.goto("/jobs?all=1")
    rows = page.locator(".jobs tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first.get_by_role("link")).to_have_attribute("href", f"/jobs/{ids[-1]}?collection=many-59")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(f'.jobs a[href^="/jobs/{ids[0]}?"]')).to_be_visible()
    newest = make(http, ["no address"], "one-more")
    expect(rows.first.get_by_role("link")).to_have_attribute("href", f"/jobs/{newest}?collection=one-more")
    hrefs = [link.get_attribute("href") for link in page.locator(".jobs tbody a").all()]
    assert len(hrefs) == len(set(hrefs))
    paths = [str(href).partition("?")[0] for href in hrefs[:61]]
    assert paths == [f"/jobs/{job_id}" for job_id in (newest, *reversed(ids))]


def test_a_running_job_leaves_the_list_of_those_that_run(
    page: Page, http: httpx.Client, image_server: ImageServer
) -> None:
    page.goto("/jobs?collection=running")
    job_id = make(http, [image_server.url("/hang")], "running")
    row = page.locator(f'.jobs tr:has(a[href^="/jobs/{job_id}?"])')
    expect(row.locator(".status")).to_have_text("Running")
    expect(row.get_by_role("progressbar")).to_be_visible()
    page.get_by_label("Which jobs").select_option("Running")
    expect(page).to_have_url("/jobs?status=running&collection=running")
    expect(row).to_be_visible()
    http.delete(f"/v1/jobs/{job_id}")
    expect(row).to_be_hidden()
    page.go_back()
    expect(row.locator(".status")).to_have_text("Cancelled")


def test_a_job_s_page_tells_every_failure_and_no_source_runs(page: Page, failed_job: str) -> None:
    page.goto(f"/jobs/{failed_job}")
    expect(page.get_by_role("heading", level=1)).to_have_text("3 pictures into jobs")
    rows = page.locator(".items tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("http_status")
    expect(rows.nth(0)).to_contain_text("404")
    expect(rows.nth(1)).to_contain_text("javascript:alert(1)")
    expect(rows.nth(1).get_by_role("link")).to_have_count(0)
    shot(page, "job-partly-failed-light")
    assert_accessible(page)
    page.get_by_label("Which items").select_option("")
    expect(rows).to_have_count(3)
    page.get_by_label("Which items").select_option("indexed")
    expect(rows).to_have_count(1)
    expect(rows.locator("img.thumb")).to_be_visible()
    for name in ("Created", "Started", "Finished"):
        expect(page.locator(".facts").get_by_text(name, exact=True)).to_be_visible()
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    shot(page, "jobs-light")
    assert_accessible(page)


def test_items_come_a_page_at_a_time(page: Page, http: httpx.Client) -> None:
    job_id = make(http, [f"no address {number}" for number in range(70)], "pages")
    page.goto(f"/jobs/{job_id}")
    rows = page.locator(".items tbody tr")
    expect(page.locator(".job .status")).to_have_text("Failed")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(70)
    expect(rows.last).to_contain_text("no address 69")
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_a_job_s_page_follows_it_to_its_end(
    page: Page, http: httpx.Client, image_server: ImageServer
) -> None:
    job_id = make(http, [image_server.url("/hang?1"), "no address"], "followed")
    page.goto(f"/jobs/{job_id}")
    expect(page.locator(".job .status")).to_have_text("Running")
    shot(page, "job-running-light")
    assert_accessible(page)
    http.delete(f"/v1/jobs/{job_id}")
    expect(page.locator(".job .status")).to_have_text("Cancelled")
    assert page.locator(".facts").get_by_text("Finished").is_visible()  # at once, not at the next look
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_role("status").filter(has_text="Cancelled")).to_have_count(1)


def test_a_double_click_retries_once(page: Page, failed_job: str) -> None:
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.method) if request.url.endswith("/retry") else None
    )
    page.goto(f"/jobs/{failed_job}")
    page.get_by_role("button", name="Retry failed").dblclick()
    expect(page.locator(".job .status")).to_have_text("Partial")
    assert asked == ["POST"]


def test_a_phone_shows_all_reasons_without_a_box_that_scrolls(new_page: NewPage, failed_job: str) -> None:
    page = new_page(**{**PHONE, "viewport": {"width": 320, "height": 700}})
    page.goto(f"/jobs/{failed_job}")
    expect(page.locator(".failures .errors").first).to_be_visible()
    assert page.locator(".failures").evaluate("box => box.scrollHeight <= box.clientHeight")
    assert_fits(page)


def test_an_export_can_be_downloaded(page: Page, http: httpx.Client, failed_job: str) -> None:
    job = finished(http, http.post("/v1/collections/jobs/export"))
    page.goto(f"/jobs/{job['job_id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Export of jobs")
    with page.expect_download() as download:
        page.get_by_role("link", name="jobs.parquet").click()
    assert download.value.path().read_bytes()[:4] == b"PAR1"


def test_an_unknown_job_is_said_to_be(page: Page, faults: Faults) -> None:
    faults.expect("status of 404")
    page.goto("/jobs/none")
    expect(page.get_by_role("alert")).to_contain_text("There is no job")
    expect(page.get_by_role("link", name="All jobs")).to_be_visible()


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_they_can_be_read_in_the_dark_and_on_a_phone(name: str, new_page: NewPage, failed_job: str) -> None:
    page = new_page(**PHONE) if name == "phone" else new_page(color_scheme="dark")
    for path, shown, view in (("/jobs", ".jobs a", "jobs"), (f"/jobs/{failed_job}", ".items a", "job")):
        page.goto(path)
        expect(page.locator(shown).first).to_be_visible()
        shot(page, f"{view}-{name}")
        assert_accessible(page)
        assert_fits(page)
