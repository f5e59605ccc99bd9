"""What the setting MODEL=auto means: decided once in a deployment, and recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from shared.embedding.checkpoint_files import STARTER, fingerprint
from shared.embedding.checkpoints import AUTO, cached, resolve_model
from shared.errors import ConfigError, ModelUnavailable
from shared.formats import FIELD, check_format
from shared.models import CollectionInfo
from shared.storage.blobs import MODEL_KEY, Blobs

HUB_MODELS = ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "openai/clip-vit-base-patch32")  # the better one first
FORMAT = 1  # of the record under MODEL_KEY

Collections = Callable[[], Sequence[CollectionInfo]]

log = structlog.get_logger()


def resolve_auto(blobs: Blobs, collections: Collections) -> str:
    """Return what `auto` means in this deployment: a model name for `resolve_model`.

    The first call decides and records it under MODEL_KEY: what `known_model` returns, else the first of
    HUB_MODELS that is cached or can be downloaded, else `starter`. Later calls only read the record, so that
    vectors of two models never mix; of processes that decide at once, the first to record it decides for all.
    Raises what `known_model` raises, and ModelUnavailable where not even `starter` can be had.
    """
    if known := recorded_model(blobs):
        return known
    chosen = _of_collections(collections()) or _of_hub()
    blobs.put_new(MODEL_KEY, json.dumps({"model": chosen, FIELD: FORMAT}).encode())
    decided = recorded_model(blobs)
    assert decided is not None  # noqa: S101 - just written
    if decided != chosen:
        log.warning("another process has decided meanwhile", model=decided, instead_of=chosen)
    return decided


def known_model(blobs: Blobs, collections: Collections) -> str | None:
    """Return the recorded model, else the one that wrote most pictures of the collections; None without any.

    Raises ModelUnavailable where the collections' cannot be had, BlobsUnavailable, and what `collections`
    raises, which is not asked where there is a record.
    """
    return recorded_model(blobs) or _of_collections(collections())


def recorded_model(blobs: Blobs) -> str | None:
    try:
        data = blobs.get(MODEL_KEY)
    except KeyError:
        return None
    try:
        record = json.loads(data)
        check_format(record.get(FIELD), FORMAT, "The recorded model")
        model = record["model"]
        if not isinstance(model, str) or model.strip() in ("", AUTO):
            raise ValueError(model)  # noqa: TRY301 - malformed data, not a wrong call
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"The recorded model ({MODEL_KEY} in the blob store) cannot be read; set IMAGE_SEARCH_MODEL to "
            "the model that wrote the collections."
        ) from None
    return model


def _of_collections(collections: Sequence[CollectionInfo]) -> str | None:
    """Return the model whose vectors most pictures have, by any of its names that still has these weights."""
    if not collections:
        return None
    pictures, named = Counter[str](), Counter[tuple[str, str]]()
    for one in collections:
        pictures[one.fingerprint] += one.count
        named[one.fingerprint, one.model] += one.count
    bound = min(named, key=lambda pair: (-pictures[pair[0]], pair[1]))[0]
    names = sorted((name for digest, name in named if digest == bound), key=lambda name: -named[bound, name])
    readable = [one.name for one in collections if one.fingerprint == bound]
    failures: list[ModelUnavailable] = []
    for model in names:
        try:
            _check_weights(model, bound, readable)
        except ModelUnavailable as error:
            failures.append(error)
        else:
            others = sorted({one.name for one in collections} - set(readable))
            log.info("model chosen: it wrote the collections", model=model, of=readable, unreadable=others)
            return model
    raise failures[0]


def _check_weights(model: str, bound: str, collections: list[str]) -> None:
    """Raise ModelUnavailable unless `model` can be had, with the weights that wrote the collections."""
    more = f" and {len(collections) - 1} more" if len(collections) > 1 else ""
    wrote = f"wrote the collection {collections[0]!r}{more}"
    try:
        found = fingerprint(resolve_model(model))
    except ModelUnavailable as error:
        raise ModelUnavailable(
            f"`auto` needs the model {model}, which {wrote}. {error.detail} With another one its pictures "
            "can be listed, exported and deleted, and are searched after `image-search reindex`.",
            passing=error.passing,
        ) from error
    except (OSError, ValueError) as error:  # pickled weights of somebody else's; a name that is none
        raise ModelUnavailable(
            f"`auto` needs the model {model}, which {wrote}, and it cannot be read: {error}"
        ) from error
    if found != bound:
        raise ModelUnavailable(
            f"`auto` needs the weights of {model} that {wrote} (fingerprint {bound}), and those that are "
            f"there now are others ({found}): bring the former back, or set IMAGE_SEARCH_MODEL to a model "
            "and run `image-search reindex`."
        )


def _of_hub() -> str:
    failures: list[ModelUnavailable] = []
    for model in HUB_MODELS:
        if failures and failures[-1].passing and cached(model) is None:
            continue  # the hub does not answer: it is not waited for again
        try:
            resolve_model(model)
        except ModelUnavailable as error:
            failures.append(error)
        else:
            log.info("model chosen", model=model, reasons=[error.detail for error in failures])
            return model
    try:
        resolve_model(STARTER)
    except ModelUnavailable:
        tried = failures[0].detail.removesuffix(".")
        raise ModelUnavailable(
            f"{tried} (`auto` tried it, and this build carries no `{STARTER}` model).",
            passing=any(error.passing for error in failures),
        ) from None
    log.warning(
        f"using the {STARTER} model: good at emoji, icons and clip art, weak on photographs",
        model=STARTER,
        reasons=[error.detail for error in failures],
    )
    return STARTER
