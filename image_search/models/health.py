"""What /readyz says."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

READINESS_EXAMPLE: dict[str, Any] = {
    "ready": True,
    **{name: {"ok": True, "detail": None} for name in ("redis", "chroma", "blobs", "model")},
    "workers": {"fetch": 2, "encode": 1, "index": 1},
}


class Dependency(BaseModel):
    """Whether one thing that the service needs works."""

    ok: bool
    detail: str | None = Field(None, description="what is wrong")


class Workers(BaseModel):
    """Worker slots that were seen in the last 20 s, of each queue."""

    fetch: int = 0
    encode: int = 0
    index: int = 0


class Readiness(BaseModel):
    """Whether the service can do its work, and what it needs for that."""

    model_config = ConfigDict(json_schema_extra={"examples": [READINESS_EXAMPLE]})

    ready: bool
    redis: Dependency
    chroma: Dependency
    blobs: Dependency
    model: Dependency
    workers: Workers
