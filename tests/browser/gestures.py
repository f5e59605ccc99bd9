"""What people do with a mouse and Playwright has no word for."""

from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import Locator


def drop(target: Locator, paths: Iterable[Path]) -> None:
    """Drops files and folders on the middle of `target`, as a desktop gives them to Chromium."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    page = target.page
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
    session.detach()
