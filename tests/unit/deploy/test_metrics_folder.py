import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import metrics_folder
from deploy.cli import main
from deploy.metrics_folder import FOLDER_PREFIX, VARIABLE, shared_metrics_folder
from shared.errors import ConfigError
from shared.metrics.exporter import FOLDER_VARIABLE


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(metrics_folder, "MEMORY", tmp_path)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv(VARIABLE, "restored afterwards")
    return tmp_path


def test_there_is_a_private_folder_until_the_end(temporary: Path) -> None:
    with pytest.raises(SystemExit), shared_metrics_folder():
        folder = Path(os.environ[FOLDER_VARIABLE])
        assert [*temporary.iterdir()] == [folder]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        raise SystemExit(0)
    assert [*temporary.iterdir()] == []


def test_a_forked_process_that_ends_by_an_exception_leaves_it_to_the_others(temporary: Path) -> None:
    folder = shared_metrics_folder()
    with folder:
        if not (pid := os.fork()):
            with suppress(SystemExit):  # gunicorn's end so, in what their parent has entered
                folder.__exit__(SystemExit, SystemExit(), None)
            os._exit(0)
        os.waitpid(pid, 0)
        assert len([*temporary.iterdir()]) == 1
    assert [*temporary.iterdir()] == []


def test_what_a_killed_process_left_goes_with_the_next_start(temporary: Path) -> None:
    if not (pid := os.fork()):
        with shared_metrics_folder():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (left,) = temporary.iterdir()
    with shared_metrics_folder():
        first = Path(os.environ[VARIABLE])
        assert not left.exists()
        with shared_metrics_folder():
            assert first.exists(), "it is another running process's"
    assert [*temporary.iterdir()] == []


def test_a_link_is_not_followed_when_left_folders_go(temporary: Path) -> None:
    (temporary / "pictures").mkdir()
    (temporary / "pictures" / "cat.jpg").touch()
    (temporary / f"{FOLDER_PREFIX}x").symlink_to(temporary / "pictures")
    with shared_metrics_folder():
        assert (temporary / "pictures" / "cat.jpg").exists()


def test_without_a_folder_for_temporary_files_the_start_says_what_to_set(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(temporary / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(ConfigError, match="set TMPDIR"), shared_metrics_folder():
        pass


def test_it_is_in_memory_unless_there_is_no_room_or_another_is_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = temporary / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with shared_metrics_folder():
        assert Path(os.environ[VARIABLE]).parent == temporary
    monkeypatch.setenv("TMPDIR", str(disk))
    with shared_metrics_folder():
        assert Path(os.environ[VARIABLE]).parent == disk
    monkeypatch.delenv("TMPDIR")
    full = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if disk not in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return full(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with shared_metrics_folder():
        assert Path(os.environ[VARIABLE]).parent == disk
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(ConfigError, match="No space left on device"), shared_metrics_folder():
        pass
    assert [*temporary.iterdir(), *disk.iterdir()] == [disk]


@pytest.mark.parametrize("name", [VARIABLE, VARIABLE.lower()])
def test_a_folder_that_the_environment_names_is_not_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "/nowhere")
    assert CliRunner().invoke(main, ["completion", "bash"]).exit_code == 0
    assert name not in os.environ


def test_a_port_that_is_taken_ends_a_worker_with_one_line(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.app.configure_logging", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("IMAGE_SEARCH_METRICS_PORT", str(port))
        ended = CliRunner().invoke(main, ["worker", "--queues", "index"])
    assert ended.exit_code == 1
    assert ended.output.startswith(f"Error: cannot show metrics on 127.0.0.1:{port}: the port is taken")
    assert ended.output.count("\n") == 1
    assert [*temporary.iterdir()] == []


def test_nothing_imports_prometheus_before_the_folder_is_there() -> None:
    """It would not count in files, and the page of a pool would stay empty."""
    modules = "deploy.cli, deploy.embedded, deploy.metrics_folder, deploy.server, shared.config"
    script = f"import sys, {modules}; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
