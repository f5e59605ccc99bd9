"""Limits on what foreign hosts are asked: in a download, and in what becomes of a chunk."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.download.addresses import AddressPolicy
from shared.download.downloader import Downloader
from shared.download.host_limits import MAX_PAUSE_SECONDS, MAX_WAIT_SECONDS, HostLimits
from shared.errors import HostBusy, ItemError
from shared.ledger.hosts import FAILURES_TO_OPEN, HostTurn
from shared.ledger.ledger import Ledger
from shared.models import ItemState, JobStatus, Stage
from tests.image_server import ImageServer
from tests.redis_server import fake_ledger
from tests.unit.stages import StubModel, StubServices, make_services, unavailable
from tests.unit.worker.stages.test_fetch import PREPROCESS, png
from worker.stages.fetch import run


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def pictures() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def make_downloader(**options: Any) -> Downloader:
    return Downloader(timeout_s=5, whole_s=3, max_bytes=2**20, allow_hosts=["127.0.0.1"], **options)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Downloader:
    """Downloads from this machine, which it takes for somebody else's."""
    monkeypatch.setattr(AddressPolicy, "exempts", lambda *_: False)
    return make_downloader()


class Recorder:
    """A ledger of hosts that always gives a turn, and notes what came of it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def turn(self, host: str, rate_per_s: float, longest_wait_s: float) -> HostTurn:
        self.told.append(("turn", host))
        return HostTurn(0.0, 1, None)

    def answered(self, host: str) -> None:
        self.told.append(("answered", host))

    def failed(self, host: str, error: ItemError, pause_s: float) -> None:
        self.told.append((f"failed {error.http_status} {pause_s}", host))


def told(downloader: Downloader, url: str) -> list[str]:
    recorder: Any = Recorder()
    with contextlib.suppress(ItemError):
        downloader.get(url, HostLimits(recorder, 1.0))
    return [what for what, _ in recorder.told]


@pytest.mark.parametrize(
    ("path", "outcomes"),
    [
        ("/photo/1.jpg", ["turn", "answered"]),
        ("/status/404", ["turn", "answered"]),
        ("/status/503", ["turn", "failed 503 0.0"]),
        ("/retry-after/7", ["turn", "failed 429 7.0"]),
        ("/retry-after/86400", ["turn", f"failed 429 {MAX_PAUSE_SECONDS}"]),
        ("/truncated.jpg", ["turn", "failed None 0.0"]),
        ("/garbage", ["turn", "answered"]),
        ("/slow?s=60", ["turn", "failed None 0.0"]),
        ("/redirect/2", ["turn", "answered"] * 3),
    ],
)
def test_each_request_takes_a_turn_and_says_what_came_of_it(
    path: str, outcomes: list[str], foreign: Downloader, pictures: ImageServer
) -> None:
    assert told(foreign, pictures.url(path)) == outcomes


@pytest.mark.parametrize(
    "allowed", ["127.0.0.1", "127.0.0.0/8", "localhost", "127.0.0.1:PORT", "localhost:PORT"]
)
def test_allowed_hosts_are_free_of_limits(allowed: str, pictures: ImageServer) -> None:
    entry = allowed.replace("PORT", str(pictures.port))
    downloader = Downloader(timeout_s=5, whole_s=5, max_bytes=2**20, allow_hosts=[entry])
    host = "localhost" if allowed.startswith("localhost") else "127.0.0.1"
    assert told(downloader, pictures.url("/status/503", host=host)) == []


def test_the_fleet_keeps_to_the_rate_of_a_foreign_host(
    ledger: Ledger, foreign: Downloader, pictures: ImageServer
) -> None:
    """Two workers' limits, one bucket: a fifth request within the second would wait beyond all patience."""
    limits = [HostLimits(ledger.hosts, 0.01), HostLimits(ledger.hosts, 0.01)]
    foreign.get(pictures.url("/photo/1.jpg"), limits[0])
    with pytest.raises(HostBusy) as busy:
        foreign.get(pictures.url("/photo/1.jpg"), limits[1])
    assert MAX_WAIT_SECONDS < busy.value.wait_s <= 100
    assert pictures.hits["/photo/1.jpg"] == 1


def test_the_wait_for_a_turn_is_not_part_of_the_download_s_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, pictures: ImageServer
) -> None:
    monkeypatch.setattr(AddressPolicy, "exempts", lambda *_: False)
    hurried = Downloader(timeout_s=0.5, whole_s=0.5, max_bytes=2**20, allow_hosts=["127.0.0.1"])
    limits = HostLimits(ledger.hosts, 1.0)
    assert all(hurried.get(pictures.url("/photo/1.jpg"), limits) for _ in range(2))


def test_a_failing_host_is_left_alone(ledger: Ledger, foreign: Downloader, pictures: ImageServer) -> None:
    limits = HostLimits(ledger.hosts, 1000.0)
    for _ in range(FAILURES_TO_OPEN + 5):
        with pytest.raises(ItemError) as failure:
            foreign.get(pictures.url("/status/503"), limits)
    assert pictures.hits["/status/503"] == FAILURES_TO_OPEN
    assert failure.value.transient
    assert "not asked" in failure.value.detail
    assert failure.value.retry_after_s == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("header", "refused"),
    [
        ("noai", True),
        ("NoIndex, NoAI", True),
        ("nofollow", False),
        ("googlebot: noai", False),
        ("googlebot: nofollow, noai", False),
        ("image-search: noai", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", True),
        ("max-image-preview: large, noai", True),
    ],
)
def test_a_picture_that_its_server_withholds_is_refused_if_the_operator_says_so(
    header: str, refused: bool, pictures: ImageServer
) -> None:
    url = pictures.url(f"/robots?tag={header.replace(' ', '%20')}")
    assert make_downloader().get(url)
    downloader = make_downloader(refused_robots_tags=["noai"])
    if not refused:
        assert downloader.get(url)
        return
    with pytest.raises(ItemError, match="X-Robots-Tag says noai") as failure:
        downloader.get(url)
    assert (failure.value.code, failure.value.transient) == ("http_status", False)


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path, fetch_concurrency=2)


def test_busy_hosts_postpone_a_picture_without_using_up_its_tries(services: StubServices) -> None:
    job_id = services.job(2)
    services.downloader.pages = {"http://x/0": png(0), "http://x/1": HostBusy("x", 0.01)}
    claim = services.claim()
    for _ in range(6):
        run(services.real, StubModel(PREPROCESS), claim)
        assert services.states(job_id) == [ItemState.FETCHED, ItemState.PENDING]
        time.sleep(0.02)
        (chunk,) = [chunk for stage, chunk in services.ledger.sweep() if stage is Stage.FETCH]
        claimed = services.ledger.claim(chunk, Stage.FETCH)
        assert claimed is not None
        claim = claimed
    services.downloader.pages["http://x/1"] = unavailable()
    run(services.real, StubModel(PREPROCESS), claim)
    assert services.states(job_id)[1] is ItemState.PENDING, "its first real failure is not its last"
    assert services.ledger.get(job_id).status is JobStatus.RUNNING
