"""deploy/gunicorn_worker.py is written against the insides of one major release of gunicorn."""

import inspect
import socket
import tomllib
from importlib.metadata import version

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn, ThreadWorker
from packaging.requirements import Requirement

from deploy import gunicorn_worker
from deploy.gunicorn_worker import Worker
from tests.stack import ROOT

OVERRIDDEN = (
    "init_process", "accept", "on_client_socket_readable", "finish_request", "murder_pending",
    "_keepalive_after",
)  # fmt: skip


@pytest.mark.parametrize(
    ("package", "releases", "module"),
    [("gunicorn", "<28,>=27", "gunicorn_worker"), ("chromadb", "<1.6,>=1.5", "chroma_tenant")],
)
def test_what_the_insides_of_a_package_are_used_of_is_of_a_known_release(
    package: str, releases: str, module: str
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wanted,) = [
        one for one in map(Requirement, project["optional-dependencies"]["server"]) if one.name == package
    ]
    assert str(wanted.specifier) == releases
    assert version(package) in wanted.specifier, f"deploy/{module}.py does not fit this {package}"


def test_a_client_from_whom_nothing_comes_is_not_waited_for_any_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gunicorn_worker, "RECEIVE_SECONDS", 1)
    taken: list[TConn] = []
    monkeypatch.setattr(Worker, "_gather", lambda _, connection: taken.append(connection))
    worker = object.__new__(Worker)
    vars(worker).update(nr_conns=0, _waiting={}, cfg=Config())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()):
            worker.accept(listener)
            taken[0].sock.setblocking(True)  # as a thread reads a body
            with pytest.raises(BlockingIOError):
                taken[0].sock.recv(1)
        taken[0].sock.close()


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_the_connections_override_is_there_and_takes_the_same(name: str) -> None:
    theirs = getattr(ThreadWorker, name, None)
    assert theirs is not None, f"gunicorn {version('gunicorn')} has no {name}: it would never be called"
    assert (
        inspect.signature(vars(Worker)[name]).parameters.keys() == inspect.signature(theirs).parameters.keys()
    )
