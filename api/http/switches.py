"""Asking once more of a collection that was switched to another model while it was asked."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask

from shared.errors import ModelMismatch

View = Callable[..., Any]


def repeat_readers(app: Flask) -> None:
    """Repeat each view with the scope `search` whose collection has another model than when it was opened.

    All of them only read, and can read their request again.
    """
    for endpoint, view in app.view_functions.items():
        if getattr(view, "__scope__", None) == "search":
            app.view_functions[endpoint] = _twice(view)


def _twice(view: View) -> View:
    @wraps(view)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except ModelMismatch:
            return view(*args, **kwargs)

    return run
