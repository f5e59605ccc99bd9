"""A source: a bucket, a folder, a feed or a sitemap that a collection is kept in step with."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from shared.formats import FIELD, check_format
from shared.models import JsonObject

FORMAT = 1
MAX_DELETE_SHARE = 0.2

Refetch = Literal["changed", "always"]
Kind = Literal["bucket", "folder", "url"]


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it was defined: `location` is a URL, of the scheme s3, http, https or file.

    `every_s` is None for one that is synced only when asked. Of the known entries, at most `max_delete_share`
    (0 to 1) may go in one sync. `table` are the options of tables (`url_column`, `key_column`, `columns`,
    `skip_columns`, `number_columns`, comma-separated text as in a request). `removing` once it is being
    deleted together with its images.
    """

    name: str
    location: str
    collection: str
    every_s: int | None = None
    delete_missing: bool = False
    max_delete_share: float = MAX_DELETE_SHARE
    refetch: Refetch = "changed"
    callback_url: str | None = None
    table: dict[str, str] = field(default_factory=dict)
    made_by: str = ""
    created_at: float = 0.0
    removing: bool = False

    @property
    def kind(self) -> Kind:
        scheme = self.location.partition(":")[0].lower()
        return "bucket" if scheme == "s3" else "folder" if scheme == "file" else "url"

    def to_json(self) -> JsonObject:
        return {FIELD: FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """Return the source that `to_json` wrote. Raises NewerFormat."""
        check_format(written.get(FIELD), FORMAT, "A source's definition")
        return cls(**{name: value for name, value in written.items() if name != FIELD})
