"""docs/api.md as it stands: its shell, its Python, and its JavaScript in another site's page and in Node."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Faults
from tests.image_server import ImageServer
from tests.stack import ROOT, Stack

DOCUMENT = (ROOT / "docs/api.md").read_text(encoding="utf-8")
SKUS = {"A1", "A2", "A3"}
PAGE = """<!doctype html><title>Shop</title><link rel="icon" href="data:,"><div id="results"></div>
<script type="module" src="/shop.js"></script>"""
EXPORTS = "\nglobalThis.shop = { ingest, finished, failures, search, show, picture };\n"
IN_NODE = """
import { readFile } from "node:fs/promises";
const job = await finished(await ingest(await readFile("products.csv", "utf8")));
const told = [job.status, await failures(job), (await search("a shoe")).length, await picture("A2")];
console.log(JSON.stringify(told));
"""


@pytest.fixture
def adapted(stack: Stack, image_server: ImageServer) -> dict[str, str]:
    """What the document writes, and what is there instead."""
    return {
        "http://127.0.0.1:8000": stack.url,
        "https://example.com": image_server.url("").rstrip("/"),
        "collection=shop": "collection=documented",
        '"shop"': '"documented"',
    }


def code(language: str, adapted: dict[str, str], key: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert blocks
    for theirs, ours in (adapted | {"isk_…": key}).items():
        blocks = [block.replace(theirs, ours) for block in blocks]
    return blocks


@pytest.fixture
def folder(tmp_path: Path, adapted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the document's table."""
    (table,) = code("csv", adapted, "")
    (tmp_path / "products.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_of_a_language_that_is_run_here() -> None:
    assert set(re.findall(r"^```(\w+)$", DOCUMENT, re.MULTILINE)) == {"csv", "sh", "python", "js"}


@pytest.mark.system  # jq
def test_curl(folder: Path, keys: dict[str, str], adapted: dict[str, str]) -> None:
    script = "\n".join(code("sh", adapted, keys["both"]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    assert (job["status"], job["total"]) == ("succeeded", 3), done.stdout
    assert re.search(r"^-?0\.\d+ red shoe$", done.stdout, re.MULTILINE)
    assert '"boat, wooden"' not in done.stdout
    assert re.search(r'"keys": \[\s+"A1"', done.stdout)
    assert len(list(folder.glob("*.webp"))) == 2


def test_python(
    folder: Path, keys: dict[str, str], adapted: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    for block in code("python", adapted, keys["both"]):
        exec(compile(block, "docs/api.md", "exec"), names)
    status, *hits, image = capsys.readouterr().out.splitlines()
    assert status.startswith("succeeded")
    assert {hit.partition(" ")[2] for hit in hits} == {"red shoe", "blue shoe"}
    assert "['A1']" in image
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in folder.glob("*.webp"))
    assert len(list(folder.glob("*.webp"))) == 2


def test_javascript_in_a_page_of_an_allowed_origin(
    page: Page, other_site: ImageServer, folder: Path, keys: dict[str, str], adapted: dict[str, str]
) -> None:
    def opens_with(key: str) -> None:
        other_site.texts["/shop.js"] = "\n".join(code("js", adapted, key)) + EXPORTS
        page.goto(other_site.url("/shop.html"))
        page.wait_for_function("globalThis.shop")

    other_site.texts["/shop.html"] = PAGE
    opens_with(keys["ingest"])
    table = (folder / "products.csv").read_text(encoding="utf-8")
    job = page.evaluate("async (csv) => shop.finished(await shop.ingest(csv))", table)
    assert (job["status"], job["total"]) == ("succeeded", 3)
    assert page.evaluate("(job) => shop.failures(job)", job) == []

    opens_with(keys["search"])
    page.evaluate(
        "async () => shop.show(await shop.search('a red shoe'), document.querySelector('#results'))"
    )
    shown = page.get_by_role("img")
    expect(shown).to_have_count(2)
    assert {image.get_attribute("alt") for image in shown.all()} == {"red shoe", "blue shoe"}
    page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
    picture = page.evaluate("shop.picture('A2')")
    assert (picture["keys"], picture["metadata"]) == (["A2"], {"title": "boat, wooden", "price": 410})


def test_a_page_of_an_allowed_origin_is_told_what_was_refused(
    page: Page, other_site: ImageServer, faults: Faults, keys: dict[str, str], adapted: dict[str, str]
) -> None:
    faults.expect("status of 40[13]")
    other_site.texts["/shop.html"] = PAGE
    for key, sentence in ((keys["search"], "lacks the scope `ingest`"), ("isk_1_2", "API key is not known")):
        other_site.texts["/shop.js"] = "\n".join(code("js", adapted, key)) + EXPORTS
        page.goto(other_site.url("/shop.html"))
        page.wait_for_function("globalThis.shop")
        assert sentence in page.evaluate("shop.ingest('url\\nhttp://a').catch((error) => error.message)")


def test_a_page_of_another_origin_cannot_search(
    page: Page, image_server: ImageServer, faults: Faults, keys: dict[str, str], adapted: dict[str, str]
) -> None:
    faults.expect("blocked by CORS policy|net::ERR_FAILED")
    image_server.texts["/shop.html"] = PAGE
    image_server.texts["/shop.js"] = "\n".join(code("js", adapted, keys["search"])) + EXPORTS
    page.goto(image_server.url("/shop.html"))
    page.wait_for_function("globalThis.shop")
    for asked in ("shop.search('a red shoe')", f"fetch('{adapted['http://127.0.0.1:8000']}/v1/collections')"):
        assert "Failed to fetch" in page.evaluate(f"{asked}.catch((error) => error.message)")


def test_javascript_in_node(folder: Path, keys: dict[str, str], adapted: dict[str, str]) -> None:
    """Where there is one; what can run in Node runs in a page above."""
    if (node := shutil.which("node")) is None:
        return
    (folder / "shop.mjs").write_text("\n".join(code("js", adapted, keys["both"])) + IN_NODE, encoding="utf-8")
    done = subprocess.run([node, "shop.mjs"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    status, failed, found, picture = json.loads(done.stdout)
    assert (status, failed, found, picture["keys"]) == ("succeeded", [], 2, ["A2"])
