"""What the page says when something else answers in the server's place, or the server is another one now."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from shared.version import VERSION
from tests.browser.conftest import Faults
from tests.browser.looks import assert_accessible
from tests.browser.search_page import box, cells
from tests.image_server import make_photo
from tests.stack import finished

LOGIN = "<!doctype html><title>Sign in</title><h1>Sign in to go on</h1>"
REQUEST_ID = "4f0c-1d"
POSTED = re.compile(r"/v1/jobs(\?|$)")
# Each view, and what of it says that something went wrong.
VIEWS = {"/?q=boat": "main [role=alert]", "/jobs": "main [role=status]", "/jobs/4f0c": "main [role=alert]"}
VIEWS |= {
    "/duplicates": "main [role=alert]",
    "/system": ".verdict",
    f"/?image={'0' * 64}": "dialog.detail [role=alert]",
}
GO = "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }"


def gets(page: Page, pattern: str | re.Pattern[str], **answer: Any) -> None:
    """From now on the page gets `answer` to whatever it asks for at `pattern`."""
    page.route(pattern, lambda route: route.fulfill(**answer))


def gets_html(page: Page, pattern: str | re.Pattern[str], status: int) -> None:
    gets(page, pattern, status=status, content_type="text/html", body=LOGIN)


def in_another_version(version: str) -> Callable[[Route], None]:
    def answer(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "x-image-search-version": version})

    return answer


def each_view(page: Page) -> Iterator[Locator]:
    """Opens the page at the first view and goes to the others on it; what of each says what went wrong."""
    for number, (view, place) in enumerate(VIEWS.items()):
        if number:
            page.evaluate(GO, view)
        else:
            page.goto(view)
        yield page.locator(place).first


@pytest.mark.parametrize("status", [200, 401, 403, 502])
def test_a_proxys_page_is_said_to_be_one(page: Page, faults: Faults, status: int) -> None:
    faults.expect(f"status of {status}")
    gets_html(page, "**/v1/**", status)
    for told in each_view(page):
        expect(told).to_contain_text(f"such as a proxy, answered {status} in the server's place")
        expect(told).to_contain_text("try again in a moment" if status == 502 else "Reload the page")
        expect(page.get_by_role("dialog", name="Sign in")).to_have_count(0)
        assert not page.get_by_text("Unexpected token").count()
        assert not page.get_by_text("Sign in to go on").count()


@pytest.mark.parametrize("body", ['{"x": 1}', "[1]", "null", '"jobs"'])
def test_json_of_another_shape_is_no_servers(page: Page, body: str) -> None:
    gets(page, "**/v1/**", content_type="application/json", body=body)
    for told in each_view(page):
        expect(told).to_contain_text("such as a proxy, answered 200 in the server's place")
        assert not page.get_by_text("Cannot read properties").count()
        assert not page.get_by_text("is not iterable").count()


def test_an_answer_that_breaks_off_or_is_empty_is_no_servers(page: Page) -> None:
    gets(page, "**/v1/search", content_type="application/json", body='{"resul')
    page.goto("/?q=boat")
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_contain_text("answered 200 in the server's place")
    page.unroute("**/v1/search")
    alert.get_by_role("button", name="Try again").click()
    expect(cells(page).first).to_be_visible()


@pytest.mark.parametrize("answer", [{"status": 200, "json": {"x": 1}}, {"status": 204}])
def test_an_upload_whose_answer_is_no_job_says_so(page: Page, answer: dict[str, Any]) -> None:
    page.goto("/ingest")
    gets(page, POSTED, **answer)
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": make_photo(1, 64, 48)}
    page.locator("[data-choose=files]").set_input_files(file)
    page.locator(".preview [type=submit]").click()
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_contain_text(f"answered {answer['status']} in the server's place")


@pytest.mark.parametrize("status", [413, 502])
def test_an_upload_that_a_proxy_refuses_says_what_to_do(page: Page, faults: Faults, status: int) -> None:
    faults.expect(f"status of {status}")
    page.clock.install()  # it is tried again for half a minute
    page.goto("/ingest")
    gets_html(page, POSTED, status)
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": make_photo(1, 64, 48)}
    page.locator("[data-choose=files]").set_input_files(file)
    page.clock.run_for(1000)
    page.locator(".preview [type=submit]").click()
    alert = page.get_by_role("main").get_by_role("alert")
    for _ in range(60):
        page.clock.run_for(1000)
        if page.get_by_text("Not uploaded").count():
            break
    expect(alert).to_contain_text(f"answered {status} in the server's place")
    expect(alert).to_contain_text("have its limit raised" if status == 413 else "try again in a moment")
    assert not page.get_by_text("Unexpected token").count()


def test_an_unreachable_server_is_said_and_found_again(page: Page, faults: Faults) -> None:
    faults.expect("ERR_CONNECTION_REFUSED|failed: ")
    page.goto("/jobs")
    expect(page.locator(".jobs .status").first).to_be_visible()
    page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    expect(page.get_by_text("The server cannot be reached. Look whether it runs")).to_be_visible()
    page.unroute("**/v1/**")
    expect(page.get_by_text("The server cannot be reached.")).to_be_hidden()
    page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    page.goto("/system")
    expect(page.get_by_text("The server cannot be reached. Look whether it runs")).to_be_visible()
    page.unroute("**/v1/**")
    expect(page.get_by_text("Everything works")).to_be_visible()


def test_a_view_that_cannot_be_loaded_any_more_offers_to_reload(page: Page, faults: Faults) -> None:
    """Its module, or one that it imports, is not there: the server is gone, or was updated meanwhile."""
    faults.expect("status of 404|Failed to fetch|does not provide an export")
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    gets(page, "**/system/system.js", status=404, body="")
    page.get_by_role("link", name="System").click()
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_contain_text("This cannot be loaded")
    assert_accessible(page)
    page.unroute("**/system/system.js")
    alert.get_by_role("button", name="Reload the page").click()
    expect(page.get_by_text("Everything works")).to_be_visible()
    older = "export const api = () => {};"
    gets(page, "**/ingest/ingest.js", content_type="text/javascript", body=OTHER)
    page.route(
        "**/lib/of_another_version.js",
        lambda route: route.fulfill(content_type="text/javascript", body=older),
    )
    page.get_by_role("link", name="Add", exact=True).click()
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("it was updated since this page")


OTHER = 'import { nothing } from "/static/lib/of_another_version.js"; export const show = nothing;'


def test_a_server_of_the_next_minor_version_works(page: Page) -> None:
    major, minor, *_ = VERSION.split(".")
    page.route("**/v1/**", in_another_version(f"{major}.{int(minor) + 7}.3"))
    page.goto("/?q=boat")
    expect(cells(page).first).to_be_visible()
    page.get_by_role("link", name="System").click()
    expect(page.get_by_text("Everything works")).to_be_visible()
    assert not page.get_by_role("alert").count()
    counts = {"pending": 0, "fetched": 0, "indexed": 2, "unchanged": 3, "failed": 0}
    newer = {
        "job_id": "4f0c",
        "kind": "scan",
        "status": "resting",
        "collection": "images",
        "counts": counts,
    }
    newer |= {
        "total": 5,
        "progress": 1,
        "rate_per_s": None,
        "eta_s": None,
        "errors": [],
        "truncated": False,
        "failures": [],
    }
    newer |= dict.fromkeys(("created_at", "started_at", "finished_at"), "2026-01-01T00:00:00Z")
    gets(page, "**/v1/jobs?*", json={"jobs": [newer], "next_cursor": None})
    gets(page, "**/v1/jobs/4f0c", json=newer)
    gets(page, "**/v1/jobs/4f0c/items?*", json={"items": [], "next_cursor": None})
    page.get_by_role("link", name="Jobs", exact=True).click()
    row = page.get_by_role("row").filter(has_text="Scan of images")
    expect(row).to_contain_text("3 unchanged")
    expect(row.locator(".status")).to_have_text("resting")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Scan of images")).to_be_visible()


def test_a_server_of_another_major_version_is_one_sentence(page: Page, faults: Faults) -> None:
    faults.expect("status of 422")
    page.goto("/")
    expect(cells(page).first).to_be_visible()
    page.route("**/v1/**", in_another_version("7.0.0"))
    box(page).fill("boat")
    sentence = f"The server is of version 7.0.0 now and this page of version {VERSION}: reload the page."
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text(sentence)
    page.get_by_role("link", name="System").click()
    expect(page.locator(".verdict")).to_have_text(sentence)
    page.get_by_role("link", name="Add", exact=True).click()
    page.route(
        "**/v1/jobs*",
        lambda route: route.fulfill(status=422, json={}, headers={"x-image-search-version": "7.0.0"}),
    )
    page.get_by_label("Or paste URLs").fill("https://example.com/a.jpg")
    expect(page.locator(".preview [role=alert]")).to_have_text(sentence)
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": make_photo(1, 64, 48)}
    page.locator("[data-choose=files]").set_input_files(file)
    page.locator(".preview [type=submit]").click()
    expect(page.locator(".upload [role=alert]")).to_contain_text(sentence)


def test_an_error_of_the_servers_names_its_request(page: Page, faults: Faults) -> None:
    faults.expect("status of 500")
    problem = {
        "status": 500,
        "code": "internal",
        "detail": "Something went wrong on the server; its log has the details under this X-Request-ID.",
    }
    gets(page, "**/v1/**", status=500, json=problem, headers={"x-request-id": REQUEST_ID})
    for told in each_view(page):
        expect(told).to_contain_text(f"its log has the details under the request id {REQUEST_ID}.")


def test_other_failures_name_their_request_too_and_what_the_visitor_did_does_not(
    page: Page, faults: Faults, http: httpx.Client
) -> None:
    """In notices as well: here when a picture is to be deleted."""
    faults.expect("status of (422|503)")
    (image,) = http.get("/v1/images", params={"filters": '{"name": "elephant"}'}).json()["images"]

    def refuse(route: Route) -> None:
        if route.request.method != "DELETE":
            return route.continue_()
        problem = {"status": 503, "code": "index_unavailable", "detail": "Chroma cannot be reached."}
        return route.fulfill(status=503, json=problem, headers={"x-request-id": REQUEST_ID})

    page.route("**/v1/images/**", refuse)
    page.goto(f"/?image={image['id']}")
    page.get_by_role("button", name="Delete this picture").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    notice = page.locator("#toasts").get_by_role("alert")
    expect(notice).to_contain_text(f"Chroma cannot be reached. (Request id: {REQUEST_ID})")
    page.goto("/?image_url=javascript%3Aalert(1)")
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text(
        "does not begin with http:// or https://"
    )
    assert not page.get_by_text("equest id").count()


def use(page: Page, key: str) -> None:
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Sign in").click()


def test_a_key_without_the_scope_is_told_which_and_another_can_be_used(
    page: Page, keys: dict[str, str], faults: Faults
) -> None:
    faults.expect("status of 40[13]")
    page.goto("/jobs")
    use(page, keys["search"])
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_contain_text("This API key lacks the scope “ingest”. Whoever runs the server")
    expect(dialog).to_contain_text("Another key can be used instead.")
    assert dialog.inner_text().count("keys create") == 1, "how to make one is said once"
    assert "`" not in dialog.inner_text()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main")).to_contain_text("This API key lacks the scope “ingest”.")
    page.wait_for_timeout(4000)  # longer than the list is asked for anew
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="System").click()
    expect(dialog).to_contain_text("This API key lacks the scope “ingest”.")
    use(page, keys["both"])
    expect(page.get_by_text("Everything works")).to_be_visible()


def test_an_upload_goes_on_with_another_key(page: Page, keys: dict[str, str], faults: Faults) -> None:
    faults.expect("status of 40[13]")
    page.goto("/ingest")
    use(page, keys["search"])
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": make_photo(1, 64, 48)}
    page.locator("[data-choose=files]").set_input_files(file)
    page.locator(".preview [type=submit]").click()
    expect(page.get_by_role("dialog", name="Sign in")).to_contain_text("lacks the scope “ingest”")
    use(page, keys["ingest"])
    expect(page.locator(".job .status").first).to_have_text("Succeeded", timeout=60_000)


def test_a_key_that_may_only_add_is_enough_to_add(page: Page, keys: dict[str, str], faults: Faults) -> None:
    faults.expect("status of 40[13]")
    page.goto("/ingest")
    use(page, keys["ingest"])
    file = {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": make_photo(2, 64, 48)}
    page.locator("[data-choose=files]").set_input_files(file)
    page.locator(".preview [type=submit]").click()
    expect(page.locator(".job .status").first).to_have_text("Succeeded", timeout=60_000)
    expect(page.get_by_role("dialog", name="Sign in")).to_have_count(0)


def test_jobs_are_followed_across_an_outage(page: Page, faults: Faults, http: httpx.Client) -> None:
    """Also those that have no event stream, of which the page opens two."""
    faults.expect("ERR_CONNECTION_REFUSED|failed: |status of 503")
    page.goto("/ingest")
    file = {"name": "c.jpg", "mimeType": "image/jpeg", "buffer": make_photo(3, 64, 48)}
    held: list[Route] = []
    page.route(POSTED, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks its handlers
    page.locator("[data-choose=files]").set_input_files(file)
    page.locator(".preview [type=submit]").click()
    page.wait_for_timeout(200)
    (upload,) = held
    done = finished(http, http.post("/v1/jobs", json={"urls": ["no address"]}))
    open_job = {**done, "status": "running", "finished_at": None}
    page.route("**/v1/jobs/*/events", lambda route: route.abort("connectionrefused"))
    upload.fulfill(status=202, json=open_job)
    expect(page.locator(".job .status")).to_have_text("Running")
    page.wait_for_timeout(500)
    page.unroute("**/v1/jobs/*/events")
    expect(page.locator(".job .status")).to_have_text("Failed")
