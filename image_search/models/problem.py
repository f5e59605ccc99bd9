"""The problem document, which every error of the API is."""

from pydantic import BaseModel, ConfigDict, Field


class FieldProblem(BaseModel):
    """A fault. `pointer` (RFC 6901) leads into the body or, for parameters, is the parameter's name."""

    pointer: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable, for programs; `detail` is for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/docs/errors#invalid_request",
                    "title": "The request is not valid",
                    "status": 422,
                    "detail": "/limit: Input should be less than or equal to 500",
                    "code": "invalid_request",
                    "errors": [{"pointer": "/limit", "message": "Input should be less than or equal to 500"}],
                }
            ]
        }
    )

    type: str = Field(description="where the code is explained, relative to the server")
    title: str = Field(description="the code in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what went wrong this time")
    code: str = Field(description="/docs/errors explains each")
    errors: list[FieldProblem] = Field([], description="for bad input: the first faults")
    columns: list[str] | None = Field(
        None, description="of a table in which no column has the URLs: its columns"
    )
