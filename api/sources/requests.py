"""What goes into the routes of sources."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.http.request_models import BodyModel, CallbackUrl, CollectionName, QueryModel
from shared.models import DEFAULT_COLLECTION
from shared.sources.definition import MAX_DELETE_SHARE
from shared.sources.permission import MAX_LOCATION
from shared.sources.store import SOURCE_NAME

TABLE_FIELDS = ("url_column", "key_column", "columns", "skip_columns", "number_columns")
_UNITS = {"m": 60, "h": 3_600, "d": 86_400}
_EVERY = re.compile(r"([1-9][0-9]{0,6})([mhd])")
_LEAST_EVERY_S, _MOST_EVERY_S = 300, 365 * 86_400
_EXAMPLES: list[Any] = [
    {
        "from": "https://shop.example/feed.csv",
        "collection": "shop",
        "every": "24h",
        "delete_missing": True,
        "url_column": "image_link",
        "key_column": "sku",
    },
    {"from": "s3://pictures/2026", "every": "30m"},
    {"from": "file:///srv/pictures", "max_delete_share": 0.05, "refetch": "always"},
]


def seconds_of(every: str) -> int:
    """Return the seconds of a whole number and `m`, `h` or `d`. Raises ValueError, with a sentence."""
    found = _EVERY.fullmatch(every)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _LEAST_EVERY_S <= seconds <= _MOST_EVERY_S:
        raise ValueError("is a whole number and `m`, `h` or `d`, from `5m` to `365d`")
    return seconds


def _every(text: str) -> str:
    try:
        seconds_of(text)
    except ValueError as error:
        raise PydanticCustomError("every", f"the time between two syncs {error}") from None
    return text


def _name(name: str) -> str:
    if not SOURCE_NAME.fullmatch(name):
        rule = "is 1 to 63 letters, digits, `.`, `_` or `-`; the first and last a letter or digit"
        raise PydanticCustomError("source_name", f"a source's name {rule}")
    return name


Every = Annotated[
    str,
    AfterValidator(_every),
    Field(
        description="how often it is synced, first that long from now: a whole number and `m`, `h` or `d`, "
        "from `5m` to `365d`; null: only when asked",
        json_schema_extra={"example": "24h", "pattern": f"^{_EVERY.pattern}$"},
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Columns = Annotated[str, Field(min_length=1, max_length=10_000)]
_FIXED = "; cannot be changed later"


class SourceRequest(BodyModel):
    """Where pictures come from, and how a collection is kept in step with that. What is left out is reset."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    from_: str = Field(
        alias="from",
        min_length=1,
        max_length=MAX_LOCATION,
        description="`s3://bucket/prefix`; the http or https URL of a feed (any table that `POST /v1/jobs` "
        "takes) or a sitemap; or `file:///path`, below a folder that the server's SOURCE_FOLDERS names"
        + _FIXED,
        json_schema_extra={"example": "https://shop.example/feed.csv"},
    )
    collection: CollectionName = Field(
        DEFAULT_COLLECTION,
        description="the collection" + _FIXED,
    )
    every: Every | None = None
    delete_missing: bool = Field(
        False,
        description="what is no longer there loses this source, and goes when no other source or key is left",
    )
    max_delete_share: Share = Field(
        MAX_DELETE_SHARE,
        description="if more than this share of what is known would go, nothing does, and the sync ends "
        "`partial`",
    )
    refetch: Literal["changed", "always"] = Field(
        "changed",
        description="`changed` asks each URL with the ETag or Last-Modified that it had, and leaves objects "
        "alone that are as they were; `always` downloads all again",
    )
    callback_url: CallbackUrl = None
    url_column: Columns | None = Field(
        None, description="of a feed: the column of the URLs  [default: `url`, in any case]"
    )
    key_column: Columns | None = Field(
        None, description="of a feed: the column of the keys  [default: `key`, in any case]"
    )
    columns: Columns | None = Field(
        None, description="of a feed: only these, with commas between them, become metadata"
    )
    skip_columns: Columns | None = Field(None, description="of a feed: these become no metadata")
    number_columns: Columns | None = Field(
        None, description="of a feed: these hold numbers however they are spelled"
    )

    @property
    def table(self) -> dict[str, str]:
        """Return the options of tables that were given."""
        return self.model_dump(include={*TABLE_FIELDS}, exclude_none=True)


class SyncRequest(BodyModel):
    """How to sync this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dry_run": True}, {"max_delete_share": 0.5}]})

    dry_run: bool = Field(
        False,
        description="change nothing: the job's `result` says what would be added, changed and removed",
    )
    max_delete_share: Share | None = Field(None, description="this once, in place of the source's")


class SourcePath(BaseModel):
    name: str = Field(description="the source's name", json_schema_extra={"example": "shop-feed"})


class DefinedPath(BaseModel):
    name: Annotated[str, AfterValidator(_name)] = Field(
        description="the source's name: 1 to 63 of letters, digits, `.`, `_`, `-`; no punctuation at the "
        "ends",
        json_schema_extra={"example": "shop-feed", "pattern": f"^{SOURCE_NAME.pattern}$"},
    )


class SourcesQuery(QueryModel):
    limit: int = Field(50, ge=1, le=1000, description="the most sources in one answer")
    cursor: str | None = Field(
        None,
        pattern=f"^{SOURCE_NAME.pattern}$",
        description="`next_cursor` of the page before",
        json_schema_extra={"example": "shop-feed"},
    )


class SourceDeleteQuery(QueryModel):
    images: Literal["keep", "delete"] = Field(
        "keep",
        description="`delete`: its pictures go too, but for those that another source, key or item has "
        "brought",
    )
