"""extras/extension, loaded into Chromium, against the real stack.

A menu is the browser's own, so its entries are chosen by sending the service worker Chromium's event.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Error, Page, Playwright, Worker, expect

from deploy.ports import free_port
from tests.browser import chromium
from tests.browser.conftest import ARGUMENTS, WAIT_MS, WIDE, Faults
from tests.browser.looks import assert_accessible, shot
from tests.image_server import ImageServer
from tests.stack import ROOT, Stack, eventually

FOLDER = ROOT / "extras" / "extension"
SMALL = "?w=96&h=72"


class Extension:
    """Its options page and its service worker, in a window where it is installed."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.worker: Worker = (context.service_workers or [context.wait_for_event("serviceworker")])[0]
        self.options: Page = context.new_page()
        address = self.worker.url.replace("background.js", "options.html")
        with suppress(Error):  # the extension opens it itself when it is installed, perhaps in this empty tab
            self.options.goto(address)
        self.options.wait_for_url(address)

    def configure(self, server: str, key: str = "", collection: str = "images") -> None:
        for label, value in (("Server", server), ("API key", key), ("Collection", collection)):
            self.options.get_by_label(label).fill(value)
        self.options.get_by_role("button", name="Save and check").click()

    def says(self, text: str) -> None:
        expect(self.options.get_by_role("status")).to_contain_text(text)

    def choose(self, entry: str, url: str) -> None:
        """`search` or `add`, in the menu of the picture at `url`."""
        script = "event => chrome.contextMenus.onClicked.dispatch(event, undefined)"
        self.worker.evaluate(script, {"menuItemId": entry, "srcUrl": url})

    def shows_badge(self, text: str) -> None:
        eventually(lambda: self.worker.evaluate("chrome.action.getBadgeText({})") == text)

    @property
    def notified(self) -> list[str]:
        """The ids of the notifications that are shown."""
        return list(self.worker.evaluate("chrome.notifications.getAll()"))


@pytest.fixture
def extension(playwright: Playwright, tmp_path: Path, faults: Faults) -> Iterator[Extension]:
    context = playwright.chromium.launch_persistent_context(
        tmp_path,
        executable_path=chromium.found(playwright),
        args=[*ARGUMENTS, f"--disable-extensions-except={FOLDER}", f"--load-extension={FOLDER}"],
        ignore_default_args=["--disable-extensions"],
        **WIDE,
    )
    context.set_default_timeout(WAIT_MS)
    context.on("page", faults.watch)
    yield Extension(context)
    context.close()


def test_an_added_picture_is_in_the_collection(
    extension: Extension, stack: Stack, key: str, image_server: ImageServer
) -> None:
    extension.configure(stack.url, key, "clipped")
    extension.says("will make the collection “clipped”")
    url = image_server.url(f"/photo/501.jpg{SMALL}")
    extension.choose("add", url)
    extension.shows_badge("✓")
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}) as http:
        (image,) = http.get("/v1/images", params={"collection": "clipped"}).json()["images"]
        (job_id,) = [
            job["job_id"] for job in http.get("/v1/jobs").json()["jobs"] if job["collection"] == "clipped"
        ]
    assert image["source"] == url
    eventually(lambda: extension.notified == [f"job:{job_id}"])


def test_a_picture_that_cannot_be_had_is_told(
    extension: Extension, stack: Stack, key: str, image_server: ImageServer
) -> None:
    extension.configure(stack.url, key)
    extension.says("Saved. The server answers")
    extension.choose("add", image_server.url("/status/404"))
    extension.shows_badge("!")
    eventually(lambda: [name.partition(":")[0] for name in extension.notified] == ["job"])


def test_a_server_without_keys_takes_no_picture(
    extension: Extension, stack: Stack, http: httpx.Client, image_server: ImageServer
) -> None:
    """It cannot tell this extension from any other; SECURITY.md says so."""
    extension.configure(stack.url, collection="from-nobody")
    extension.says("Saved. The server answers")
    extension.choose("add", image_server.url(f"/photo/502.jpg{SMALL}"))
    extension.shows_badge("!")
    eventually(lambda: extension.notified)
    assert "from-nobody" not in {known["name"] for known in http.get("/v1/collections").json()["collections"]}


def test_search_similar_opens_the_page_with_the_picture(
    extension: Extension, stack: Stack, image_server: ImageServer
) -> None:
    extension.configure(stack.url)
    extension.says("Saved. The server answers")
    with extension.context.expect_page() as opened:
        extension.choose("search", image_server.url("/photo/3.jpg?w=600&h=900"))
    assert opened.value.url.startswith(f"{stack.url}/?image_url=")
    assert opened.value.url.endswith("&collection=images")
    expect(opened.value.locator(".cell a.result").first).to_have_attribute(
        "aria-label", re.compile("^photo-3.jpg")
    )


@pytest.mark.parametrize(
    "address", ["ftp://example.com", "http://user@127.0.0.1:8000", "http://127.0.0.1:8000/?x=1"]
)
def test_an_address_that_cannot_be_used_is_refused(extension: Extension, address: str) -> None:
    extension.configure(address)
    extension.says("Enter the address")
    assert extension.worker.evaluate("chrome.storage.local.get()") == {}


def test_the_options_can_be_read_and_say_when_nobody_answers(extension: Extension, faults: Faults) -> None:
    for scheme in ("light", "dark"):
        extension.options.emulate_media(color_scheme=scheme)
        assert_accessible(extension.options)
        shot(extension.options, f"extension-options-{scheme}")
    nobody = f"http://127.0.0.1:{free_port()}"
    faults.expect("ERR_CONNECTION_REFUSED")
    extension.configure(nobody, "a key")
    extension.says(f"{nobody} does not answer")
    assert_accessible(extension.options)
