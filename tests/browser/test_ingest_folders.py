"""Folders and files on the page: which of them are pictures, and those that vanish before they are sent."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from image_search.models.image_files import HEAD_BYTES, Skipped, is_hidden, is_image, suffix_of
from tests.browser.conftest import Faults
from tests.browser.gestures import drop
from tests.browser.header import make as into
from tests.browser.looks import assert_accessible, shot
from tests.image_server import make_photo
from tests.sample_files import samples

END_MS = 60_000
HEADS = [
    b"",
    b"{}",
    b"BMW is a car of a kind",
    b"BM\n\r\n\r\0\0\0\0\x36",
    b"RIFF\n\n\n\nWAVEfmt ",
    b"\0\0\0\x14ftypqt  \0\0\0\0",
    b"\n\0\0\x14ftypheic\0\0\0\0",
    b"II+\0\x08",
    b"PK\x03\x04",
    b"<svg xmlns=",
    b"\xef\xbb\xbfurl",
]
NAMES = [
    *("a.JPG", "b/IMG.HIF", "a.jpg?w=100", "README", ".a", "__MACOSX/b.jpg", "b/.c/d.jpg", "a..jpg", "a."),
    *(
        "x.mov",
        "x.MOV",
        "Thumbs.db",
        "b/Thumbs.db",
        "日本.webp",
        "a.verylongsuffix",
        "a.b c",
        "a.ü",
        "b/a.jpg_",
    ),
]


@pytest.fixture
def ingest(page: Page) -> Page:
    page.goto("/ingest")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    return page


def send(page: Page) -> None:
    page.locator(".preview [type=submit]").click()


def sources(http: httpx.Client, collection: str) -> set[str]:
    found = http.get("/v1/images", params={"collection": collection}).json()["images"]
    return {image["source"] for image in found}


def test_the_page_and_the_client_tell_pictures_by_one_rule(ingest: Page) -> None:
    heads = [*HEADS, *(data[:HEAD_BYTES] for data in samples().values())]
    sort = """async (heads) => {
        const { sorted } = await import("/static/ingest/kinds.js");
        const found = heads.map((bytes) => ({ path: "a/b", file: new File([new Uint8Array(bytes)], "b") }));
        return (await sorted(found)).map(([kind]) => kind === "image");
    }"""
    assert ingest.evaluate(sort, [list(head) for head in heads]) == [is_image(head) for head in heads]


def test_the_page_and_the_client_count_what_is_left_out_by_one_rule(ingest: Page) -> None:
    count = """async (names) => {
        const { leftOutByKind, leftOutText, suffixOf } = await import("/static/ingest/kinds.js");
        return [leftOutText(leftOutByKind(names)), ...names.map(suffixOf)];
    }"""
    skipped = Skipped()
    for name in NAMES:
        skipped.add(name)
    suffixes = [suffix_of(name) for name in NAMES if not is_hidden(name)]
    text, *ours = ingest.evaluate(count, NAMES)
    assert [one for one, name in zip(ours, NAMES, strict=True) if not is_hidden(name)] == suffixes
    assert text == str(skipped)


def test_a_folders_pictures_are_found_by_name_or_content_and_the_others_counted(
    ingest: Page, http: httpx.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "takeout"
    folder.mkdir()
    for number, name in enumerate(("a.JPG", "IMG_1", "photo.jpg?w=100", "b.HIF", "c.insp")):
        (folder / name).write_bytes(make_photo(910 + number, 120, 90))
    for name in ("a.JPG.json", "b.json", "c.json", "d.mov", "e.MOV", "list.csv", "README"):
        (folder / name).write_text("{}")
    (folder / "a.THM").write_bytes(make_photo(919, 120, 90))
    drop(ingest.locator(".drop"), [folder])
    expect(ingest.get_by_role("heading", name="5 pictures")).to_be_visible()
    left_out = ingest.get_by_text("Left out: 3 .json, 2 .mov, 1")
    expect(left_out).to_contain_text("1 a.THM")
    expect(left_out).to_contain_text("1 list.csv")
    left_out.click()
    expect(ingest.get_by_text("takeout/a.JPG.json, takeout/b.json, takeout/c.json")).to_be_visible()
    into(ingest, "takeout")
    shot(ingest, "ingest-left-out-light")
    assert_accessible(ingest)
    send(ingest)
    expect(ingest.locator(".job .status").first).to_have_text("Succeeded", timeout=END_MS)
    assert sources(http, "takeout") == {
        f"takeout/{name}" for name in ("a.JPG", "IMG_1", "photo.jpg?w=100", "b.HIF", "c.insp")
    }


def vanish(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_bytes(make_photo(930, 160, 90) + bytes(1000))


@pytest.mark.parametrize("happens", [vanish, change])
def test_a_file_that_cannot_be_read_any_more_costs_only_itself(
    ingest: Page, http: httpx.Client, tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    collection = f"lost-{happens.__name__}"
    for number, name in enumerate("abc"):
        (tmp_path / f"{name}.jpg").write_bytes(make_photo(920 + number, 120, 90))
    ingest.locator("[data-choose=files]").set_input_files(sorted(tmp_path.iterdir()))
    expect(ingest.get_by_role("heading", name="3 pictures")).to_be_visible()
    into(ingest, collection)
    happens(tmp_path / "b.jpg")
    send(ingest)
    expect(ingest.locator(".job .counts")).to_have_text("2 indexed", timeout=END_MS)
    lost = ingest.get_by_role("alert").filter(has_text="1 file left out, which cannot be read any more")
    expect(lost).to_contain_text("b.jpg")
    shot(ingest, f"ingest-{collection}-light")
    assert_accessible(ingest)
    assert sources(http, collection) == {"a.jpg", "c.jpg"}
    ingest.get_by_role("button", name="Dismiss").click()
    expect(lost).to_have_count(0)


def test_a_file_that_vanishes_while_a_try_is_repeated_costs_only_itself(
    ingest: Page, http: httpx.Client, faults: Faults, tmp_path: Path
) -> None:
    """A picture on its own is not read before it is sent."""
    faults.expect("failed: POST|net::ERR_FAILED")
    (tmp_path / "alone.jpg").write_bytes(make_photo(925, 120, 90))

    def break_and_delete(route: Route) -> None:
        (tmp_path / "alone.jpg").unlink()
        route.abort("failed")

    ingest.route("**/v1/jobs?*", break_and_delete)
    ingest.locator("[data-choose=files]").set_input_files(tmp_path / "alone.jpg")
    into(ingest, "lost-alone")
    send(ingest)
    expect(ingest.get_by_role("heading", name="Not uploaded: 1 picture")).to_be_visible()
    expect(ingest.get_by_role("alert").filter(has_text="alone.jpg")).to_be_visible()
    assert http.get("/v1/jobs?collection=lost-alone").json()["jobs"] == []
