"""Operations on sources, which a server keeps collections in step with."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Literal

from image_search._core import Flow, Request, given, path_of
from image_search._operations.changes import ChangeOperations
from image_search._runners import operation
from image_search._sources import table_options
from image_search.models.jobs import Job
from image_search.models.sources import Source, SourcePage

_SOURCES = "/v1/sources"
_PAGE_LIMIT = 500


class SourceOperations(ChangeOperations):
    """Defining sources, looking at them and syncing, beside all else. All need the scope `admin`."""

    @operation
    def sources(self) -> Flow[list[Source]]:
        """Return all sources by name, each with its last run."""
        found: list[Source] = []
        cursor: str | None = None
        while True:
            params = given({"limit": _PAGE_LIMIT, "cursor": cursor})
            page = yield from self._ask(SourcePage, Request("GET", _SOURCES, params))
            found += page.sources
            if (cursor := page.next_cursor) is None:
                return found

    @operation
    def source(self, name: str) -> Flow[Source]:
        """Return a source with its last 20 runs. Raises ApiError (`source_not_found`)."""
        return self._ask(Source, Request("GET", _path(name)))

    @operation
    def put_source(
        self,
        name: str,
        from_: str,
        *,
        collection: str | None = None,
        every: str | None = None,
        delete_missing: bool = False,
        max_delete_share: float | None = None,
        refetch: Literal["changed", "always"] | None = None,
        callback_url: str | None = None,
        url_column: str | None = None,
        key_column: str | None = None,
        columns: str | Sequence[str] = (),
        skip_columns: str | Sequence[str] = (),
        number_columns: str | Sequence[str] = (),
    ) -> Flow[Source]:
        """Define a source, or define it anew: what is left out then has its default again.

        Args:
            from_: where it is: `s3://bucket/prefix`, the URL of a table or a sitemap, or `file:///folder`, a
                folder of the server's that its SOURCE_FOLDERS permits. It stays as it was first.
            collection: what is kept in step with it, `images` by default. It stays as it was first.
            every: how often it is synced: `30m`, `12h`, `1d`, 5 minutes to 365 days; None: only when asked.
            delete_missing: removes what the listing has no longer, unless something else has brought it too.
            max_delete_share: of what is known the most that one sync may remove, 0 to 1; 0.2 by default. Were
                it more, it removes nothing.
            refetch: `always` downloads also what has not changed; `changed` by default.
            callback_url: gets the final status of each sync by POST.

        The other arguments are those of `ingest`, for feeds. Raises ApiError (`source_exists`) where the name
        is that of a source elsewhere or of another collection.
        """
        options = {
            "from": from_,
            "collection": collection,
            "every": every,
            "delete_missing": delete_missing,
            "max_delete_share": max_delete_share,
            "refetch": refetch,
            "callback_url": callback_url,
        }
        of_tables = table_options(url_column, key_column, columns, skip_columns, number_columns)
        return self._ask(Source, Request("PUT", _path(name), json=given({**options, **of_tables})))

    @operation
    def delete_source(self, name: str, *, images: Literal["keep", "delete"] = "keep") -> Flow[Job | None]:
        """Delete a source. With `images="delete"` what only it has brought goes too, by the job returned."""
        path, params = _path(name), {"images": images}
        if images == "keep":
            yield from self._send(Request("DELETE", path, params, media=None))
            return None
        return (yield from self._ask(Job, Request("DELETE", path, params)))

    @operation
    def sync(self, name: str, *, dry_run: bool = False, max_delete_share: float | None = None) -> Flow[Job]:
        """Start a sync of a source and return its job. Raises ApiError (`sync_running`) while one runs.

        Args:
            dry_run: changes nothing: the finished job's `result` has the `counts` of what would be added,
                changed and removed, and the first 100 of each.
            max_delete_share: in place of the source's own, for this sync.
        """
        body = given({"dry_run": dry_run or None, "max_delete_share": max_delete_share})
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return self._ask(Job, Request("POST", _path(name, "sync"), headers=headers, json=body))


def _path(name: str, *more: str) -> str:
    return path_of(_SOURCES, name, *more)
