"""Operations on images and collections, each once, as what is sent and how the answer is read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from image_search._answers import not_understood, read_json, refusal
from image_search._bodies import media_type
from image_search._core import MAX_PAUSE_SECONDS, PATIENCE_SECONDS, Core, Flow, Pause, Request
from image_search._runners import operation
from image_search.errors import INVALID_REQUEST, ApiError, InvalidSource
from image_search.models.collections import (
    DEFAULT_COLLECTION,
    Collection,
    CollectionList,
    CollectionMetadata,
)
from image_search.models.duplicates import DuplicatePage
from image_search.models.images import Embedding, Image, ImagePage, Metadata
from image_search.models.search import Comparison, HeatMap, SearchResult, SimilarResult
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
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
# A text, or an object of the API such as {"image_id": "…", "weight": 0.5}.
Term = str | Mapping[str, Any]
# A file, its bytes, a URL or a stored image's id; a str is whichever it looks like.
ImageLike = Path | bytes | str


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


class ImageOperations(Core):
    """Searching, images and collections."""

    @operation
    def search(
        self,
        text: str | None = None,
        *,
        images: ImageLike | Sequence[ImageLike] = (),
        positive: Term | Sequence[Term] = (),
        negative: Term | Sequence[Term] = (),
        filters: Mapping[str, Any] | None = None,
        collection: str | None = None,
        limit: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        min_confidence: float | None = None,
        include: str | Sequence[str] | None = None,
        facets: str | Sequence[str] = (),
    ) -> Flow[SearchResult]:
        """Find images by words, by example images, or by both.

        Args:
            text: words that describe what to find.
            images: example images: files (Path), their bytes, URLs, ids of stored images. A str is a URL, an
                id or a file's name, whichever it looks like.
            positive: further terms: texts, or objects such as `{"image_id": "…", "weight": 0.5}`.
            negative: terms that a result should not be like.
            filters: conditions on fields and metadata, such as `{"shop": "north", "width": {"gte": 1024}}`.
            collection: where to search; `images` by default.
            limit: the most results, 1 to 500.
            offset: how many results to pass over.
            min_score: leaves out results of a lower cosine similarity, -1 to 1.
            min_confidence: leaves out results that are less sure to fit, 0 to 1.
            include: what each result carries besides: `metadata` (the default), `tags`, `contributions`,
                `confidence` (with `strength`, the word for it).
            facets: names of fields and metadata whose values are counted over all that match.

        Returns:
            `results`, best first, with a `score` (cosine similarity) each; `took_ms`; `model`; `facets`.
        """
        examples = _listed(images)
        terms = [term for image in examples if (term := _stored_or_url(image)) is not None]
        query = given(
            {
                "text": text,
                "positive": [*terms, *map(_term, _listed(positive))] or None,
                "negative": [*map(_term, _listed(negative))] or None,
                "filters": filters or None,
                "collection": collection,
                "limit": limit,
                "offset": offset or None,
                "min_score": min_score,
                "min_confidence": min_confidence,
                "include": None if include is None else _listed(include),
                "facets": _listed(facets) or None,
            }
        )
        uploads = [_upload(image) for image in examples if _stored_or_url(image) is None]
        if not uploads:
            return self._ask(SearchResult, Request("POST", "/v1/search", json=query))
        part = ("query", (None, json.dumps(query).encode(), "application/json"))
        return self._ask(SearchResult, Request("POST", "/v1/search", files=[part, *uploads]))

    @operation
    def similar(
        self,
        image_id: str,
        *,
        collection: str | None = None,
        limit: int = 20,
        min_score: float | None = None,
    ) -> Flow[SimilarResult]:
        """Find the images nearest to a stored one, which is not among them."""
        params = {"collection": collection, "limit": limit, "min_score": min_score}
        return self._ask(SimilarResult, Request("GET", _image(image_id, "similar"), given(params)))

    @operation
    def compare(self, a: Term, b: Term, *, collection: str | None = None) -> Flow[float]:
        """Return the cosine similarity, -1 to 1, of any two of texts, stored images and images' URLs."""
        body = given({"a": _term(a), "b": _term(b), "collection": collection})
        answer = yield from self._ask(Comparison, Request("POST", "/v1/compare", json=body))
        return answer.score

    @operation
    def explain(self, image_id: str, text: str, *, collection: str | None = None) -> Flow[HeatMap]:
        """Return a PNG of the image under a heat map of where it matches the text.

        Its `clear` says whether there is a clear spot at all.
        """
        params = given({"image_id": image_id, "text": text, "collection": collection})
        answer = yield from self._file("/v1/explain", params)
        return HeatMap.of(answer.content, answer.headers)

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
        return self._ask(Image, Request("GET", _image(image_id), given({"collection": collection})))

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
        return self._ask(Image, Request("PATCH", _image(image_id), params, json=body, timeout=timeout))

    @operation
    def delete_image(self, image_id: str, *, collection: str | None = None) -> Flow[None]:
        """Delete an image, with all its keys."""
        yield from self._send(_deletion(_image(image_id), {"collection": collection}))

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
        names = [*dict.fromkeys(_listed(image_ids if keys is None else keys))]
        if dry_run:
            present = yield from self._present(names, where, are_keys=keys is not None)
            return Deletion(present, [name for name in names if name not in {*present}])
        if keys is None:
            requests = [_deletion(_image(name), where) for name in names]
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
        return (yield from self._bytes(_image(image_id, "thumbnail"), given({"collection": collection})))

    @operation
    def rendition(self, image_id: str, *, collection: str | None = None) -> Flow[bytes]:
        """Return an image's rendition, where the server keeps one: a JPEG or WebP, longest side 768 px."""
        return (yield from self._bytes(_image(image_id, "rendition"), given({"collection": collection})))

    @operation
    def embedding(self, image_id: str, *, collection: str | None = None) -> Flow[Embedding]:
        """Return an image's unit vector, as the index holds it."""
        params = given({"collection": collection})
        return self._ask(Embedding, Request("GET", _image(image_id, "embedding"), params))

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

    def _file(self, path: str, params: Mapping[str, Any]) -> Flow[httpx.Response]:
        return self._send(Request("GET", path, params, media="image/"))


