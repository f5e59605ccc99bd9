"""The map stays true: who may import what, who consumes which queue, which settings are documented."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import click
import pytest
import yaml

from benchmarks import records, report
from deploy.cli import main
from deploy.embedded import role_children
from shared.config import PREFIX, Settings
from shared.models import Stage

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "worker", "shared", "deploy")
FORBIDDEN = {"api": {"worker", "deploy"}, "worker": {"api", "deploy"}, "shared": {"api", "worker", "deploy"}}
# A foreign library and the modules that may import it: they turn its exceptions into ours.
TOUCHED_BY = {
    "chromadb": {"shared/index.py", "shared/index_connection.py"},
    "redis": {"shared/ledger.py"},
    "openvino": {"shared/openvino_tower.py"},
    "nncf": {"shared/openvino_tower.py"},
    "fsspec": {"shared/blobs.py"},
    "torch": {"shared/encoder.py", "deploy/checkpoint.py"},
    "transformers": {"shared/encoder.py", "deploy/checkpoint.py"},
    # the last for what chromadb raises
    "httpx": {"shared/download.py", "api/client.py", "shared/index_connection.py"},
    "pyarrow": {"shared/parquet.py", "api/sources.py"},
    "pydantic_settings": {"shared/config.py"},
}
HEAVIEST = {"torch", "transformers"}
# What the page's policy forbids, or what would parse text from the index as markup or code.
UNSAFE_IN_PAGES = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|\beval\(|new Function"
    r"|setTimeout\(\s*[\"'`]|setAttribute\(\s*[\"'](?:style|on)|\sstyle=|\son[a-z]+=[\"']|<style|<script>|javascript:"
)
# The names of XML's vocabularies are no addresses, and example.com is nobody's.
FOREIGN_URL = re.compile(
    r"(?:[a-z]+:)?//(?!www\.w3\.org/|example\.com)[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE
)
MOST_LINES = 480


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def _imported(path: Path) -> frozenset[str]:
    """The top-level package of every import anywhere in the file, those only for type checkers left out."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_the_map_allows(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = FORBIDDEN[package] & _imported(path)
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("library", TOUCHED_BY)
def test_a_foreign_library_is_touched_by_its_module_only(library: str) -> None:
    touching = {path.relative_to(ROOT).as_posix() for path in _sources() if library in _imported(path)}
    assert touching <= TOUCHED_BY[library]


def _page_sources() -> list[Path]:
    folders = (ROOT / "api/static", ROOT / "api/templates")
    kinds = {".js", ".css", ".html", ".svg", ".webmanifest"}
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in kinds)


def test_the_page_is_safe_by_construction_and_asks_no_other_server() -> None:
    assert len(_page_sources()) > 10
    for path in _page_sources():
        text = path.read_text(encoding="utf-8")
        assert not (found := UNSAFE_IN_PAGES.search(text)), f"{path.name}: {found}"
        assert not (found := FOREIGN_URL.search(text)), f"{path.name}: {found}"


def test_no_file_outgrows_a_reader() -> None:
    files = _sources() + _page_sources()
    long = {path.name: n for path in files if (n := len(path.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_the_benchmarks_can_be_started() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("module", ["api.app", "api.cli_jobs", "deploy.cli"])
def test_importing_a_light_module_does_not_import_torch(module: str) -> None:
    script = f"import sys, {module}; sys.exit(','.join({HEAVIEST} & sys.modules.keys()) or 0)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr


def test_the_help_imports_no_heavy_library() -> None:
    heavy = HEAVIEST | {"chromadb", "celery", "flask", "PIL"}
    script = (
        "import sys; from click.testing import CliRunner; from deploy.cli import main\n"
        "result = CliRunner().invoke(main, ['--help']); assert result.exit_code == 0, result\n"
        f"sys.exit(','.join({heavy} & sys.modules.keys()) or 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr


def _commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)
        else:
            yield " ".join([*path, name]), command


def test_every_command_can_print_json() -> None:
    plain = {
        name
        for name, command in _commands(main)
        if "--json" not in {o for p in command.params for o in p.opts}
    }
    assert plain == {"up", "api", "worker", "sweep", "completion"}  # the roles, and a shell's script


def test_every_command_is_in_the_readme() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2]
    for name, _ in _commands(main):
        assert re.search(rf"`[^`]*\b{name.split()[-1]}\b", table), name


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def _queues(command: list[str]) -> list[str]:
    """The queues that an `image-search worker` command consumes."""
    if "worker" not in command:
        return []
    return command[command.index("--queues") + 1].split(",")


def _compose_commands() -> dict[str, list[str]]:
    return {name: service.get("command", "").split() for name, service in _compose()["services"].items()}


def _embedded_commands() -> dict[str, list[str]]:
    children = role_children("127.0.0.1", 8000, fetch_workers=1, encode_workers=1)
    return {child.name: list(child.argv) for child in children}


@pytest.mark.parametrize("commands", [_compose_commands, _embedded_commands])
def test_every_queue_has_a_consumer(commands: Any) -> None:
    consumed = sorted(queue for command in commands().values() for queue in _queues(command))
    assert consumed == sorted(Stage)


@pytest.mark.parametrize("commands", [_compose_commands, _embedded_commands])
def test_exactly_one_process_writes_the_index(commands: Any) -> None:
    (writer,) = (command for command in commands().values() if Stage.INDEX in _queues(command))
    assert writer[writer.index("--concurrency") + 1] == "1"


def test_compose_runs_the_roles_of_the_embedded_launcher() -> None:
    assert set(_compose_commands()) - {"redis", "chroma"} == set(_embedded_commands())


def test_compose_publishes_the_api_only() -> None:
    services = _compose()["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["api"]
    for name in ("redis", "chroma"):
        assert services[name]["networks"] == ["private"]
    assert _compose()["networks"]["private"]["internal"] is True


def test_compose_services_can_be_scaled_and_are_watched() -> None:
    services = _compose()["services"]
    assert not [name for name, service in services.items() if "container_name" in service]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"sweep"}


def test_compose_sets_only_known_settings() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for service in _compose()["services"].values():
        own = {name for name in service.get("environment", {}) if name.startswith(PREFIX)}
        assert own <= known


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", (ROOT / "docs/settings.md").read_text("utf-8"), re.M)
    documented = {name.lower(): default.strip(" `") for name, default in rows}
    fields = Settings.model_fields
    assert list(documented) == list(fields)
    for name, field in fields.items():
        default = str(field.get_default(call_default_factory=True))
        assert documented[name] == {"None": "unset", "[]": "empty"}.get(default, default)


def test_the_performance_page_is_made_of_the_recorded_runs() -> None:
    """`make performance` after `--record`, and commit both."""
    recordings = records.load_all()
    assert report.PAGE.read_text(encoding="utf-8") == report.page(recordings)
    drawn = {path: path.read_text(encoding="utf-8") for path in report.PLOTS.glob("*.svg")}
    expected = dict(report.plots(recordings))
    assert drawn.keys() == expected.keys()
    for path, curve in expected.items():
        assert escape(curve.description) in drawn[path]


def test_the_views_styles_do_not_meet() -> None:
    """All of a page's styles hold in all views, so a class of two views is named with where it is."""
    styles = ((ROOT / "api/static" / name).read_text("utf-8") for name in ("search.css", "desk.css"))
    ours, others = ({match[1] for match in re.finditer(r"^ *\.([\w-]+)[^{]*{", css, re.M)} for css in styles)
    assert not ours & others
