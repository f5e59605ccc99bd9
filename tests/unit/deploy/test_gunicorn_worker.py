"""deploy/gunicorn_worker.py is written against the insides of one major release of gunicorn."""

import inspect
import tomllib
from importlib.metadata import version

import pytest
from gunicorn.workers.gthread import ThreadWorker
from packaging.requirements import Requirement

from deploy.gunicorn_worker import Worker
from tests.stack import ROOT

OVERRIDDEN = (
    "init_process", "accept", "on_client_socket_readable", "finish_request", "murder_pending",
    "_keepalive_after",
)  # fmt: skip


def test_gunicorn_is_a_release_that_the_connections_were_written_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wanted,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "gunicorn"]
    assert str(wanted.specifier) == "<28,>=27"
    assert version("gunicorn") in wanted.specifier, "deploy/gunicorn_worker.py does not fit this gunicorn"


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_the_connections_override_is_there_and_takes_the_same(name: str) -> None:
    theirs = getattr(ThreadWorker, name, None)
    assert theirs is not None, f"gunicorn {version('gunicorn')} has no {name}: it would never be called"
    assert (
        inspect.signature(vars(Worker)[name]).parameters.keys() == inspect.signature(theirs).parameters.keys()
    )
