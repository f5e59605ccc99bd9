"""Operations on images and collections, each once, as what is sent and how the answer is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from image_search._answers import not_understood, read_json, refusal
from image_search._core import (
    MAX_PAUSE_SECONDS,
    PATIENCE_SECONDS,
    Flow,
    Pause,
    Request,
    given,
    listed,
    path_of,
)
from image_search._operations.search import SearchOperations, Term, image_path
from image_search._runners import operation
from image_search.errors import INVALID_REQUEST, ApiError
from image_search.models.collections import (
    DEFAULT_COLLECTION,
    Collection,
    CollectionList,
    CollectionMetadata,
)
from image_search.models.duplicates import DuplicatePage
from image_search.models.images import Embedding, Image, ImagePage, Metadata
from image_search.models.system import ModelList, ModelState, Readiness, System

if TYPE_CHECKING:
    import httpx

COMPARE_TIMEOUT_SECONDS = 300.0
DELETE_TIMEOUT_SECONDS = 600.0
CHANGE_TIMEOUT_SECONDS = 60.0  # the server waits half of that for whoever else writes
MAX_GROUPS = 200  # in one answer
_PAGE_LIMIT = 500
# Matches every image, also those that NSFW_MAX hides from whoever does not name them.
ANY = {"nsfw": {"ne": -1}}
_IDS_PER_REQUEST = 50  # an address of 4,000 characters passes every proxy
# Of one image alone; whatever else is wrong meets the next one, too.
_OWN_FAULTS = frozenset({"internal", INVALID_REQUEST})


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of the images that were to be deleted, each by its id or key.

    Attributes:
        deleted: what is deleted or, with `dry_run`, what would be.
        gone: what was not there, or no longer.
        failed: what is still there, and why.
    """

    deleted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: dict[str, ApiError] = field(default_factory=dict)


