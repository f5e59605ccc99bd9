"""What /readyz says."""

from pydantic import BaseModel, Field


class Dependency(BaseModel):
    ok: bool
    detail: str | None = Field(None, description="what is wrong")


class Workers(BaseModel):
    """Worker slots that were seen in the last 20 s, a queue."""

    fetch: int = 0
    encode: int = 0
    index: int = 0


class Readiness(BaseModel):
    ready: bool
    redis: Dependency
    chroma: Dependency
    blobs: Dependency
    model: Dependency
    workers: Workers
