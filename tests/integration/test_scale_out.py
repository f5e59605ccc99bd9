"""Workers that are started by hand, with the commands of docs/deployment.md, share the work of a stack."""

import re
import shlex
import sys
from contextlib import ExitStack

import httpx
import pytest

from shared.models import Stage
from tests.image_server import ImageServer
from tests.stack import ROOT, Stack, eventually, finished

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SCALED, WORKERS = (Stage.FETCH, Stage.ENCODE), 3
JOBS = 20  # the most, until workers that were still loading have taken part


@pytest.fixture(scope="module")
def stack(small_chunks: Stack) -> Stack:
    return small_chunks


def _documented(stage: Stage) -> list[str]:
    """The arguments of the `image-search` command that runs a stage on a machine of its own."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (command,) = set(re.findall(rf"image-search (worker --queues {stage}\b[^`\n|]*)", text))
    return shlex.split(command)


def test_two_more_fetch_and_encode_workers_take_from_the_same_queues(
    stack: Stack, http: httpx.Client, pictures: ImageServer
) -> None:
    with ExitStack() as joined:
        for stage in SCALED:
            for _ in range(WORKERS - 1):
                joined.enter_context(stack.joined(*_documented(stage)))
        eventually(lambda: all(len(stack.tasks(one, WORKERS)) == WORKERS for one in SCALED), 120)
        for number in range(JOBS):
            urls = [pictures.url(f"/photo/{24 * number + n}.jpg?w=48&h=48") for n in range(24)]
            job = finished(http, http.post("/v1/jobs", json={"urls": urls, "collection": "scaled"}), 120)
            assert (job["status"], job["counts"]["indexed"]) == ("succeeded", len(urls))
            if all(all(stack.tasks(stage, WORKERS).values()) for stage in SCALED):
                return
    pytest.fail(f"not every worker took part: {[stack.tasks(stage) for stage in Stage]}")
