"""What can be said of a page as it looks: a picture of it for people, axe's verdict for a test."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SCREENSHOTS = Path(__file__).parent / "screenshots"  # git-ignored; kept by CI
LOADED = """() => [...document.images].every((image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return bottom <= 0 || top >= innerHeight || image.hidden || image.naturalWidth;
})"""
GRAVE = {"serious", "critical"}


def shot(page: Page, name: str) -> None:
    """Saves what the window shows, its pictures loaded, as `screenshots/NAME.png`."""
    wait_for_pictures(page)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def wait_for_pictures(page: Page) -> None:
    """Until those in the window are loaded."""
    page.wait_for_function(LOADED)


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing that is serious or critical on the page as it is now."""
    violations = Axe().run(page).response["violations"]
    found = [
        f"{violation['id']} ({violation['impact']}): {violation['help']}\n    {node['html'][:300]}\n"
        f"    {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]
    assert not found, "\n".join(found)


def assert_fits(page: Page) -> None:
    """Nothing sticks out at the side."""
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), f"{page.url} scrolls sideways"
