"""Asking once more of a collection that was switched to another model while it was asked."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Flask

from shared.errors import ModelMismatch

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def repeat_readers(app: Flask) -> None:
    """Repeat each view with the scope `search` whose collection has another model than when it was opened.

    All of them only read, and can read their request again.
    """
    for endpoint, view in app.view_functions.items():
        if getattr(view, "__scope__", None) == "search":
            app.view_functions[endpoint] = _twice(view)


def _twice(view: Callable[Given, Answer]) -> Callable[Given, Answer]:
    @wraps(view)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return view(*args, **kwargs)
        except ModelMismatch:
            return view(*args, **kwargs)

    return run
