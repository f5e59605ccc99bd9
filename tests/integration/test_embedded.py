"""`image-search up` with real children: what dies comes back, and nothing is left behind."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from deploy.embedded import redis_answers
from deploy.ports import http_status
from tests.stack import ROLES, Stack, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One that is started as a user starts it."""
    with Stack(tmp_path_factory.mktemp("embedded"), preloaded=False) as running:
        yield running


def _run(stack: Stack, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *command],
        env=stack.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_role_runs_and_redis_listens_on_no_port(stack: Stack) -> None:
    assert [role for role in ROLES if not stack.processes(role)] == []
    eventually(lambda: f"ready: {stack.url}" in stack.output)
    assert "port=0" in stack.log("redis")


def test_redis_writes_each_change_to_disk(stack: Stack) -> None:
    client = redis.Redis.from_url(stack.env["IMAGE_SEARCH_REDIS_URL"], decode_responses=True)
    assert [client.config_get(name)[name] for name in ("appendonly", "appendfsync")] == ["yes", "always"]


def test_the_data_folder_is_nobody_elses(stack: Stack) -> None:
    open_to_others = [
        path
        for path in (stack.data_dir, *stack.data_dir.rglob("*"))
        if not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


@pytest.mark.parametrize(
    "header",
    [
        "SCRIPT_NAME",
        "PATH_INFO",
        "REMOTE_ADDR",
        "Remote-Addr",
        "X-Script-Name",
        "X-Original-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-Proto",
        "X-Forwarded-Ssl",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
    ],
)
def test_what_only_a_trusted_forwarder_may_say_is_ignored(stack: Stack, header: str) -> None:
    for path in ("/healthz", "/", "/docs", "/openapi.json"):
        plain, claimed = (
            httpx.get(stack.url + path, headers=h, timeout=60) for h in ({}, {header: "/elsewhere"})
        )
        assert (claimed.status_code, claimed.text) == (200, plain.text), path
    answer = httpx.post(f"{stack.url}/v1/jobs", json={}, headers={header: "203.0.113.5"}, timeout=60)
    marked = header.startswith("X-Forwarded")  # such a request came through a proxy, so no key is no service
    assert answer.status_code == (403 if marked else 422)


def test_another_user_reads_the_tenant_nowhere(stack: Stack) -> None:
    tenant = stack.env["IMAGE_SEARCH_CHROMA_TENANT"].encode()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in stack.mine()]
    assert len(commands) > 5
    assert [command for command in commands if tenant in command] == []
    assert tenant.decode() not in stack.output
    (file,) = (
        path for path in stack.data_dir.glob("run/*") if path.is_file() and tenant in path.read_bytes()
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def _wait_for_workers(stack: Stack) -> None:
    """A worker is seen some seconds after its start, or after the server's."""

    def workers() -> dict[str, int]:
        seen: dict[str, int] = httpx.get(f"{stack.url}/readyz", timeout=60).json()["workers"]
        return seen

    eventually(lambda: all(workers().values()), 120)


def test_doctor_finds_the_running_stack_in_order(stack: Stack) -> None:
    _wait_for_workers(stack)
    found = json.loads(_run(stack, "doctor", "--data-dir", str(stack.data_dir), "--json").stdout)
    assert found["healthy"] is True
    (workers,) = (finding for finding in found["findings"] if finding["subject"] == "workers")
    assert (workers["state"], workers["detail"]) == ("ok", "fetch 1, encode 1, index 1")


def test_doctor_in_another_folder_asks_the_server_and_leaves_the_folder_alone(
    stack: Stack, tmp_path: Path
) -> None:
    _wait_for_workers(stack)
    clean = {name: value for name, value in stack.env.items() if not name.startswith("IMAGE_SEARCH_")}
    (tmp_path / "here").mkdir()

    def doctor(*options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "doctor", *options],
            env=clean | {"IMAGE_SEARCH_URL": stack.url, "HOME": str(tmp_path / "home")},
            cwd=tmp_path / "here",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    told = {one["subject"]: one["detail"] for one in json.loads(doctor("--json"))["findings"]}
    assert stack.url in told["settings"]
    assert told["workers"] == "fetch 1, encode 1, index 1"
    assert " collection" in told["chroma"]
    assert "(clip, 32 dimensions, texts of up to 77 tokens) on" in told["model"]
    assert f"workers ok {told['workers']}" in " ".join(doctor().split())  # without a model's weights to read
    assert list((tmp_path / "here").iterdir()) == []


def test_a_second_up_on_the_folder_is_refused_in_one_line_that_names_the_first(stack: Stack) -> None:
    assert stack.process is not None
    second = _run(stack, "up", "--data-dir", str(stack.data_dir), "--port", "0")
    assert second.returncode == 1
    assert len(second.stderr.strip().splitlines()) == 1
    assert f"pid {stack.process.pid}" in second.stderr
    assert stack.alive


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_child_comes_back(stack: Stack, role: str) -> None:
    first = stack.leader(role)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: stack.leader(role) not in (first, None), 60)
    eventually(lambda: http_status(f"{stack.url}/readyz") == 200, 120)
    eventually(lambda: http_status(f"{stack.url}/readyz?for=ingest") == 200, 120)


def test_up_killed_with_9_leaves_no_child_and_can_start_again_at_once(stack: Stack) -> None:
    assert stack.process is not None
    socket = Path(stack.env["IMAGE_SEARCH_REDIS_URL"].removeprefix("unix://").split("?")[0])
    assert redis_answers(socket)
    stack.process.kill()
    stack.process.wait()
    stack.start()
    children = json.loads((stack.data_dir / "run" / "children.json").read_text())
    own = {stack.process.pid, *(child["pid"] for child in children)}
    eventually(lambda: len(_sessions(stack) - own) == 1, 60)  # the guard's


def _sessions(stack: Stack) -> set[int]:
    """The sessions of all processes of this data folder: `up` and each of its children lead one."""
    found = set()
    for pid in stack.mine():
        with contextlib.suppress(ProcessLookupError):
            found.add(os.getsid(pid))
    return found


def test_a_port_that_is_taken_is_one_line_and_starts_nothing(stack: Stack, tmp_path: Path) -> None:
    port = stack.url.rpartition(":")[2]
    refused = _run(stack, "up", "--data-dir", str(tmp_path / "other"), "--port", port)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert not (tmp_path / "other" / "run" / "children.json").exists()


def test_a_model_that_cannot_be_had_is_one_line(stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli", "up", "--data-dir", str(tmp_path / "other"), "--port", "0"]
    refused = subprocess.run(
        command,
        env=stack.env | {"IMAGE_SEARCH_MODEL": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 1
    assert "no checkpoint" in refused.stderr
    assert "Traceback" not in refused.stderr
