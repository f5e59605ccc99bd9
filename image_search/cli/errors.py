"""What goes wrong in a command, told in one line on standard error: a sentence, or under --json an object."""

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

import click

from image_search import ApiError, ClientError

_AS_JSON = "image_search.as_json"
_UNSAFE = re.compile("[\x7f-\x9f\ud800-\udfff]")  # others are escaped in JSON anyway
_OPTION = re.compile(r"`((?:url|key)_column|(?:skip|number)_columns|columns(?=` (?:names|is for)))`")


class Failure(click.ClickException):
    """An error of a command: a sentence for people, and for programs `problem`, with its code and detail."""

    def __init__(self, sentence: str, problem: dict[str, Any], *, as_json: bool, exit_code: int = 1) -> None:
        super().__init__(printable(" ".join(sentence.split())))
        self._problem = problem
        self._as_json = as_json
        self.exit_code = exit_code  # type: ignore[misc] # click has it of the class

    def show(self, file: IO[Any] | None = None) -> None:
        if self._as_json:
            click.echo(json_text(self._problem), file=file, err=file is None)
        else:
            super().show(file)


class Commands(click.Group):
    """A group whose errors are told by `Failure`; those in `own_errors` have a `code` and a `detail`."""

    own_errors: tuple[type[Any], ...] = (ClientError,)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        as_json = "--json" in args
        with self.told(as_json):
            ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta[_AS_JSON] = as_json
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        with self.told(ctx.meta[_AS_JSON]):
            return super().invoke(ctx)

    @contextmanager
    def told(self, as_json: bool) -> Iterator[None]:
        """Turn what is raised inside into a Failure."""
        try:
            yield
        except self.own_errors as error:
            raise Failure(as_options(str(error)), _problem(error), as_json=as_json) from None
        except click.ClickException as error:
            if not as_json or isinstance(error, Failure):
                raise
            code = "usage_error" if isinstance(error, click.UsageError) else "error"
            _raise(code, error.format_message(), error.exit_code)
        except click.Abort:
            if not as_json:
                raise
            _raise("aborted", "Aborted.")
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:
            why = error.strerror or str(error)
            sentence = f"{error.filename}: {why}" if error.filename else why
            raise Failure(sentence, {"code": "io_error", "detail": sentence}, as_json=as_json) from None


def _raise(code: str, detail: str, exit_code: int = 1) -> NoReturn:
    raise Failure(detail, {"code": code, "detail": detail}, as_json=True, exit_code=exit_code) from None


def _problem(error: Any) -> dict[str, Any]:
    """Return the members of a problem document that are known of an error."""
    members: dict[str, Any] = {"code": error.code, "detail": error.detail}
    if errors := getattr(error, "errors", None):
        members["errors"] = list(errors)
    if isinstance(error, ApiError):
        told = {"status": error.http_status or None, "retry_after": error.retry_after}
        members |= {name: value for name, value in told.items() if value is not None}
    return members


def as_options(sentence: str) -> str:
    """Name what the server calls `url_column` as the command line does."""
    sentence = sentence.replace('`"all": true`', "--all")
    return _OPTION.sub(lambda found: f"--{found[1].replace('_', '-')}", sentence)


def json_text(document: dict[str, Any]) -> str:
    """Return a document as JSON in one line, what a terminal obeys or cannot be encoded as escapes."""
    return _UNSAFE.sub(lambda char: f"\\u{ord(char[0]):04x}", json.dumps(document, ensure_ascii=False))


def printable(text: str) -> str:
    """Escape control characters, which are commands to a terminal: file names and metadata are anybody's.

    Halves of characters, which no terminal can show, are escaped too.
    """
    unsafe = ("Cc", "Cs")
    return "".join(f"\\x{ord(char):02x}" if unicodedata.category(char) in unsafe else char for char in text)
