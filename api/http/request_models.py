"""What all the other models are made of: strict bodies and queries, field types, the problem document."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shared.models import COLLECTION_NAME

MAX_LIMIT = 500

CollectionName = Annotated[
    str,
    Field(
        pattern=f"^{COLLECTION_NAME.pattern}$",
        description="1 to 63 of letters, digits, `.`, `_`, `-`; the first and last a letter or digit",
    ),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class BodyModel(BaseModel):
    """A JSON body: no unknown field, no guessing of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class QueryModel(BaseModel):
    """A query string: no unknown parameter."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Made once: flask-openapi3 looks at it in each request, which would take longer than the check."""
        return _once(super().model_json_schema, *args, **kwargs)


@cache
def _once(make: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return make(*args, **kwargs)


class FieldProblem(BaseModel):
    """`pointer` is an RFC 6901 pointer into the body or, for parameters, to the parameter's name."""

    pointer: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable, for programs; `detail` is for people."""

    type: str = Field(description="where the code is explained, relative to the server")
    title: str = Field(description="the code in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what went wrong this time")
    code: str
    errors: list[FieldProblem] = Field([], description="for bad input: the first faults")
