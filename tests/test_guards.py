"""The map stays true: who may import what, who consumes which queue, which settings are documented."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from benchmarks import records, report
from deploy.cli import main
from deploy.embedded import role_children
from image_search import errors as client_errors
from shared import errors
from shared.config import PREFIX, Settings
from shared.metrics import definitions
from shared.models import Stage
from tests import metrics_page
from tests.conftest import TOGETHER, together

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "worker", "shared", "deploy", "image_search")
FORBIDDEN = {
    "api": {"worker", "deploy"},
    "worker": {"api", "deploy"},
    "shared": {"api", "worker", "deploy", "image_search"},
    "image_search": {"api", "worker", "shared", "deploy"},
}
# A foreign library and the modules that may import it: they turn its exceptions into ours.
TOUCHED_BY = {
    "chromadb": {f"shared/index/{name}.py" for name in ("index", "collection", "connection")},
    "redis": {"shared/ledger/connection.py"},
    "openvino": {"shared/embedding/openvino_int8.py"},
    "nncf": {"shared/embedding/openvino_int8.py"},
    "fsspec": {"shared/storage/blobs.py", "shared/storage/s3.py"},
    "torch": {"shared/embedding/towers.py"},
    "transformers": {"shared/embedding/towers.py"},
    # the last for what chromadb raises
    "httpx": {
        "shared/download/request_urls.py",
        "image_search/_http.py",
        "shared/index/connection.py",
        "shared/index/observed_client.py",
    },
    "pycurl": {"shared/download/connections.py", "shared/download/transfer.py"},
    "duckdb": {"worker/database.py"},
    "pyarrow": {
        "shared/storage/catalogues.py",
        "shared/storage/parquet.py",
        "shared/storage/validators.py",
        "shared/tables/arrow_cells.py",
        "shared/tables/parquet_process.py",
        "worker/database.py",
        "worker/stages/url_join.py",
        *(f"worker/syncs/{name}.py" for name in ("begin", "brought", "comparison")),
    },
    "pydantic_settings": {"shared/config.py"},
    "opentelemetry": {"shared/tracing/sdk.py"},
}
HEAVIEST = {"torch", "transformers"}
HEAVY = HEAVIEST | {"chromadb", "celery", "flask", "PIL"}
# What each room imports of its package: a module beside the rooms is a room of its own. Of a package with one
# row every room has one, and there is no circle.
ROOMS: dict[str, set[str]] = {
    "api.app": {
        "collections", "context", "encoding", "http", "images", "jobs", "operations", "readiness",
        "request_spans", "search", "sources", "web",
    },
    "api.collections": {"context", "http", "images", "jobs"},
    "api.archives": set(),
    "api.context": {"encoding", "http", "readiness"},
    "api.encoding": set(),
    "api.http": set(),
    "api.images": {"context", "http", "jobs", "search"},
    "api.jobs": {"archives", "context", "http"},
    "api.operations": {"collections", "context", "encoding", "http"},
    "api.readiness": {"encoding"},
    "api.request_spans": set(),
    "api.search": {"context", "encoding", "http"},
    "api.sources": {"context", "http", "jobs"},
    "api.web": {"context", "http", "jobs", "search"},
    "api.wsgi": {"app", "context", "encoding"},
    "image_search._answers": {"errors"},
    "image_search._bodies": {"errors"},
    "image_search._client": {"_core", "_http", "_operations", "_runners", "models"},
    "image_search._core": {"_answers", "errors"},
    "image_search._handles": {"_bodies", "_runners", "models"},
    "image_search._http": {"_answers", "_bodies", "_core", "_operations", "errors"},
    "image_search._operations": {
        "_answers", "_bodies", "_core", "_handles", "_progress", "_runners", "_sources", "errors", "models",
    },
    "image_search._progress": {"models"},
    "image_search._runners": {"_core", "errors"},
    "image_search._sources": {"_bodies", "errors", "models"},
    "image_search.cli": {"_bodies", "_client", "_progress", "_sources", "models"},
    "image_search.errors": set(),
    "image_search.models": set(),
    "shared.api_keys": {"download", "errors", "formats", "storage"},
    "shared.batching": set(),
    "shared.config": {"errors", "urls"},
    "shared.download": {"errors", "ledger", "version"},
    "shared.embedding": {
        "batching", "config", "errors", "formats", "imaging", "metrics", "models", "storage",
    },
    "shared.errors": set(),
    "shared.formats": {"errors"},
    "shared.filters": {"errors", "models", "rfc3339", "urls", "validation"},
    "shared.image_files": {"errors", "image_metadata"},
    "shared.image_metadata": {"models"},
    "shared.imaging": {"errors", "image_files", "image_metadata", "models"},
    "shared.index": {
        "batching", "config", "download", "errors", "filters", "formats", "metrics", "models", "storage",
        "tracing",
        "validation",
    },
    "shared.job_document": {"models", "rfc3339"},
    "shared.ledger": {"errors", "formats", "models", "validation"},
    "shared.logs": {"config", "tracing", "urls"},
    "shared.metrics": {"download", "errors", "ledger", "models", "version"},
    "shared.models": {"urls", "validation"},
    "shared.rfc3339": set(),
    "shared.services": {"config", "download", "index", "ledger", "storage", "tasks"},
    "shared.sources": {
        "config", "errors", "formats", "ledger", "models", "services", "storage", "tracing", "validation",
    },
    "shared.storage": {"download", "errors", "formats", "ledger", "models", "urls", "validation"},
    "shared.tables": {"errors", "models", "validation"},
    "shared.tasks": {"config", "errors", "ledger", "models"},
    "shared.tracing": {"errors", "models", "urls", "version"},
    "shared.urls": {"validation"},
    "shared.validation": {"errors"},
    "shared.version": set(),
    "worker.app": {
        "aside", "celery_request", "chunk_spans", "database", "encoders", "pipelines", "recovery", "stages",
    },
    "worker.aside": set(),
    "worker.celery_request": set(),
    "worker.chunk_spans": set(),
    "worker.database": set(),
    "worker.encoders": set(),
    "worker.listings": set(),
    "worker.pipelines": {"encoders", "stages", "syncs"},
    "worker.recovery": set(),
    "worker.stages": {"chunk_spans", "database", "encoders", "listings", "recovery"},
    "worker.syncs": {"database", "listings", "stages"},
}  # fmt: skip
ROOMED = sorted({room.split(".")[0] for room in ROOMS})
MAX_MODULES = 12
# What the page's policy forbids, or what would parse text from the index as markup or code.
UNSAFE_IN_PAGES = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|\beval\(|new Function"
    r"|setTimeout\(\s*[\"'`]|setAttribute\(\s*[\"'](?:style|on)|\sstyle=|\son[a-z]+=[\"']|<style|<script>|javascript:"
)
# The names of XML's vocabularies are no addresses, and example.com is nobody's.
FOREIGN_URL = re.compile(
    r"(?:[a-z]+:)?//(?!www\.w3\.org/|example\.com)[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE
)
MAX_LINES = 480


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


def _texts(path: Path) -> Iterator[str]:
    """The beginnings of all string literals, f-strings included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize(
    ("home", "key"), [("shared/storage/blobs.py", r"[a-z]+/"), ("shared/ledger/scripts.py", r"is:")]
)
def test_keys_are_made_in_one_module(home: str, key: str) -> None:
    """Those of the blob store, whose beginnings the module says itself, and those of Redis."""
    begins = {found[0] for text in _texts(ROOT / home) if (found := re.match(key, text))}
    assert begins
    for path in set(_sources()) - {ROOT / home}:
        wrong = [text for text in _texts(path) if text.startswith(tuple(begins))]
        assert not wrong, f"{path.relative_to(ROOT)}: {wrong}"


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _arrows(package: str) -> dict[str, set[str]]:
    """The package's modules, each with those that it imports anywhere, also for type checkers only."""
    paths = {_name(path): path for path in (ROOT / package).rglob("*.py")}
    arrows: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                arrows[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                arrows[name] |= {one if one in paths else str(node.module) for one in inner}
    return {name: imported & paths.keys() for name, imported in arrows.items()}


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _room_arrows(package: str) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, imported in _arrows(package).items():
        rooms[_room(module)] |= {_room(one) for one in imported} - {_room(module), package}
    del rooms[package]
    return rooms


@pytest.mark.parametrize("package", ROOMED)
def test_a_room_imports_the_rooms_that_the_map_and_its_own_first_sentence_name(package: str) -> None:
    rooms = _room_arrows(package)
    assert {room: {one.partition(".")[2] for one in imported} for room, imported in rooms.items()} == {
        room: named for room, named in ROOMS.items() if room.startswith(f"{package}.")
    }
    for init in (ROOT / package).glob("*/__init__.py"):
        said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        named = set(re.findall(r"`(\w+)`", said.partition("Imports ")[2]))
        assert named == ROOMS[_name(init)], f"{_name(init)}: {said}"


def test_a_room_has_few_enough_modules_to_be_looked_over() -> None:
    rooms = Counter(path.parent for path in _sources() if path.name != "__init__.py")
    assert not {room: count for room, count in rooms.items() if count > MAX_MODULES}


@pytest.mark.parametrize("package", ROOMED)
@pytest.mark.parametrize("arrows", [_arrows, _room_arrows], ids=["modules", "rooms"])
def test_nothing_imports_in_a_circle(arrows: Callable[[str], dict[str, set[str]]], package: str) -> None:
    TopologicalSorter(arrows(package)).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize(
    ("errors", "root"),
    [(errors, "ImageSearchError"), (client_errors, "ClientError")],
    ids=["server", "client"],
)
def test_the_error_tree_that_is_drawn_is_the_classes(errors: ModuleType, root: str) -> None:
    drawn: dict[str, str] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.fullmatch(r"((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+(?:, \w+)*)(?:  +(\d+)?.*)?", line):
            indent, names, status = found.groups()
            depth = 0 if names == root else len(indent) // 4 + 1
            for name in names.split(", "):
                drawn |= {name: parents[depth - 1]} if depth else {}
                assert status is None or getattr(errors, name).status == int(status), name
            parents[depth:] = [names]
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    base = getattr(errors, root)
    assert drawn == {
        name: value.__base__.__name__
        for name, value in classes.items()
        if issubclass(value, base) and value is not base
    }


def test_the_client_and_the_models_import_nothing_heavy() -> None:
    modules = [name for name in _arrows("image_search") if "cli" not in name]
    script = f"import sys, {', '.join(modules)}; sys.exit(','.join({HEAVY} & sys.modules.keys()) or 0)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr


def _page_sources() -> list[Path]:
    folders = (ROOT / "api/web/static", ROOT / "api/web/templates")
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
    long = {path.name: n for path in files if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert not long


def test_the_benchmarks_can_be_started() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("module", ["api.app", "deploy.cli"])
def test_importing_a_light_module_does_not_import_torch(module: str) -> None:
    script = f"import sys, {module}; sys.exit(','.join({HEAVIEST} & sys.modules.keys()) or 0)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr


def test_one_process_runs_all_that_shares_a_stack(request: pytest.FixtureRequest) -> None:
    """Looks at what this run has: each other process would start a stack of its own."""
    for item in request.session.items:
        found = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - pytest's own
        shared = {
            name
            for name in found.keys() & set(TOGETHER.values())
            if found[name][-1].scope in ("package", "session")
        }
        assert not shared or together(item.nodeid) in shared, item.nodeid


def test_the_help_imports_no_heavy_library() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from deploy.cli import main\n"
        "result = CliRunner().invoke(main, ['--help']); assert result.exit_code == 0, result\n"
        f"sys.exit(','.join({HEAVY} & sys.modules.keys()) or 0)"
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


def test_the_image_is_made_of_every_package_and_what_its_metadata_names() -> None:
    """What .dockerignore does not let through is missing in the image without a word."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {
        name.removesuffix("*") for name in metadata["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    files = {"pyproject.toml", metadata["project"]["readme"], *metadata["project"]["license-files"]}
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == packages | files
    recipe = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    (copied,) = re.findall(r"^COPY (pyproject.*) \./$", recipe, re.M)
    (made,) = re.findall(r"^RUN mkdir ([\w ]+)", recipe, re.M)
    assert (set(copied.split()), set(made.split())) == (files, packages)


def test_compose_s_redis_writes_each_change_to_disk() -> None:
    assert "--appendonly yes --appendfsync always" in " ".join(_compose_commands()["redis"])


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


def test_the_page_of_metrics_is_made_of_their_definitions() -> None:
    """`make metrics`, and commit it."""
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()


def test_every_metric_is_counted_somewhere() -> None:
    counted = [name for name, one in vars(definitions).items() if isinstance(one, MetricWrapperBase)]
    assert counted
    texts = [path.read_text("utf-8") for path in _sources() if path != Path(definitions.__file__)]
    assert [name for name in counted if not any(re.search(rf"\b{name}\b", text) for text in texts)] == []


def test_the_performance_pages_are_made_of_the_recorded_runs() -> None:
    """`make performance` after `--record`, and commit both."""
    recordings = records.load_all()
    written = [report.OVERVIEW, report.MODELS, *report.FOLDER.glob("*.md")]
    assert {path: path.read_text(encoding="utf-8") for path in written} == report.pages(recordings)
    drawn = {path: path.read_text(encoding="utf-8") for path in report.FOLDER.glob("*.svg")}
    expected = dict(report.plots(recordings))
    assert drawn.keys() == expected.keys()
    for path, curve in expected.items():
        assert escape(curve.description) in drawn[path]


def test_a_views_styles_stand_under_its_root() -> None:
    """So no view changes another: all that were loaded once hold until the page is closed."""
    static = ROOT / "api/web/static"
    sheets = sorted(static.rglob("*.css"))
    assert len(sheets) > 4
    for sheet in sheets:
        if sheet.parent.name == "shell":
            continue
        root = ".column" if sheet.stem == "job_card" else f':root[data-view="{sheet.parent.name}"]'
        css = re.sub(r"/\*.*?\*/", "", sheet.read_text("utf-8"), flags=re.DOTALL)
        outermost = re.findall(r"^(\S.*?) ?\{", css, re.MULTILINE)
        assert [one for one in outermost if not one.startswith("@keyframes")] == [f":where({root})"], sheet