class ImageOperations(SearchOperations):
    """Images and collections."""

    @operation
    def duplicates(
        self,
        *,
        collection: str | None = None,
        threshold: float | None = None,
        max_distance: int | None = None,
        limit: int = 50,
    ) -> Flow[DuplicatePage]:
        """Find groups of near-duplicates, the first `limit` of them.

        Two images are near-duplicates when their cosine similarity is at least `threshold` and the Hamming
        distance of their perceptual hashes, of 64 bits, at most `max_distance`.
        """
        params = given({"collection": collection, "threshold": threshold, "max_distance": max_distance})
        answer: DuplicatePage | None = None
        while answer is None or (len(answer.groups) < limit and answer.next_cursor):
            left = limit - len(answer.groups) if answer else limit
            cursor = {"cursor": answer.next_cursor} if answer else {}
            page = {**params, **cursor, "limit": min(left, MAX_GROUPS)}
            request = Request("GET", "/v1/duplicates", page, timeout=COMPARE_TIMEOUT_SECONDS)
            more = yield from self._ask(DuplicatePage, request)
            answer = more.model_copy(update={"groups": [*(answer.groups if answer else ()), *more.groups]})
        return answer

    @operation
    def image(self, image_id: str, *, collection: str | None = None) -> Flow[Image]:
        """Return what is known of an image."""
        return self._ask(Image, Request("GET", image_path(image_id), given({"collection": collection})))

    @operation
    def images(
        self,
        *,
        key: str | None = None,
        filters: Mapping[str, Any] | None = None,
        order_by: Literal["-created_at"] | None = None,
        collection: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Flow[ImagePage]:
        """Return one page of a collection's images, in the order of their ids; `iter_images` gives all.

        `key` and `filters` leave only what they match; `order_by="-created_at"` gives the newest first.
        `cursor` is the `next_cursor` of the page before, in the same order.
        """
        where = {"collection": collection, "order_by": order_by}
        return self._list(filters, where, key=key, limit=limit, cursor=cursor)

    @operation
    def update_image(
        self, image_id: str, metadata: Mapping[str, Any], *, collection: str | None = None
    ) -> Flow[Image]:
        """Merge `metadata` into an image's own; None as a value removes the name."""
        body = {"metadata": {**metadata}}
        params, timeout = given({"collection": collection}), CHANGE_TIMEOUT_SECONDS
        return self._ask(Image, Request("PATCH", image_path(image_id), params, json=body, timeout=timeout))

    @operation
    def delete_image(self, image_id: str, *, collection: str | None = None) -> Flow[None]:
        """Delete an image, with all its keys."""
        yield from self._send(_deletion(image_path(image_id), {"collection": collection}))

    @operation
    def delete_images(
        self,
        image_ids: Iterable[str] | None = None,
        *,
        keys: Iterable[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        collection: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
        on_done: Callable[[int], None] | None = None,
    ) -> Flow[Deletion]:
        """Delete images by their ids, their keys or what matches filters: one of the three.

        They are deleted one after another, which is as fast as the server writes. What is not there any more
        is no error; a server that is busy or away is waited for, up to two minutes without an answer. Where
        something is wrong for all (the key's scope, say), the rest is not tried and `failed` for that reason,
        or the error is raised if it was the first.

        Args:
            everything: permits filters that match each image of the collection.
            dry_run: deletes nothing, and returns as `deleted` what would be.
            on_done: is called with how many were tried so far.
        """
        where = {"collection": collection}
        if [image_ids, keys, filters].count(None) != 2:
            raise ApiError(0, INVALID_REQUEST, "name images by ids, by keys or by filters: one of the three")
        if filters is not None:
            found = yield from self._matching(filters or ANY, where, everything=everything)
            if dry_run:
                return Deletion(found)
            image_ids = found
        names = [*dict.fromkeys(listed(image_ids if keys is None else keys))]
        if dry_run:
            present = yield from self._present(names, where, are_keys=keys is not None)
            return Deletion(present, [name for name in names if name not in {*present}])
        if keys is None:
            requests = [_deletion(image_path(name), where) for name in names]
        else:
            requests = [_deletion("/v1/images", {"key": name, **where}) for name in names]
        return (yield from self._delete_each(names, requests, on_done))

    def _matching(
        self, filters: Mapping[str, Any], where: Mapping[str, Any], *, everything: bool
    ) -> Flow[list[str]]:
        """Return the ids of what matches. Raises ApiError where that is all, unless that is meant."""
        found: list[str] = []
        page: ImagePage | None = None
        while page is None or page.next_cursor is not None:
            cursor = page and page.next_cursor
            page = yield from self._list(filters, where, limit=_PAGE_LIMIT, cursor=cursor)
            found += [image.id for image in page.images]
        if not found or everything or (yield from self._list({"not": filters}, where, limit=1)).images:
            return found
        raise ApiError(
            0,
            INVALID_REQUEST,
            f"this matches every picture of the collection, {len(found):,}: say that it is meant by "
            "`everything`, on the command line --all, or delete the collection",
        )

    def _present(self, names: Sequence[str], where: Mapping[str, Any], *, are_keys: bool) -> Flow[list[str]]:
        present: list[str] = []
        step = 1 if are_keys else _IDS_PER_REQUEST
        for start in range(0, len(names), step):
            some = names[start : start + step]
            filters, key = (None, some[0]) if are_keys else ({"id": {"in": some}, **ANY}, None)
            page = yield from self._list(filters, where, limit=_PAGE_LIMIT, key=key)
            known = {image.id for image in page.images}
            present += (some if known else []) if are_keys else [name for name in some if name in known]
        return present

    def _list(
        self, filters: Mapping[str, Any] | None, where: Mapping[str, Any], **more: Any
    ) -> Flow[ImagePage]:
        text = None if filters is None else json.dumps(filters)
        return self._ask(ImagePage, Request("GET", "/v1/images", given({"filters": text, **where, **more})))

    def _delete_each(
        self, names: Sequence[str], requests: Sequence[Request], on_done: Callable[[int], None] | None
    ) -> Flow[Deletion]:
        result = Deletion()
        heard, place = time.monotonic(), 0
        while place < len(names):
            try:
                yield from self._send(requests[place])
                result.deleted.append(names[place])
            except ApiError as error:
                if error.transient and time.monotonic() - heard < PATIENCE_SECONDS:
                    yield Pause(min(error.retry_after or 1.0, MAX_PAUSE_SECONDS))
                    continue
                if error.code == "image_not_found":
                    result.gone.append(names[place])
                elif error.code in _OWN_FAULTS:
                    result.failed[names[place]] = error
                elif place == 0:
                    raise
                else:
                    result.failed.update(dict.fromkeys(names[place:], error))
                    return result
            heard, place = time.monotonic(), place + 1
            if on_done:
                on_done(place)
        return result

    @operation
    def delete_key(self, key: str, *, collection: str | None = None) -> Flow[None]:
        """Remove a key, and its image unless another key or an item without one has brought that too."""
        yield from self._send(_deletion("/v1/images", {"key": key, "collection": collection}))

    @operation
    def thumbnail(self, image_id: str, *, collection: str | None = None) -> Flow[bytes]:
        """Return an image's thumbnail: a WebP, longest side 256 px."""
        return (yield from self._bytes(image_path(image_id, "thumbnail"), given({"collection": collection})))

    @operation
    def rendition(self, image_id: str, *, collection: str | None = None) -> Flow[bytes]:
        """Return an image's rendition, where the server keeps one: a JPEG or WebP, longest side 768 px."""
        return (yield from self._bytes(image_path(image_id, "rendition"), given({"collection": collection})))

    @operation
    def embedding(self, image_id: str, *, collection: str | None = None) -> Flow[Embedding]:
        """Return an image's unit vector, as the index holds it."""
        params = given({"collection": collection})
        return self._ask(Embedding, Request("GET", image_path(image_id, "embedding"), params))

    @operation
    def collections(self) -> Flow[list[Collection]]:
        """Return all collections."""
        return (yield from self._ask(CollectionList, Request("GET", "/v1/collections"))).collections

    @operation
    def collection(self, name: str) -> Flow[Collection]:
        """Return one collection: its size, and the model it is bound to."""
        return self._ask(Collection, Request("GET", collection_path(name)))

    @operation
    def collection_metadata(self, name: str = DEFAULT_COLLECTION) -> Flow[CollectionMetadata]:
        """Return the metadata names that a collection can be filtered by, with types and frequent values."""
        return self._ask(CollectionMetadata, Request("GET", collection_path(name, "metadata")))

    @operation
    def create_collection(self, name: str, model: str | None = None) -> Flow[Collection]:
        """Create an empty collection, of the server's default model or of `model`, which needs `admin`.

        Ingesting into one that does not exist creates one of the default model, too.
        """
        body = given({"name": name, "model": model})
        return self._ask(Collection, Request("POST", "/v1/collections", json=body, repeatable=False))

    @operation
    def delete_collection(self, name: str) -> Flow[None]:
        """Delete a collection and all its images."""
        path, timeout = collection_path(name), DELETE_TIMEOUT_SECONDS
        yield from self._send(Request("DELETE", path, timeout=timeout, media=None))

    @operation
    def models(self) -> Flow[list[ModelState]]:
        """Return the models that collections are of or can be of, and whether the server has them loaded."""
        return (yield from self._ask(ModelList, Request("GET", "/v1/models"))).models

    @operation
    def ready(self, *, ingest: bool = False) -> Flow[Readiness]:
        """Return whether the server can search, or with `ingest` take jobs, and what it depends on says."""
        params = {"for": "ingest"} if ingest else {}
        request = Request("GET", "/readyz", params, expected=frozenset({503}))
        answer: httpx.Response = yield from self._send(request)
        try:
            return Readiness.model_validate(read_json(answer))
        except ValueError as error:
            raise not_understood(answer, error) if answer.is_success else refusal(answer) from None

    @operation
    def system(self) -> Flow[System]:
        """Return the state of the whole system: model, collections, queues, workers, last errors."""
        return self._ask(System, Request("GET", "/v1/system"))

    def _bytes(self, path: str, params: Mapping[str, Any]) -> Flow[bytes]:
        return (yield from self._file(path, params)).content


def collection_path(name: str, *more: str) -> str:
    return path_of("/v1/collections", name, *more)


def with_metadata(items: Iterable[Term], metadata: Metadata) -> Iterable[Term]:
    """Yield a job's items, each with `metadata` under its own."""
    for item in items:
        own: Mapping[str, Any] = {"url": item} if isinstance(item, str) else item
        yield {**own, "metadata": {**metadata, **(own.get("metadata") or {})}} if metadata else item


def _deletion(path: str, params: Mapping[str, Any]) -> Request:
    return Request("DELETE", path, given(params), timeout=CHANGE_TIMEOUT_SECONDS, media=None)
