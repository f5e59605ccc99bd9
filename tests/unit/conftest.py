"""What several unit tests start from."""

import importlib
import ipaddress
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.routing import Rule

from shared.embedding import load_failures
from tests.checkpoints import tiny_checkpoint


@pytest.fixture(autouse=True)
def _no_checkpoint_was_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_failures, "_refused", {})


@pytest.fixture(scope="session", autouse=True)
def _each_route_is_compiled_once() -> Iterator[None]:
    """Werkzeug compiles for each app anew what builds its URLs, which takes most of making one."""
    compiled: dict[object, Any] = {}
    compile_builder = Rule._compile_builder

    def once(rule: Rule, append_unknown: bool = True) -> Any:
        key = (*rule._trace, repr(rule.defaults), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Rule, "_compile_builder", once)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint, not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_checkpoint(folder)
    return folder


@pytest.fixture
def torch() -> Any:
    """Imported by the tests that run, not by all processes that collect them: it takes seconds."""
    return importlib.import_module("torch")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A fake DNS: name to addresses (or an exception); `lookups` counts what was asked of it."""
    table: dict[str, Any] = {"lookups": []}
    real = socket.getaddrinfo

    def fake(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_literal(host):
            return real(host, port, *args, **kwargs)
        table["lookups"].append(host)
        found = table.get(host, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(found, Exception):
            raise found
        return [entry for address in found for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return table


def _is_literal(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True
