"""What the setting MODEL=auto means: decided once in a deployment, and recorded."""

from __future__ import annotations

import json

import structlog

from shared.embedding.checkpoint_files import STARTER
from shared.embedding.checkpoints import resolve_model
from shared.errors import ConfigError, ModelUnavailable
from shared.formats import FIELD, check_format
from shared.storage.blobs import MODEL_KEY, Blobs

DEFAULT_MODEL = "openai/clip-vit-base-patch32"
FORMAT = 1  # of the record under MODEL_KEY

log = structlog.get_logger()


def resolve_auto(blobs: Blobs) -> str:
    """Return what `auto` means in this deployment: a model name for `resolve_model`.

    The first call decides and records it under MODEL_KEY: the hub's DEFAULT_MODEL if it is cached or can be
    downloaded, else `starter`. Later calls only read the record, so that vectors of two models never mix.
    Raises ModelUnavailable when neither can be had, and BlobsUnavailable.
    """
    if recorded := _recorded(blobs):
        return recorded
    blobs.put(MODEL_KEY, json.dumps({"model": _decide(), FIELD: FORMAT}).encode())
    decided = _recorded(blobs)  # a process that started at the same moment may have written last
    assert decided is not None  # noqa: S101 - just written
    return decided


def _recorded(blobs: Blobs) -> str | None:
    try:
        data = blobs.get(MODEL_KEY)
    except KeyError:
        return None
    try:
        record = json.loads(data)
        check_format(record.get(FIELD), FORMAT, "The recorded model")
        return str(record["model"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"The recorded model ({MODEL_KEY} in the blob store) cannot be read; set IMAGE_SEARCH_MODEL to "
            "the model that wrote the collections."
        ) from None


def _decide() -> str:
    try:
        resolve_model(DEFAULT_MODEL)
    except ModelUnavailable as error:
        reason, passing = error.detail, error.passing
    else:
        log.info("model chosen", model=DEFAULT_MODEL)
        return DEFAULT_MODEL
    try:
        resolve_model(STARTER)
    except ModelUnavailable:
        raise ModelUnavailable(
            f"{reason.removesuffix('.')} (`auto` tried it, and this build carries no `{STARTER}` model).",
            passing=passing,
        ) from None
    log.warning(
        f"using the {STARTER} model: good at emoji, icons and clip art, weak on photographs",
        model=STARTER,
        reason=reason,
    )
    return STARTER
