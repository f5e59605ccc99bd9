"""Lists and tables on the page: looked into by the server, their columns chosen, sent as they are."""

import gzip
import io
import re
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from pyarrow import parquet

from tests.browser.conftest import PHONE, Faults, NewPage
from tests.browser.header import make as into
from tests.browser.looks import assert_accessible, assert_fits, shot
from tests.image_server import ImageServer

SMALL = "?w=120&h=90"
POSTED = re.compile(r"/v1/jobs(\?|$)")
END_MS = 60_000
MIB = 2**20
LONGEST_TASK_MS = 200


@pytest.fixture
def ingest(page: Page) -> Page:
    page.goto("/ingest")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    return page


def choose(page: Page, *paths: Path) -> None:
    page.locator("[data-choose=files]").set_input_files(paths)


def listed(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def send(page: Page) -> None:
    page.locator(".preview [type=submit]").click()


def expect_status(page: Page, status: str) -> None:
    expect(page.locator(".job .status").first).to_have_text(status, timeout=END_MS)


def image(http: httpx.Client, collection: str, key: str) -> dict[str, object]:
    (found,) = http.get("/v1/images", params={"collection": collection, "key": key}).json()["images"]
    return dict(found)


def test_a_tables_columns_can_be_filtered_by_and_its_notes_stay_with_the_job(
    ingest: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path
) -> None:
    urls = [image_server.url(f"/photo/{number}.jpg{SMALL}") for number in (81, 82)]
    table = (
        "URL;key;shop name;price;code",
        f'{urls[0]};sku-1;"north; ""big""";9.5;007',
        f"{urls[1]};sku-2;south;12;1",
    )
    (tmp_path / "products.csv").write_text("\r\n".join(table), encoding="utf-16")
    choose(ingest, tmp_path / "products.csv")
    expect(ingest.get_by_role("heading", name="2 URLs")).to_be_visible()
    expect(ingest.get_by_role("cell", name='north; "big"')).to_be_visible()
    shown = listed(ingest, "products.csv")
    expect(shown.get_by_role("status")).to_have_text("Table (CSV) · 2 rows")
    expect(shown.get_by_text("The column “shop name” is stored as “shop_name”.")).to_be_visible()
    shown.get_by_text("5 columns: 3 become metadata").click()
    expect(shown.get_by_role("row", name="Keep shop name")).to_contain_text("shop_name")
    expect(shown.get_by_role("row", name="Keep price")).to_contain_text("number")
    ingest.get_by_role("button", name="Add metadata").click()
    ingest.get_by_label("Metadata name").fill("season")
    ingest.get_by_label("Metadata value").fill("2026")
    into(ingest, "tables")
    shot(ingest, "ingest-table-light")
    assert_accessible(ingest)
    send(ingest)
    expect_status(ingest, "Succeeded")
    expect(ingest.locator(".job .notes")).to_have_text("The column “shop name” is stored as “shop_name”.")
    asked = {"collection": "tables", "filters": '{"price": {"gt": 10}, "season": 2026}'}
    (found,) = http.get("/v1/images", params=asked).json()["images"]
    assert found["metadata"] == {"shop_name": "south", "price": 12, "code": "1", "season": 2026}
    assert image(http, "tables", "sku-1")["metadata"] == {
        "shop_name": 'north; "big"',
        "price": 9.5,
        "code": "007",
        "season": 2026,
    }
    (job,) = http.get("/v1/jobs?collection=tables").json()["jobs"]
    assert (job["name"], job["origin"], job["made_of"]) == ("products.csv", "page", "list")


def test_columns_are_chosen_and_left_out(
    ingest: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path, faults: Faults
) -> None:
    faults.expect("status of 422")
    url = image_server.url(f"/photo/83.jpg{SMALL}")
    text = f'picture,SKU,"cost, net",shop\n{url},a-1,3.5,north\n'
    (tmp_path / "other.csv").write_text(text)
    choose(ingest, tmp_path / "other.csv")
    shown = listed(ingest, "other.csv")
    expect(shown.get_by_role("alert")).to_contain_text("which column has the URLs: choose it")
    expect(ingest.get_by_role("button", name="Add these to images")).to_be_disabled()
    expect(ingest.locator("[type=submit]")).to_be_disabled()
    shot(ingest, "ingest-no-url-column-light")
    assert_accessible(ingest)
    urls = shown.get_by_label("Column with the URLs")
    urls.focus()
    urls.select_option("picture")
    expect(shown.get_by_role("cell", name="north")).to_be_visible()
    expect(urls).to_be_focused()
    shown.get_by_label("Column with your keys").select_option("SKU")
    expect(shown.get_by_role("columnheader", name="key", exact=True)).to_be_visible()
    shown.get_by_text("4 columns: 2 become metadata").click()
    keep = shown.get_by_label("Keep cost, net")
    keep.uncheck()
    expect(shown.get_by_text("4 columns: 1 becomes metadata, 1 left out")).to_be_visible()
    expect(keep).to_be_focused()
    into(ingest, "chosen")
    send(ingest)
    expect_status(ingest, "Succeeded")
    assert image(http, "chosen", "a-1")["metadata"] == {"shop": "north"}


def test_prices_that_are_text_by_their_spelling_can_be_numbers(ingest: Page, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("url,price\nhttp://example.com/a.jpg,19.90\n")
    choose(ingest, tmp_path / "prices.csv")
    shown = listed(ingest, "prices.csv")
    expect(shown.get_by_role("cell", name="19.90", exact=True)).to_be_visible()
    shown.get_by_text("2 columns: 1 becomes metadata").click()
    kind = shown.get_by_label("Type of price")
    kind.focus()
    kind.select_option("number")
    expect(shown.get_by_role("cell", name="19.9", exact=True)).to_be_visible()
    expect(kind).to_be_focused()
    shot(ingest, "ingest-number-column-light")
    assert_accessible(ingest)
    kind.select_option("text")
    expect(shown.get_by_role("cell", name="19.90", exact=True)).to_be_visible()


def test_a_column_may_be_the_key_the_url_or_neither(ingest: Page, tmp_path: Path) -> None:
    text = "url,key,other\nhttp://example.com/a.jpg,k-1,http://example.com/b.jpg\n"
    (tmp_path / "keys.csv").write_text(text)
    choose(ingest, tmp_path / "keys.csv")
    shown = listed(ingest, "keys.csv")
    urls, keys = shown.get_by_label("Column with the URLs"), shown.get_by_label("Column with your keys")
    expect(keys).to_have_value("key")
    keys.select_option("none")
    expect(shown.get_by_role("columnheader", name="key", exact=True)).to_have_count(0)
    expect(keys).to_have_value("")
    keys.select_option("other")
    expect(shown.get_by_role("cell", name="http://example.com/b.jpg")).to_be_visible()
    urls.select_option("other")
    expect(urls).to_have_value("other")
    expect(keys).not_to_have_value("other")
    expect(shown.get_by_role("alert")).to_have_count(0)


def test_a_list_that_cannot_be_read_says_why_and_costs_only_itself(
    ingest: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path, faults: Faults
) -> None:
    faults.expect("status of 4(13|22)")
    (tmp_path / "page.csv").write_text("<!doctype html><html><body>Sign in</body></html>")
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04" + bytes(60))
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\x03\x04" + bytes(60) + b"xl/")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(b"url\n"))
    (tmp_path / "empty.csv").write_text("url,shop\n")
    (tmp_path / "latin.txt").write_bytes(b"http://example.com/\xe9.jpg\n")
    (tmp_path / "good.txt").write_text(f"# mine\n{image_server.url(f'/photo/84.jpg{SMALL}')}\n")
    choose(ingest, *sorted(tmp_path.iterdir()))
    for name in ("page.csv", "sheet.csv", "empty.csv", "latin.txt"):
        expect(listed(ingest, name).get_by_role("alert")).not_to_be_empty()
    expect(listed(ingest, "sheet.xlsx").get_by_role("alert")).to_contain_text("save the sheet as CSV")
    expect(listed(ingest, "packed.csv.gz").get_by_role("alert")).to_contain_text("unpack it")
    expect(listed(ingest, "good.txt").get_by_role("status")).to_have_text("URLs · 1 row")
    expect(ingest.get_by_role("heading", name="1 URL", exact=True)).to_be_visible()
    shot(ingest, "ingest-bad-lists-light")
    assert_accessible(ingest)
    ingest.get_by_role("button", name="Remove sheet.csv").click()
    expect(listed(ingest, "sheet.csv")).to_have_count(0)
    into(ingest, "good-lists")
    send(ingest)
    expect_status(ingest, "Succeeded")
    expect(listed(ingest, "good.txt")).to_have_count(0)
    expect(listed(ingest, "page.csv").get_by_role("alert")).to_be_visible()
    (job,) = http.get("/v1/jobs?collection=good-lists").json()["jobs"]
    assert (job["name"], job["total"]) == ("good.txt", 1)


def test_a_table_of_any_kind_can_be_chosen_or_pasted(
    ingest: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path
) -> None:
    urls = [image_server.url(f"/photo/{number}.jpg{SMALL}") for number in range(85, 91)]
    parquet.write_table(pa.table({"url": [urls[0]], "shop": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text(f'[{{"url": "{urls[1]}", "shop": "b"}}]')
    (tmp_path / "c.jsonl").write_text(f'{{"url": "{urls[2]}", "metadata": {{"shop": "c"}}}}\n')
    (tmp_path / "d.TSV").write_text(f"Url\tshop\n{urls[3]}\td\n")
    (tmp_path / "e.tab").write_text(f"url\tshop\n{urls[4]}\te\n")
    choose(ingest, *sorted(tmp_path.iterdir()))
    ingest.get_by_label("Or paste URLs").fill(f"url\tshop\n{urls[5]}\tf\n")
    expect(ingest.get_by_role("heading", name="6 URLs")).to_be_visible()
    into(ingest, "kinds")
    send(ingest)
    expect(ingest.get_by_role("heading", name="6 pictures into kinds")).to_be_visible()
    expect(ingest.locator(".job .counts").first).to_have_text("6 indexed", timeout=END_MS)
    images = http.get("/v1/images?collection=kinds").json()["images"]
    assert {one["metadata"]["shop"]: one["source"] for one in images} == dict(
        zip("abcdef", urls, strict=True)
    )


def test_what_is_typed_takes_the_place_of_what_was_typed_before(ingest: Page) -> None:
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    ingest.route(POSTED, hold_the_first)
    typed = ingest.get_by_label("Or paste URLs")
    typed.fill("http://example.com/first.jpg")
    expect(ingest.locator("[type=submit]")).to_be_disabled()
    ingest.wait_for_timeout(500)
    assert held
    typed.fill("http://example.com/second.jpg\nhttp://example.com/third.jpg")
    expect(ingest.get_by_role("heading", name="2 URLs")).to_be_visible()
    expect(ingest.get_by_role("cell", name="second.jpg")).to_be_visible()
    typed.fill("")
    expect(ingest.locator(".preview")).to_be_hidden()


def test_a_table_of_100_mb_is_looked_into_by_its_first_mib_without_freezing(
    ingest: Page, tmp_path: Path
) -> None:
    line = b"http://example.com/%08d.jpg,shop %d,%d\n"
    with (tmp_path / "large.csv").open("wb") as file:
        file.write(b"url,shop,price\n")
        block = b"".join(line % (number, number % 7, number) for number in range(25_000))
        while file.tell() < 100 * MIB:
            file.write(block)
    ingest.evaluate("""() => {
        window.tasks = [];
        const note = (list) => window.tasks.push(...list.getEntries().map(({ duration }) => duration));
        new PerformanceObserver(note).observe({ entryTypes: ["longtask"] });
    }""")
    sent: list[int] = []

    def measure(route: Route) -> None:
        sent.append(len(route.request.post_data_buffer or b""))
        route.continue_()

    ingest.route(POSTED, measure)
    choose(ingest, tmp_path / "large.csv")
    expect(listed(ingest, "large.csv").get_by_role("status")).to_contain_text(
        re.compile("at least [0-9,]+ rows")
    )
    expect(ingest.get_by_role("button", name="Add these")).to_be_enabled()
    (size,) = sent
    assert MIB < size < MIB + 4096
    tasks = ingest.evaluate("window.tasks")
    assert max(tasks, default=0) < LONGEST_TASK_MS, tasks
    shot(ingest, "ingest-large-light")


def test_a_list_is_read_when_it_is_chosen_and_when_it_is_sent(
    ingest: Page, http: httpx.Client, tmp_path: Path
) -> None:
    for name in ("gone.csv", "stays.csv"):
        (tmp_path / name).write_text("url\nhttp://10.0.0.1/a.jpg\n")
    choose(ingest, tmp_path / "gone.csv", tmp_path / "stays.csv")
    expect(ingest.get_by_role("heading", name="2 URLs")).to_be_visible()
    (tmp_path / "gone.csv").unlink()
    into(ingest, "gone")
    send(ingest)
    expect_status(ingest, "Failed")
    expect(ingest.get_by_role("alert").filter(has_text="cannot be read any more")).to_contain_text("gone.csv")
    assert len(http.get("/v1/jobs?collection=gone").json()["jobs"]) == 1


def test_what_the_server_says_of_a_large_table_when_it_is_sent_leads_to_its_columns(
    ingest: Page, http: httpx.Client, image_server: ImageServer, tmp_path: Path, faults: Faults
) -> None:
    """A Parquet file that is too large for a look is sent without one."""
    faults.expect("status of 422")
    buffer = io.BytesIO()
    urls = [image_server.url(f"/photo/95.jpg{SMALL}")]
    parquet.write_table(pa.table({"link": urls, "shop": ["x"]}), buffer)
    (tmp_path / "small.parquet").write_bytes(buffer.getvalue())
    ingest.evaluate("""async () => {
        const { List } = await import("/static/ingest/lists.js");
        const read = List.prototype.read;
        List.prototype.read = function () { return this.choices.url_column ? read.call(this) : this.stop(); };
    }""")
    choose(ingest, tmp_path / "small.parquet")
    expect(ingest.get_by_text("too large to be looked into")).to_be_visible()
    into(ingest, "unseen")
    send(ingest)
    ingest.get_by_role("button", name="Change it").click()
    shown = listed(ingest, "small.parquet")
    expect(shown.get_by_role("alert")).to_contain_text("which column has the URLs: choose it")
    shown.get_by_label("Column with the URLs").select_option("link")
    expect(ingest.get_by_role("heading", name="1 URL", exact=True)).to_be_visible()
    send(ingest)
    expect_status(ingest, "Succeeded")


@pytest.mark.parametrize("look", ["dark", "phone"])
def test_a_table_can_be_read_in_the_dark_and_on_a_phone(new_page: NewPage, look: str, tmp_path: Path) -> None:
    narrow = {**PHONE, "viewport": {"width": 360, "height": 800}}
    page = new_page(**narrow) if look == "phone" else new_page(color_scheme="dark")
    page.goto("/ingest")
    names = ",".join(f"a column called {number}{' and so on' * 6}" for number in range(12))
    (tmp_path / f"{'long-' * 20}name.csv").write_text(
        f"url,{names}\nhttp://example.com/a.jpg{',value' * 12}\nx\n"
    )
    choose(page, *tmp_path.iterdir())
    page.get_by_text("13 columns: 12 become metadata").click()
    shot(page, f"ingest-table-{look}")
    assert_accessible(page)
    assert_fits(page)
