"""The problem document, which every error of the API is."""

from pydantic import BaseModel, Field


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
