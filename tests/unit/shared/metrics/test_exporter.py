import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.metrics.definitions import DEFINITIONS
from shared.metrics.exporter import FOLDER_VARIABLE, Page

NAME = "image_search_start_time_seconds"
# Two forked processes count, one of them is killed, and a third one takes its place.
POOL = """
import json, os, signal, sys
from shared.metrics.definitions import CHUNKS, DOWNLOAD_SECONDS, GPU_MEMORY, REGISTRY
from shared.metrics.exporter import Page

def start():
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        CHUNKS.labels("fetch").inc()
        DOWNLOAD_SECONDS.observe(1)
        GPU_MEMORY.labels("cuda:0", "allocated").set(100)
        os.write(writing, b"counted")
        signal.pause()
    os.read(reading, 7)
    return pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

shown = []
DOWNLOAD_SECONDS.observe(1)  # what the parent has counted is not its children's, too
pool = [start(), start()]
shown.append(Page(["fetch", "encode"]).render().decode())
end(pool.pop())
shown += [Page(["fetch", "encode"]).render().decode() for _ in range(2)]
pool.append(start())
shown.append(Page(["fetch", "encode"]).render().decode())
shown.append(Page(["index"]).render().decode())
for pid in pool:
    end(pid)
print(json.dumps(shown))
"""


def samples(page: str) -> dict[str, float]:
    """The values that a page has, by the sample's name; those of all labels together."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if "le" not in sample.labels:
                found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_all_processes_are_one_target_and_of_those_that_ended_the_counts_stay(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", POOL],
        env=os.environ | {FOLDER_VARIABLE: str(tmp_path)},
        capture_output=True,
        check=True,
        timeout=120,
    )
    *pages, index = [samples(page) for page in json.loads(done.stdout)]
    read: list[dict[str, Any]] = [
        {
            "chunks": page["image_search_chunks_total"],
            "downloads": page["image_search_download_seconds_count"],
            "seconds": page["image_search_download_seconds_sum"],
            "memory": page["image_search_gpu_memory_bytes"],
        }
        for page in pages
    ]
    killed = {"chunks": 2, "downloads": 3, "seconds": 3, "memory": 100}
    assert read == [
        {"chunks": 2, "downloads": 3, "seconds": 3, "memory": 200},
        killed,
        killed,
        {"chunks": 3, "downloads": 4, "seconds": 4, "memory": 200},
    ]
    assert "image_search_write_seconds_count" in index
    assert "image_search_download_seconds_count" not in index


def test_a_page_has_its_roles_metrics_only() -> None:
    page = Page(["index"]).render().decode()
    names = {family.name for family in text_string_to_metric_families(page)}
    of_role = {one.name.removesuffix("_total") for one in DEFINITIONS if "index" in one.exporters}
    assert names <= of_role
    assert {"image_search_build_info", "image_search_write_seconds"} <= names


def test_a_worker_s_page_says_when_it_started_at_each_scrape_and_an_api_s_does_not() -> None:
    """Each of an API's processes has a page of its own: a scrape of one after another would see starts."""

    def started(page: Page) -> list[str]:
        return [line for line in page.render().decode().splitlines() if line.startswith(f"{NAME} ")]

    page = Page(["index"])
    (first,) = started(page)
    assert float(first.split()[1]) <= time.time()
    assert started(page) == [first]
    assert started(Page(["api"])) == []
