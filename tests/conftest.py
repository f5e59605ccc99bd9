"""What every kind of test needs."""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import hypothesis
import pytest
import structlog
from xdist.scheduler import LoadFileScheduling, Scheduling

from examples.demo.pictures import Pictures, openmoji
from tests import checkpoints
from tests.image_server import ImageServer
from tests.stack import ROOT, Stack

# What one process runs, since it shares a stack, called as its fixture is, which takes each process half a
# minute to start; every other file is by itself.
TOGETHER = {
    "tests/browser/": "starter_stack",
    "tests/integration/test_grey_and_icons.py": "starter_stack",
    "tests/integration/test_starter_search.py": "starter_stack",
    "tests/integration/test_api_fuzz.py": "stack",
    "tests/integration/test_backup.py": "stack",
    "tests/integration/test_client.py": "stack",
    "tests/integration/test_colors.py": "stack",
    "tests/integration/test_damaged_pictures.py": "stack",
    "tests/integration/test_generated_client.py": "stack",
    "tests/integration/test_lists_sent_again.py": "stack",
    "tests/integration/test_names_and_values.py": "stack",
    "tests/integration/test_other_users.py": "stack",
    "tests/integration/test_own_services.py": "stack",
    "tests/integration/test_picture_kinds.py": "stack",
    "tests/integration/test_pipeline.py": "stack",
    "tests/integration/test_private_hosts.py": "stack",
    "tests/integration/test_query.py": "stack",
    "tests/integration/test_times_and_places.py": "stack",
    "tests/integration/test_uploads.py": "stack",
    "tests/integration/test_bulk_changes.py": "small_chunks",
    "tests/integration/test_keys.py": "small_chunks",
    "tests/integration/test_model_gone.py": "small_chunks",
    "tests/integration/test_transfers.py": "small_chunks",
    "tests/integration/test_scale_out.py": "small_chunks",
    "tests/integration/test_buckets.py": "store",
    "tests/integration/test_object_store.py": "store",
    "tests/integration/test_s3.py": "store",
    "tests/integration/test_sources.py": "store",
    "tests/integration/test_pictures.py": "poisoned_stack",
    "tests/integration/test_poison.py": "poisoned_stack",
    # Those that import torch, for seconds.
    "tests/unit/test_benchmarks.py": "torch",
    "tests/unit/api/operations/test_health.py": "torch",
    "tests/unit/shared/embedding/": "torch",
    "tests/unit/shared/imaging/test_preprocess.py": "torch",
    "tests/unit/worker/stages/test_encode.py": "torch",
    "tests/unit/worker/test_app.py": "torch",
}


class Scheduler(LoadFileScheduling):
    """Takes files that belong together for one."""

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        super().add_node_collection(node, [f"{together(name)}::{name}" for name in collection])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are cores: a test that waits for leases or retries leaves its core to another."""
    return (os.cpu_count() or 1) + 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    gone = [path for path in TOGETHER if not (ROOT / path).exists()]
    assert not gone, f"TOGETHER names what is not there: {gone}"
    return Scheduler(config, log) if config.getvalue("dist") == "loadfile" else None


def together(name: str) -> str:
    file = name.partition("::")[0]
    return next((group for start, group in TOGETHER.items() if file.startswith(start)), file)


def pytest_configure() -> None:
    # Two cores that run stacks and the other tests keep no time.
    hypothesis.settings.register_profile("without deadlines", deadline=None)
    hypothesis.settings.load_profile("without deadlines")
    gc.disable()  # what is imported stays: looking through it again and again takes seconds
    # By default a logged exception is pages of source in colour, which take up to a second.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_collection_finish() -> None:
    # Each process of a run would wait seconds for it, since each collects all tests.
    assert "torch" not in sys.modules, "a test module imports torch: let its tests do so"
    gc.freeze()  # nor is it looked through in any later collection
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _no_open_files_left() -> Iterator[None]:
    """An API and its Chroma refer to one another: hundreds of open files wait for the collector."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _one_checkpoint_for_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    own = tmp_path_factory.getbasetemp()
    checkpoints.keep_in(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """The demo's 496 drawings as files, not to be changed."""
    return openmoji(tmp_path_factory.mktemp("openmoji"))


@pytest.fixture(scope="session")
def other_site() -> Iterator[ImageServer]:
    """A web server whose pages may use the API of `starter_stack`."""
    with ImageServer() as server:
        yield server


@pytest.fixture(scope="session")
def starter_stack(tmp_path_factory: pytest.TempPathFactory, other_site: ImageServer) -> Iterator[Stack]:
    """On the model that the package carries, for modules that keep to their own collections."""
    # A cancelled job's downloads go on until they time out, and the one fetch worker does nothing else.
    folder = tmp_path_factory.mktemp("starter")
    settings = {"MODEL": "starter", "FETCH_TIMEOUT_S": "10", "ALLOW_ORIGINS": other_site.url("")}
    with Stack(folder, MODELS_FOLDER=str(folder / "models"), **settings) as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of the `stack` that a module or a package has of its own."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client
