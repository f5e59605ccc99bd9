"""A real Chromium on the real stack.

Plain fixtures instead of pytest-playwright's: its browser lives as long as the test session, and Playwright's
event loop with it, in which no other test of the same process could run `asyncio`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    expect,
    sync_playwright,
)

from examples.demo.pictures import Pictures
from shared.api_keys import create_key, list_keys, revoke_key
from shared.storage.blobs import Blobs
from tests.browser import chromium, pictures
from tests.browser.looks import SCREENSHOTS
from tests.image_server import ImageServer
from tests.stack import Stack, eventually

# This list takes the place of Playwright's, whose entries stand first. What comes after them costs processor
# time that no page sees: the address bar's menus, two pages in a process of their own for each window, took
# most of a second, and a process is kept ready for whatever may be opened next.
NOT_WANTED = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
ARGUMENTS = (
    f"--disable-features={','.join(NOT_WANTED)}",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever asks elsewhere is a fault
)
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WAIT_MS = 20_000  # for what a test expects: two cores run everything
expect.set_options(timeout=WAIT_MS)
NewPage = Callable[..., Page]


class Faults:
    """What a page may not do: write errors to the console, as what the CSP refuses is; throw; ask in vain."""

    def __init__(self) -> None:
        self._seen: list[str] = []
        self._expected: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._seen.append(f"thrown: {error}"))
        page.on("requestfailed", self._on_failed)

    def expect(self, pattern: str) -> None:
        """A fault that has this regular expression in it belongs to the test: `expect("status of 404")`."""
        self._expected.append(pattern)

    @property
    def unexpected(self) -> list[str]:
        return [fault for fault in self._seen if not any(re.search(one, fault) for one in self._expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._seen.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page, or leaving it, ended the request
            self._seen.append(f"failed: {request.method} {request.url}: {request.failure}")


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=chromium.found(playwright), args=ARGUMENTS)


@pytest.fixture(scope="package")
def stack(starter_stack: Stack, drawings: Pictures) -> Stack:
    """Holds some dozens of drawings; what changes pictures does so in a collection of its own."""
    pictures.fill(starter_stack, drawings)
    return starter_stack


@pytest.fixture(scope="package")
def keys(stack: Stack) -> Iterator[dict[str, str]]:
    """One for each scope and one for `both`, without which `stack` answers nobody until the last test."""
    blobs = Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"])
    scopes = {"search": ["search"], "ingest": ["ingest"], "both": ["search", "ingest"]}
    made = {name: create_key(blobs, name, several) for name, several in scopes.items()}
    eventually(lambda: httpx.get(f"{stack.url}/v1/collections").status_code == 401)
    yield made
    for one in list_keys(blobs):
        revoke_key(blobs, one.id)
    eventually(lambda: httpx.get(f"{stack.url}/v1/collections").status_code == 200)


@pytest.fixture(scope="package")
def key(keys: dict[str, str]) -> str:
    """It may search and ingest; see `keys`."""
    return keys["both"]


@pytest.fixture(scope="module")
def image_server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture
def faults() -> Iterator[Faults]:
    seen = Faults()
    yield seen
    assert not seen.unexpected, "\n".join(seen.unexpected)


@pytest.fixture
def new_page(
    browser: Browser, stack: Stack, faults: Faults, request: pytest.FixtureRequest
) -> Iterator[NewPage]:
    """`new_page(**options)` opens a window of its own; options are those of Playwright's `new_context`."""
    contexts: list[BrowserContext] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(
            **{"base_url": stack.url, "reduced_motion": "reduce", **WIDE, **options}
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        faults.watch(page)
        return page

    yield open_page
    for number, context in enumerate(contexts):
        if request.node.stash.get(FAILED, False):
            for page in context.pages:
                page.screenshot(path=SCREENSHOTS / f"failed-{request.node.name}-{number}.png")
        context.close()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page(color_scheme="light")


@pytest.fixture
def dark_page(new_page: NewPage) -> Page:
    return new_page(color_scheme="dark")


@pytest.fixture
def phone_page(new_page: NewPage) -> Page:
    return new_page(**PHONE)


FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with a key last, since all need one then; each once more where it fails.

    Two cores that run browsers, stacks and the other tests keep no time.
    """
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if here in item.path.parents]
    ordered = sorted((items[place] for place in places), key=lambda item: "keys" in item.fixturenames)
    for place, item in zip(places, ordered, strict=True):
        item.add_marker(pytest.mark.flaky(reruns=1))
        items[place] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
