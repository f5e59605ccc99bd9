"""The connections of the API's server, beyond what gunicorn's threaded worker does for them."""

import re
import socket
from uuid import uuid4

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from api.headers import DATA_POLICY, HEADERS
from api.problems import problem


class Worker(ThreadWorker):
    """A threaded worker whose own errors, those of requests that never reach the API, are problems too."""

    def init_process(self) -> None:
        util.write_error = _write_problem  # the worker's one way to answer by itself
        super().init_process()


def _write_problem(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    code = re.sub(r"\W+", "_", reason.lower())
    headers = {**HEADERS, "Content-Security-Policy": DATA_POLICY, "X-Request-ID": str(uuid4())}
    answer = problem(status_int, code, reason, mesg or reason, headers={**headers, "Connection": "close"})
    head = "\r\n".join(f"{name}: {value}" for name, value in answer.headers)
    util.write_nonblock(sock, f"HTTP/1.1 {answer.status}\r\n{head}\r\n\r\n".encode("latin-1") + answer.data)
