"""Operations that change many images as one job."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from image_search._core import Flow, Request, given
from image_search._operations.jobs import UPLOAD_TIMEOUT_SECONDS, JobOperations
from image_search._runners import operation
from image_search.models.jobs import Job


class ChangeOperations(JobOperations):
    """Deleting and updating many images, beside all else."""

    @operation
    def delete(
        self,
        image_ids: Iterable[str] | None = None,
        *,
        keys: Iterable[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        everything: bool = False,
        collection: str | None = None,
        dry_run: bool = False,
        name: str | None = None,
        origin: str = "client",
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Job]:
        """Start a job that deletes images by their ids, their keys or what filters match: one of the three.

        Its counts say how many were `removed`, and `unchanged` as there was nothing. What is ingested after
        it was made stays.

        Args:
            everything: permits filters that match each image of the collection.
            dry_run: deletes nothing: the finished job's `result` has the `counts` and first `ids` of what
                would be deleted.
            name: what to call the job where jobs are listed.
            callback_url: gets the final status.
        """
        body = _which(image_ids, keys, filters, everything=everything)
        options = {"collection": collection, "dry_run": dry_run or None, "callback_url": callback_url}
        label = {"name": name, "origin": origin}
        return self._change("delete", {**body, **options, **label}, idempotency_key)

    @operation
    def update(
        self,
        metadata: Mapping[str, Any],
        image_ids: Iterable[str] | None = None,
        *,
        keys: Iterable[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        everything: bool = False,
        collection: str | None = None,
        dry_run: bool = False,
        name: str | None = None,
        origin: str = "client",
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Job]:
        """Start a job that merges `metadata` into that of many images; None as a value removes the name.

        Its counts say how many were `updated`, `unchanged` (not there, or the same already) and `failed`. The
        rest is as for `delete`.
        """
        body = _which(image_ids, keys, filters, everything=everything)
        options = {"collection": collection, "dry_run": dry_run or None, "callback_url": callback_url}
        whole = {**body, **options, "metadata": {**metadata}, "name": name, "origin": origin}
        return self._change("update", whole, idempotency_key)

    def _change(self, what: str, body: Mapping[str, Any], idempotency_key: str | None) -> Flow[Job]:
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        request = Request(
            "POST",
            f"/v1/images/{what}",
            headers=headers,
            json=given(body),
            timeout=UPLOAD_TIMEOUT_SECONDS,  # filters are looked at before the answer
        )
        return self._ask(Job, request)


def _which(
    image_ids: Iterable[str] | None,
    keys: Iterable[str] | None,
    filters: Mapping[str, Any] | None,
    *,
    everything: bool,
) -> dict[str, Any]:
    """Return what names the images; that it is exactly one of the three is the server's to say."""
    return {
        "ids": None if image_ids is None else _listed(image_ids),
        "keys": None if keys is None else _listed(keys),
        "filters": None if filters is None else {**filters},
        "all": everything or None,
    }


def _listed(names: Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else [*names]
