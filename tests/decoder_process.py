"""A child process that reads hostile files, one after the other, and may die or hang of any of them.

`with DecoderProcess() as decoder: decoder.read(data).kind` is `picture`, an item error's code, or what must
never be: `wrong` (another exception), `died`, `timeout`.
"""

import contextlib
import importlib
import json
import os
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from PIL import Image

from shared.config import Settings
from shared.errors import ItemError
from shared.imaging.decode import decode
from shared.imaging.preprocess import Preprocess

ROOT = Path(__file__).parent.parent
NEVER = frozenset({"wrong", "died", "timeout"})
CLIP = Preprocess(224, (224, 224), Image.Resampling.BICUBIC, (0.0,) * 3, (1.0,) * 3, 1 / 255)
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How reading a file ended; `peak_bytes` is by how much the process grew meanwhile, 0 if it is gone."""

    kind: str
    detail: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


def decoded(data: bytes) -> str:
    """What the product makes of a file: `picture` or an item error's code."""
    try:
        decode(data, CLIP, max_pixels=Settings.model_fields["max_image_pixels"].default, keep="rendition")
    except ItemError as error:
        return error.code
    return "picture"


class DecoderProcess:
    """`outcome` is the full name of a function of bytes that gives a word. Not thread-safe.

    The child may grow by `memory_bytes` (address space) and take `deadline_s` a file; it is started anew
    after a file that it does not survive.
    """

    def __init__(
        self,
        outcome: str = "tests.decoder_process.decoded",
        *,
        memory_bytes: int = 4 * 2**30,
        deadline_s: float = 60.0,
    ) -> None:
        self._command = [sys.executable, "-m", "tests.decoder_process", outcome, str(memory_bytes)]
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, data: bytes) -> Ending:
        child = self._running()
        assert child.stdin is not None
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(struct.pack(">I", len(data)) + data)
            child.stdin.flush()
        answer = self._answer(child, self._deadline_s)
        seconds = time.monotonic() - started
        if answer:
            return Ending(**json.loads(answer), seconds=seconds)
        if answer is None:
            self._stop()
            return Ending("timeout", seconds=seconds)
        code = child.wait()
        self._stop()
        return Ending("died", signal.Signals(-code).name if code < 0 else f"exit {code}", seconds)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._answer(self._child, START_SECONDS), "the decoder process does not start"
        return self._child

    def _answer(self, child: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
        """A line; b"" when the child is gone, None when it is late."""
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            return child.stdout.readline() if selector.select(timeout_s) else None

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _serve(outcome: Callable[[bytes], str], memory_bytes: int) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get into the answers
    _answer(answers, {"kind": "ready"})
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + memory_bytes, resource.RLIM_INFINITY))
    while header := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(*struct.unpack(">I", header))
        before = _reset_peak()
        ending = _ending(outcome, data)
        _answer(answers, ending | {"peak_bytes": max(0, _status("VmHWM") - before)})


def _ending(outcome: Callable[[bytes], str], data: bytes) -> dict[str, Any]:
    try:
        return {"kind": outcome(data)}
    except Exception:
        return {"kind": "wrong", "detail": traceback.format_exc(limit=-3)}


def _answer(file: BinaryIO, value: dict[str, Any]) -> None:
    file.write(json.dumps(value).encode() + b"\n")
    file.flush()


def _reset_peak() -> int:
    """Lets VmHWM begin anew; the memory now held, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    module, _, name = sys.argv[1].rpartition(".")
    _serve(getattr(importlib.import_module(module), name), int(sys.argv[2]))
