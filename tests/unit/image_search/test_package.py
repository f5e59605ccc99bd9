"""What `pip install .` brings: the wheel, what its client imports, and what type checkers see of it."""

import email
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = {"image_search", "api", "worker", "shared", "deploy"}
MAX_MODULES = 255  # `from image_search import Client`; half of the 511 of api.client
SERVER_ONLY = ["torch", "flask", "celery", "chromadb", "redis", "numpy", "pyarrow", "fsspec"]
# Before anything else is imported: what a plain installation does not have cannot be found.
BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {SERVER_ONLY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
TYPED = """
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

from image_search import (
    ApiError, AsyncClient, AsyncJobHandle, Client, Collection, Image, Item, Job, JobHandle, SearchResult,
)

with Client("http://127.0.0.1:8000", api_key="k", timeout=3) as client:
    assert_type(client, Client)
    handle = client.ingest([Path("a.jpg")], metadata={"n": 1})
    assert_type(handle, JobHandle)
    assert_type(handle.wait(progress=True), Job)
    assert_type(handle.items(), Iterator[Item])
    assert_type(client.search("a", limit=3), SearchResult)
    assert_type(client.search("a").results[0].score, float)
    assert_type(client.compare("a", {"image_id": "b"}), float)
    assert_type(client.thumbnail("a"), bytes)
    assert_type(client.collections(), list[Collection])
    assert_type(client.iter_images(filters={"n": 1}), Iterator[Image])
    assert_type(client.delete_image("a"), None)
    client.search(7)  # wrong
    client.search("a", limt=3)  # wrong
    client.jobs("failed", 3)  # wrong


async def main() -> None:
    async with AsyncClient() as client:
        assert_type(client, AsyncClient)
        handle = await client.ingest("photos")
        assert_type(handle, AsyncJobHandle)
        assert_type(await handle.wait(), Job)
        assert_type(await client.search("a"), SearchResult)
        async for image in client.iter_images():
            assert_type(image, Image)
        client.search("a").results  # wrong


try:
    pass
except ApiError as error:
    assert_type(error.retry_after, float | None)
"""


def python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build it of a copy: what an earlier build has left beside the sources would be in it."""
    copy = tmp_path_factory.mktemp("source")
    for folder in ("tests", "benchmarks", "examples", "training"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    build = (
        "import os, sys; os.chdir(sys.argv[1]); from setuptools import build_meta as b; b.build_wheel('.')"
    )
    python(build, str(copy))
    with zipfile.ZipFile(next(copy.glob("*.whl"))) as file:
        yield file


def test_the_wheel_has_the_product_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == ROOMS
    sources = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    folders = ["shared/ledger/lua", "shared/embedding/starter", "api/web/templates", "api/web/static"]
    data = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert len(data) > 20
    assert names >= {str(path.relative_to(ROOT)) for path in data if "__pycache__" not in path.parts}
    assert names >= {"image_search/py.typed", "shared/embedding/vocabulary.txt"}


def test_the_wheel_asks_for_little_unless_the_roles_are_wanted(wheel: zipfile.ZipFile) -> None:
    info = next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert set(metadata.get_all("Provides-Extra", [])) >= {"server", "embedded", "s3", "openvino"}
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.partition(">")[0].partition("<")[0] for line in needed) == [
        "click", "httpx", "pillow", "pydantic", "rich", "textual-image",
    ]  # fmt: skip
    server = " ".join(line for line in metadata.get_all("Requires-Dist", []) if 'extra == "server"' in line)
    assert all(name in server for name in SERVER_ONLY)
    assert "image-search = deploy.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


@contextmanager
def small_server() -> Iterator[str]:
    found = {"results": [], "took_ms": {"encode": 0, "index": 0, "total": 0}, "model": "m"}
    well = {name: {"ok": True} for name in ("redis", "chroma", "blobs", "model")}
    ready = {"ready": True, **well, "workers": {"fetch": 1, "encode": 1, "index": 1}}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, found)

        def do_GET(self) -> None:
            self.answer(*((200, ready) if self.path == "/readyz" else (404, {})))

        def answer(self, status: int, document: object) -> None:
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_client_and_commands_need_nothing_of_the_server() -> None:
    script = (
        BLOCK
        + """
from image_search import *
with Client(sys.argv[1]) as client:
    assert client.search("a").model == "m"
import click
from click.testing import CliRunner
from deploy.cli import main
def run(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="image-search")
def each(command, *path):
    assert run(*path, "--help").exit_code == 0, path
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            each(command.get_command(ctx, name), *path, name)
each(main)
found = run("search", "a", "--url", sys.argv[1])
assert (found.exit_code, found.output) == (0, "Nothing found.\\n"), found
assert run("completion", "bash").exit_code == 0
"""
    )
    with small_server() as url:
        python(script, url)


def test_doctor_says_what_the_server_says_where_only_the_client_is() -> None:
    script = (
        BLOCK
        + """
from click.testing import CliRunner
from deploy.cli import main
found = CliRunner(env={"IMAGE_SEARCH_URL": sys.argv[1]}).invoke(main, ["doctor", "--json"])
print(found.exit_code, found.output)
"""
    )
    with small_server() as url:
        code, _, said = python(script, url).partition(" ")
    findings = {one["subject"]: one for one in json.loads(said)["findings"]}
    assert code == "0"
    assert url in findings["settings"]["detail"]
    assert "only the client is installed" in findings["settings"]["detail"]
    assert findings["model"] == {"subject": "model", "state": "ok", "detail": "works"}
    code, _, said = python(script, "http://127.0.0.1:9").partition(" ")
    assert code == "1"
    assert "no server answers at http://127.0.0.1:9" in said


@pytest.mark.parametrize(
    "command",
    [
        "up", "api", "worker --queues fetch", "sweep", "verify", "rebuild", "doctor --this-worker",
        "keys create --scope admin", "keys list", "keys revoke x",
    ],
)  # fmt: skip
def test_a_command_that_needs_more_says_what_to_install(tmp_path: Path, command: str) -> None:
    script = (
        BLOCK
        + """
import os
os.chdir(sys.argv[1])
from deploy.cli import main
sys.argv = ["image-search", *sys.argv[2:]]
try:
    main(prog_name="image-search")
except SystemExit as end:
    assert end.code == 1, end
"""
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), *command.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr.lower().startswith("error: ")
    assert process.stderr.count("\n") == 1
    assert "pip install '.[server]'" in process.stderr


def test_the_import_of_the_client_loads_few_modules() -> None:
    count = int(python("import sys; from image_search import Client; print(len(sys.modules))"))
    assert count <= MAX_MODULES


def test_type_checkers_see_what_each_method_takes_and_returns(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(program)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    wrong = [number for number, line in enumerate(TYPED.split("\n"), 1) if line.endswith("# wrong")]
    # Of an installed package a type checker says nothing; here it is beside the program.
    faults = [line for line in found.stdout.splitlines() if line.startswith(f"{program}:")]
    assert [int(line.split(":")[1]) for line in faults if ": error: " in line] == wrong, found.stdout
