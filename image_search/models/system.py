"""What /readyz and /v1/system say."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from image_search.models.collections import COLLECTION_EXAMPLE, Collection
from image_search.models.jobs import JOB_EXAMPLE, JobError
from image_search.models.times import Time

Stage = TypeAliasType(
    "Stage", Annotated[str, Field(json_schema_extra={"enum": ["fetch", "encode", "index"]})]
)

NEWEST_JOBS = 20  # that are looked through for errors
MAX_ERRORS = 20
MAX_ERRORS_PER_JOB = 5  # so that one bad job does not hide the others'

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


_MODELS_EXAMPLE: dict[str, Any] = {
    "models": [
        {
            "name": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "kind": "clip",
            "dimension": 512,
            "languages": "English",
            "state": "loaded",
            "progress": None,
            "detail": None,
        },
        {
            "name": "google/siglip2-base-patch32-256",
            "kind": None,
            "dimension": None,
            "languages": None,
            "state": "downloading",
            "progress": 0.42,
            "detail": None,
        },
    ]
}

_EXAMPLE: dict[str, Any] = {
    "readiness": READINESS_EXAMPLE,
    "model": {
        "name": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "kind": "clip",
        "fingerprint": "4364cabad1957896",
        "dimension": 512,
        "max_tokens": 77,
        "device": "cpu",
        "device_name": "cpu",
        "precision": "bf16",
    },
    "models": [_MODELS_EXAMPLE["models"][0]],
    "collections": [COLLECTION_EXAMPLE],
    "jobs": {
        "open": 1,
        "queues": [
            {"stage": "fetch", "waiting": 3, "running": 2, "items": 9_696, "oldest_wait_s": 4.2},
            {"stage": "encode", "waiting": 1, "running": 1, "items": 64, "oldest_wait_s": 0.3},
            {"stage": "index", "waiting": 0, "running": 1, "items": 0, "oldest_wait_s": None},
        ],
        "workers": [
            {
                "id": "fetch@host",
                "host": "host",
                "queues": ["fetch"],
                "slots": 2,
                "seen_at": "2026-11-24T13:20:53.120Z",
            }
        ],
    },
    "ingestion": {
        "limited_by": "fetch",
        "detail": "Fetch limits ingestion: 9,696 items wait to be fetched; 2 of 2 slots at fetch busy. Add "
        "fetch workers, or raise IMAGE_SEARCH_FETCH_CONCURRENCY, unless the hosts are slow.",
    },
    "errors": [
        JOB_EXAMPLE["errors"][0] | {name: JOB_EXAMPLE[name] for name in ("job_id", "created_at")},
    ],
    "versions": {"python": "3.11.7", "image-search": "0.1.0"},
    "missing": {},
}


class LoadedModel(BaseModel):
    """The model that encodes pictures and queries."""

    name: str
    kind: str = Field(description="its config.json's `model_type`, such as `clip` or `siglip`")
    fingerprint: str = Field(description="of its weights")
    dimension: int
    max_tokens: int = Field(description="that it reads of a text, end marks included")
    device: str = Field(description="of this API process, which encodes the queries")
    device_name: str
    precision: str = Field(description="of its weights and activations, such as `bf16`")


LoadState = TypeAliasType(
    "LoadState",
    Annotated[str, Field(json_schema_extra={"enum": ["loaded", "loading", "downloading", "absent"]})],
)


class ModelState(BaseModel):
    """A model that collections are of or can be made with, and whether this process has it."""

    name: str
    kind: str | None = Field(description="its config.json's `model_type`; null until it is downloaded")
    dimension: int | None = Field(description="of its vectors; null until it is downloaded")
    languages: str | None = Field(description="that it reads, such as `English`; null where not known")
    state: LoadState
    progress: float | None = Field(description="of its download, 0 to 1; null while there is none")
    detail: str | None = Field(description="why it cannot be had; null if it can")


class ModelList(BaseModel):
    """Models, the default one first, then by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MODELS_EXAMPLE]})

    models: list[ModelState]


class Queue(BaseModel):
    """Chunks of a job's items at one stage."""

    stage: Stage
    waiting: int
    running: int = Field(description="held by a worker")
    items: int = Field(description="that wait; at fetch those too whose chunk was not sent yet")
    oldest_wait_s: float | None = Field(description="of the oldest waiting chunk; null without one")


class Worker(BaseModel):
    """A worker process."""

    id: str
    host: str
    queues: list[str]
    slots: int = Field(description="how many chunks it works on at once")
    seen_at: Time


class JobsState(BaseModel):
    """What waits, and who works on it."""

    open: int = Field(description="jobs that have not finished")
    queues: list[Queue]
    workers: list[Worker] = Field(description="seen in the last 20 s")


LimitedBy = TypeAliasType(
    "LimitedBy",
    Annotated[str, Field(json_schema_extra={"enum": ["nothing", "fetch", "hosts", "encode", "index"]})],
)


class Ingestion(BaseModel):
    """What limits ingestion now: a stage, busy or failing foreign hosts, or nothing."""

    limited_by: LimitedBy
    detail: str = Field(description="the same in a sentence: the numbers that say so, and what to do")


class LastError(JobError):
    """Why an item failed, and of which job."""

    job_id: str
    created_at: Time = Field(description="of the job")


class System(BaseModel):
    """The state of the system. What cannot be told now is null; `missing` says why, under its name."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    readiness: Readiness
    model: LoadedModel | None = Field(description="the default one")
    models: list[ModelState] = Field(
        [],
        description="that are loaded, or being loaded or downloaded; those of collections that cannot be had",
    )
    collections: list[Collection] | None
    jobs: JobsState | None
    ingestion: Ingestion | None = None
    errors: list[LastError] | None = Field(
        description=f"the first {MAX_ERRORS_PER_JOB} of each of the {NEWEST_JOBS} newest jobs, newest first"
    )
    versions: dict[str, str] = Field(description="of this service and what it is made of")
    missing: dict[str, str] = Field(description="why what is null cannot be told")
