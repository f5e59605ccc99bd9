"""A span, as the rest of the code knows it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

Kind = Literal["internal", "server", "client", "consumer"]
Attributes = Mapping[str, Any]  # strings, numbers and booleans


class Span:
    """A span, current inside `with`, which ends it. Of a process that makes none it does nothing."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def inside(self) -> AbstractContextManager[object]:
        """Make the span current in a block, which does not end it."""
        return nullcontext()

    def fail(self, kind: str, detail: str = "") -> None:
        """Mark the span as failed by a `kind` of error."""

    def record(self, error: BaseException) -> None:
        """Mark the span as failed by an error, whose message is said only if it is ours."""

    def link(self, other: "Span") -> None:
        """Link another span."""

    def end(self) -> None:
        """End the span, which is not current any more, or never was."""
