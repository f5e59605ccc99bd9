"""What the API says of sources and their runs."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.jobs import JOB_ID, ItemState, JobStatus
from image_search.models.times import Time

RUN_EXAMPLE: dict[str, Any] = {
    "job_id": JOB_ID,
    "status": "partial",
    "dry_run": False,
    "started_at": "2026-11-24T02:00:00.310Z",
    "finished_at": "2026-11-24T02:03:12.000Z",
    "counts": {
        "pending": 0,
        "fetched": 0,
        "indexed": 5,
        "duplicate": 0,
        "failed": 1,
        "cancelled": 0,
        "unchanged": 1100,
        "updated": 1,
        "removed": 0,
    },
    "withheld": 893,
    "detail": "893 of 2,000 known entries are missing, more than max_delete_share (0.2): none was removed.",
}
SOURCE_EXAMPLE: dict[str, Any] = {
    "name": "shop-feed",
    "from": "https://shop.example/feed.csv",
    "collection": "shop",
    "every": "24h",
    "delete_missing": True,
    "max_delete_share": 0.2,
    "refetch": "changed",
    "callback_url": None,
    "url_column": "image_link",
    "key_column": "sku",
    "columns": None,
    "skip_columns": None,
    "number_columns": "price",
    "created_at": "2026-11-20T13:20:51.002Z",
    "removing": False,
    "next_run_at": "2026-11-25T02:00:00.000Z",
    "running_job": None,
    "last_run": RUN_EXAMPLE,
    "runs": None,
}


class Run(BaseModel):
    """What a sync did, for as long as it is among the latest of its source; its job may have expired."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUN_EXAMPLE]})

    job_id: str
    status: JobStatus
    dry_run: bool = Field(description="whether it changed nothing and only said what it would change")
    started_at: Time
    finished_at: Time
    counts: dict[ItemState, int] = Field(description="entries of the listing, and removals, in each state")
    withheld: int = Field(description="removals that were not made, being more than `max_delete_share`")
    detail: str | None = Field(description="for people: why it failed, or why removals were withheld")


class Source(BaseModel):
    """A source: where a collection's pictures come from, and how it is kept in step with that."""

    model_config = ConfigDict(
        populate_by_name=True,
        serialize_by_alias=True,
        json_schema_extra={"examples": [SOURCE_EXAMPLE | {"runs": [RUN_EXAMPLE]}]},
    )

    name: str
    from_: str = Field(alias="from", description="the bucket, feed, sitemap or folder; without credentials")
    collection: str
    every: str | None = Field(description="how often it is synced; null: only when asked")
    delete_missing: bool = Field(description="whether what is no longer there loses this source")
    max_delete_share: float = Field(description="of what is known, the most that one sync may remove")
    refetch: str = Field(
        description="which URLs are asked again", json_schema_extra={"enum": ["changed", "always"]}
    )
    callback_url: str | None = Field(description="what gets each sync's final status by POST")
    url_column: str | None = Field(None, description="of a feed: the column of the URLs")
    key_column: str | None = Field(None, description="of a feed: the column of the keys")
    columns: str | None = Field(None, description="of a feed: what becomes metadata")
    skip_columns: str | None = Field(None, description="of a feed: what becomes no metadata")
    number_columns: str | None = Field(None, description="of a feed: what holds numbers")
    created_at: Time
    removing: bool = Field(False, description="whether it is being deleted together with its pictures")
    next_run_at: Time | None = Field(description="when it is synced next by itself; null: never")
    running_job: str | None = Field(description="the id of its sync that has not ended")
    last_run: Run | None = Field(description="what its latest sync did, dry runs left out")
    runs: list[Run] | None = Field(
        None, description="the latest, at most 20, newest first; null where sources are listed"
    )


class SourcePage(BaseModel):
    """A page of sources, by name."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"sources": [SOURCE_EXAMPLE], "next_cursor": None}]}
    )

    sources: list[Source]
    next_cursor: str | None = Field(description="null on the last page")
