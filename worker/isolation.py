"""Running one call at a time in a throwaway process, for input that may kill the process that reads it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from shared.errors import ItemError

TRIES = 2  # a process that is killed once proves nothing about its picture


def run_isolated(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], timeout_s: float
) -> Iterator[Any]:
    """Yields the result of each call, or an `internal` ItemError for one whose process died or hung twice."""
    for arguments in calls:
        for _ in range(TRIES):
            try:
                yield _run_alone(function, arguments, timeout_s)
                break
            except (EOFError, TimeoutError):
                continue
        else:
            yield ItemError("internal", "The picture crashed the process that read it, alone and twice.")


def _run_alone(function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise TimeoutError
        result = ours.recv()
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(result, _Raised):
        raise result.error
    return result


class _Raised:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _call(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        connection.send(function(*arguments))
    except Exception as error:
        connection.send(_Raised(error))
