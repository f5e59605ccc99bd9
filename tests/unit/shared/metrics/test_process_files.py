import errno
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from shared.metrics import process_files
from shared.metrics.process_files import read_all

ENDED = 2**30  # no process: more than pid_max can be


@pytest.fixture
def count(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Count, as a process would, in a file of it."""

    def count(pid: int, number: float, outcome: str = "ok") -> None:
        counter = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
        key = mmap_key("calls", "calls_total", ["outcome"], [outcome], "Calls")
        counter.write_value(key, number, 0.0)
        counter.close()
        times = MmapedDict(str(tmp_path / f"histogram_{pid}.db"))
        for name, labels in (("sum", {}), ("bucket", {"le": "1.0"}), ("bucket", {"le": "+Inf"})):
            times.write_value(
                mmap_key("times", f"times_{name}", [*labels], [*labels.values()], "Times"), number, 0.0
            )
        times.close()

    yield count


def numbers(folder: Path) -> dict[str, float]:
    samples = [sample for family in read_all(folder) for sample in family.samples]
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def test_what_ended_processes_counted_stays_in_one_file(tmp_path: Path, count: Callable[..., None]) -> None:
    for pid in range(ENDED, ENDED + 3):
        count(pid, 1)
    count(ENDED + 3, 5, "a" * 100_000)  # more than a file has place for at first
    expected = {
        "calls_total ok": 3,
        f"calls_total {'a' * 100_000}": 5,
        "times_sum": 8,
        "times_bucket 1.0": 8,
        "times_bucket +Inf": 16,
        "times_count": 16,
    }
    assert numbers(tmp_path) == expected
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_ended.db", "histogram_ended.db"}
    assert numbers(tmp_path) == expected
    count(ENDED + 4, 1)
    assert numbers(tmp_path)["calls_total ok"] == 4


def test_on_a_full_disk_the_files_of_ended_processes_stay(
    tmp_path: Path, count: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    count(ENDED, 1)
    count(ENDED + 1, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert numbers(tmp_path)["calls_total ok"] == 2
    assert len([*tmp_path.glob("*.db")]) == 4


def test_the_file_of_a_process_that_has_just_begun_spoils_no_page(
    tmp_path: Path, count: Callable[..., None]
) -> None:
    count(ENDED, 1)
    (tmp_path / f"counter_{ENDED + 1}.db").touch()
    (tmp_path / "counter_1.db").touch()
    assert numbers(tmp_path)["calls_total ok"] == 1


def test_a_process_that_is_forked_during_a_scrape_does_not_hold_up_the_next(
    tmp_path: Path, count: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    count(os.getpid(), 1)
    forked: list[int] = []

    def fork(*_: object) -> None:
        if not forked:
            forked.append(os.fork())
            if not forked[0]:
                signal.pause()

    monkeypatch.setattr(process_files, "_merge_ended", fork)
    assert numbers(tmp_path)["calls_total ok"] == 1
    try:
        with ThreadPoolExecutor(1) as scrape:
            assert scrape.submit(numbers, tmp_path).result(30)["calls_total ok"] == 1
    finally:
        os.kill(forked[0], signal.SIGKILL)
        os.waitpid(forked[0], 0)
