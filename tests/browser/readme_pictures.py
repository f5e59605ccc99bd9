"""`make screenshots`: the README's two pictures of the page, from the demo's drawings."""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from examples.demo.pictures import openmoji
from tests.browser import chromium, pictures
from tests.browser.conftest import ARGUMENTS, PHONE, WIDE
from tests.browser.looks import wait_for_pictures
from tests.stack import ROOT, Stack

STILL = {"reduced_motion": "reduce"}
SHOWN = {
    "page-light.png": ("/?q=fruit+-banana", {**STILL, **WIDE, "color_scheme": "light"}),
    "page-phone.png": (
        "/?q=a+red+car",
        {**STILL, **PHONE, "color_scheme": "dark", "device_scale_factor": 1.5},
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        drawings = openmoji(folder / "openmoji")
        browser = playwright.chromium.launch(executable_path=chromium.found(playwright), args=ARGUMENTS)
        with Stack(folder, MODEL="starter") as stack:
            pictures.ingest(stack, pictures.framed(drawings, every=1))
            for picture, (query, look) in SHOWN.items():
                (ROOT / "docs" / picture).write_bytes(_small(_taken(browser, stack.url + query, look)))


def _taken(browser: Browser, url: str, look: dict[str, object]) -> bytes:
    page = browser.new_context(**look).new_page()
    page.goto(url)
    expect(page.locator(".cell").first).to_be_visible()
    wait_for_pictures(page)
    return page.screenshot()


def _small(picture: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
