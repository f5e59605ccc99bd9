"""Running one call in a throwaway process, for input that may kill the process that reads it.

A plain subprocess: a Celery pool process is daemonic and may not use multiprocessing.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from shared.errors import ItemError

TRIES = 2  # a process that is killed once proves nothing about its picture


def run_isolated(function: Callable[..., Any], *arguments: Any, timeout_s: int) -> Any:
    """Return or raise what `function(*arguments)` does in a process of its own; all must be picklable.

    Raises an `internal` ItemError when the process died, or hung for `timeout_s`, twice.
    """
    command = [sys.executable, "-m", __name__, str(timeout_s)]
    with tempfile.TemporaryFile() as call:  # a pipe would take thousands of turns with the other threads
        pickle.dump((function, arguments), call)
        for _ in range(TRIES):
            call.seek(0)
            try:
                done = subprocess.run(
                    command, stdin=call, stdout=subprocess.PIPE, timeout=timeout_s, check=True
                )
            except subprocess.SubprocessError:
                continue
            result, error = pickle.loads(done.stdout)  # noqa: S301 - written by `_serve`
            if error is not None:
                raise error
            return result
    raise ItemError("internal", "The picture crashed the process that read it, alone and twice.")


def _serve() -> None:
    signal.alarm(int(sys.argv[1]))  # ends this process also when the worker that waits for it is gone
    answer = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get into the answer
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # it would leave files of counts, and counts nothing
    result, failure = None, None
    try:
        function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by `run_isolated`
        result = function(*arguments)
    except Exception as error:
        failure = error
    with os.fdopen(answer, "wb") as file:
        pickle.dump((result, failure), file)


if __name__ == "__main__":
    _serve()
