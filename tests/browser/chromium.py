"""The Chromium of the browser tests: the system's, or Playwright's own, which is fetched where neither is.

`python -m tests.browser.chromium` finds or gets one, or ends with a line that says what to install.
Google Chrome is none: it loads no extension from a folder.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory

from playwright.sync_api import Playwright, sync_playwright

from tests import system_packages

NAMES = ("chromium", "chromium-browser")
OLDEST = 132  # without a window it is the whole browser, extensions included, from here on
FETCH = (sys.executable, "-m", "playwright", "install", "--no-shell", "chromium")
FETCH_SECONDS = 60.0
NONE = (
    f"The tests need Chromium {OLDEST} or newer: install it (Debian: apt-get install chromium; elsewhere "
    f"{sys.executable} -m playwright install --with-deps chromium)."
)


def find(playwright: Playwright) -> str | None:
    """The first Chromium that starts and is new enough."""
    places = [*map(shutil.which, NAMES), playwright.chromium.executable_path]
    return next((place for place in places if place and _version(place) >= OLDEST), None)


def found(playwright: Playwright) -> str:
    """The one that the tests use."""
    place = find(playwright)
    assert place, NONE
    return place


def _version(program: str) -> int:
    """Its major version; 0 if it does not start, as Ubuntu's stub, or one whose libraries are missing."""
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"(\d+)\.\d+\.\d+", told)
    return int(found[1]) if found else 0


def fetch(limit_s: float = FETCH_SECONDS) -> None:
    """Has Playwright download its own, within a time: where its server cannot be had it tries for minutes."""
    print(f"No Chromium found: asking Playwright for its own, for {limit_s:g} s at most.", flush=True)
    quiet = subprocess.DEVNULL
    with TemporaryDirectory() as folder:  # for what a download that is cut off leaves
        environment = os.environ | {"TMPDIR": folder}
        download = subprocess.Popen(
            FETCH, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
        )
        try:
            download.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if download.poll() is None:  # with the processes it started
                os.killpg(download.pid, signal.SIGKILL)
                download.wait()


def main() -> None:
    with sync_playwright() as playwright:
        if find(playwright):
            return
        fetch()
        if not find(playwright):
            system_packages.install("chromium")
        if not find(playwright):
            sys.exit(NONE)


if __name__ == "__main__":
    main()
