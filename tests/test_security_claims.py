"""SECURITY.md says nothing that no test shows: each claim names its tests, and its numbers are the code's."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from api.jobs import events
from api.search import query_images
from deploy import gunicorn_worker, supervisor
from shared.imaging import memory
from shared.metrics import page_server
from worker.recovery import callbacks, lease
from worker.stages import fetch

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in LINES if line.startswith("|")][2:]
# `tests/…/test_a.py::test_b`, or `::test_c` for another test of the file that the line named last.
TEST = re.compile(r"`(tests/[\w/.]+)?::(\w+)`")


def _named(line: str) -> Iterator[tuple[str, str]]:
    """The tests, as file and function, that a line of the page names."""
    file = ""
    for match in TEST.finditer(line):
        file = match[1] or file
        yield file, match[2]


@cache
def _defined(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_row_is_one_claim_that_names_its_tests() -> None:
    assert len(ROWS) > 90
    assert [row for row in ROWS if len(row) != 3 or ";" in row[1]] == []
    assert [
        claim for _, claim, tests in ROWS if not re.fullmatch(rf"{TEST.pattern}(, {TEST.pattern})*", tests)
    ] == []


def test_every_test_that_is_named_exists() -> None:
    named = [one for line in LINES for one in _named(line)]
    assert [(file, name) for file, name in named if name not in _defined(file)] == []
    assert [name for _, name in named if not name.startswith("test_")] == []


def test_no_test_is_mentioned_in_another_way() -> None:
    """Neither a file without a function, nor a name that only looks like a test's."""
    rest = [TEST.sub("", line) for line in LINES]
    assert [line for line in rest if re.search(r"\btests/|\btest_|::\w", line)] == []


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("for the {}rd time", lease.SUSPICIOUS_DELIVERIES),
        ("decodes pictures of {} GiB at once", (memory._small._most + memory._large._most) / 2**30),
        ("holds {} MiB of pictures' files", query_images._files._most / 2**20),
        ("asked for at most {} times", fetch.MAX_ATTEMPTS),
        ("tried at most {} times", callbacks.CALLBACK_TRIES),
        ("emptied at {} MiB", supervisor.MAX_LOG_BYTES / 2**20),
        ("ends after {} minutes", events.STREAM_SECONDS / 60),
        ("come after {} s is answered 408", gunicorn_worker.REQUEST_SECONDS),
        ("a client has {} s", page_server.CLIENT_SECONDS),
        ("of more than {} at once the first", page_server.MAX_CLIENTS),
        ("nothing comes for {} s", gunicorn_worker.RECEIVE_SECONDS),
        ("a thread for up to {} s", gunicorn_worker.SEND_SECONDS),
    ],
)
def test_a_number_is_the_code_s(said: str, number: float) -> None:
    assert any(said.format(f"{number:g}") in line for line in LINES)
