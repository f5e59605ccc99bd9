"""Sources, each a bucket, folder, feed or sitemap that a collection is kept in step with, and their runs."""

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

    `every_s` is None for one that is synced only when asked; `every` is how that was written. Of the known
    entries, at most `max_delete_share` (0 to 1) may go in one sync. `table` are the options of tables
    (`url_column`, `key_column`, `columns`, `skip_columns`, `number_columns`, comma-separated text as in a
    request). `removing` once it is being deleted together with its images.
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
    every: str | None = None

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


@dataclass(frozen=True, slots=True)
class Run:
    """What a sync did: `counts` are its job's, of items per state.

    Times are seconds since the epoch; `started_at` stays the same however often the run is written.
    `withheld` is how many removals were not made, as they were more than `max_delete_share` of what was
    known. `detail` is a sentence, where there is one to say.
    """

    job_id: str
    status: str
    started_at: float
    finished_at: float
    counts: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False
    withheld: int = 0
    detail: str | None = None

    def to_json(self) -> JsonObject:
        return {FIELD: FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """Return the run that `to_json` wrote. Raises NewerFormat."""
        check_format(written.get(FIELD), FORMAT, "A source's run")
        return cls(**{name: value for name, value in written.items() if name != FIELD})