def collection_path(name: str, *more: str) -> str:
    return path_of("/v1/collections", name, *more)


def with_metadata(items: Iterable[Term], metadata: Metadata) -> Iterable[Term]:
    """Yield a job's items, each with `metadata` under its own."""
    for item in items:
        own: Mapping[str, Any] = {"url": item} if isinstance(item, str) else item
        yield {**own, "metadata": {**metadata, **(own.get("metadata") or {})}} if metadata else item


def path_of(folder: str, name: str, *more: str) -> str:
    """Return the path of what has this name or id, or of more of it. Raises ApiError for an empty one."""
    if not name:
        raise ApiError(0, INVALID_REQUEST, "an id or a name is empty")
    return "/".join([folder, quote(name, safe=""), *more])


def _image(image_id: str, *more: str) -> str:
    return path_of("/v1/images", image_id, *more)


def _deletion(path: str, params: Mapping[str, Any]) -> Request:
    return Request("DELETE", path, given(params), timeout=CHANGE_TIMEOUT_SECONDS, media=None)


def _listed(given: Any) -> list[Any]:
    """Return a list, of one where a text, file or object stands by itself."""
    return [given] if isinstance(given, str | bytes | Path | Mapping) else [*given]


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in params.items() if value is not None}


def _term(term: Term) -> Mapping[str, Any]:
    return {"text": term} if isinstance(term, str) else term


def _stored_or_url(image: ImageLike) -> Mapping[str, str] | None:
    """Return the term for an image that the server has or fetches; None for what is to be uploaded."""
    if not isinstance(image, str):
        return None
    if "://" in image:
        return {"image_url": image}
    return {"image_id": image} if _IMAGE_ID.fullmatch(image) else None


def _upload(image: ImageLike) -> tuple[str, tuple[str, bytes, str]]:
    if isinstance(image, bytes):
        return "image", ("image", image, "application/octet-stream")
    path = Path(image)
    try:
        return "image", (path.name, path.read_bytes(), media_type(path.name))
    except OSError as error:
        raise InvalidSource(f"{image!r} cannot be read: {error.strerror}") from None
