"""What the modules share: a server of pictures, and a stack unless they need settings of their own."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests import short_waits
from tests.image_server import ImageServer
from tests.integration import poisoned
from tests.object_store import ObjectStore
from tests.stack import Stack

TIMEOUT_SECONDS = 600
MAX_JOBS = 200  # that the stack keeps: more than any module looks back
PAGE = 100  # objects
VOCABULARY = ["zeppelin", "accordion", "lighthouse", "octopus", "cathedral", "tulip"]


COLLECTIONS_BEFORE = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each has long, and is run once more where it fails.

    Two cores that run stacks and the other tests keep no time.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(autouse=True)
def _once_more_from_the_beginning(request: pytest.FixtureRequest) -> None:
    """What a test that failed had brought to its stack is gone when it is run again."""
    stash = request.node.stash
    for fixture in {"stack", "roles"} & {*request.fixturenames}:
        url = request.getfixturevalue(fixture).url
        with httpx.Client(base_url=url, timeout=60) as http, suppress(httpx.TransportError):  # it was stopped
            if COLLECTIONS_BEFORE in stash:
                _clear(http, stash[COLLECTIONS_BEFORE])
            else:
                stash[COLLECTIONS_BEFORE] = {*_listed(http, "collections", "name")}
    for fixture in {"pictures", "private"} & {*request.fixturenames}:
        server = request.getfixturevalue(fixture)
        if isinstance(server, ImageServer):  # some modules have pictures without one
            server.hits.clear()
            server.posts.clear()


def _clear(http: httpx.Client, kept: set[str]) -> None:
    for job in _listed(http, "jobs", "job_id", status="running"):
        http.delete(f"/v1/jobs/{job}")
    for source in _listed(http, "sources", "name"):
        http.delete(f"/v1/sources/{source}")
    for collection in {*_listed(http, "collections", "name")} - kept:
        http.delete(f"/v1/collections/{collection}")


def _listed(http: httpx.Client, what: str, name: str, **which: str) -> list[str]:
    """What there is, by name; nothing where a key would be needed."""
    return [one[name] for one in http.get(f"/v1/{what}", params=which).json().get(what, [])]


class BreakableStack(Stack):
    """What a killed worker held is given to another after seconds, not half a minute."""

    module = short_waits.__name__


class PoisonedStack(Stack):
    """Two fetch workers that read pictures as `image-search` does, but for those that are to kill them."""

    module = poisoned.__name__


@pytest.fixture(scope="module")
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Shared by modules that write to folders of their own; it lists a hundred objects at once."""
    with ObjectStore(tmp_path_factory.mktemp("store"), page=PAGE) as running:
        yield running


@pytest.fixture(scope="package")
def fetch_headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `stack`; nobody gets any until it is changed."""
    file = tmp_path_factory.mktemp("secrets") / "headers.json"
    file.write_text("{}", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, fetch_headers: Path) -> Iterator[Stack]:
    """Shared by modules, each of which keeps to its own collections and leaves every role alive."""
    settings = {"FETCH_TIMEOUT_S": "2", "MAX_IMAGE_BYTES": "3000000", "CALLBACK_SECRET": "shh"}
    settings |= {"MAX_JOBS_PER_KEY": str(MAX_JOBS), "FETCH_HEADERS": str(fetch_headers), "LOG_LEVEL": "debug"}
    with Stack(tmp_path_factory.mktemp("stack"), **settings) as running:
        yield running


@pytest.fixture(scope="package")
def small_chunks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same for modules whose few pictures are to be many chunks, which they may break and start again."""
    with BreakableStack(tmp_path_factory.mktemp("chunks"), CHUNK_SIZE="4") as running:
        yield running


@pytest.fixture(scope="package")
def poisoned_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A PoisonedStack with a vocabulary of its own, on which every picture is over NSFW_MAX."""
    folder = tmp_path_factory.mktemp("poisoned")
    vocabulary = folder / "tags.txt"
    vocabulary.write_text("# ours\n" + "\n".join(VOCABULARY), encoding="utf-8")
    settings = {"TAG_VOCABULARY": str(vocabulary), "TAG_MIN_SCORE": "0", "NSFW_MAX": "0", "CHUNK_SIZE": "4"}
    with PoisonedStack(folder, fetch_workers=2, **settings) as running:
        yield running
