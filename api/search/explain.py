"""Why a picture was found: where in it a text finds what it says."""

from dataclasses import replace
from functools import partial

import numpy as np
from flask import Response
from numpy.typing import NDArray

from api.context import context, encoded_text, encoder_of, open_collection, services
from api.encoding.calibration import strength
from api.http.auth import requires
from api.http.openapi import bytes_answer, make_blueprint
from api.search.query import Term, refuse_blank
from api.search.query_images import kept_file, read_all
from api.search.requests import ExplainQuery
from shared.embedding.encoder import Encoder
from shared.embedding.heatmap import Heat, heat, overlay
from shared.errors import ImageNotFound, ImageSearchError
from shared.imaging.decode import open_stored
from shared.index.collection import Collection

_PNG = bytes_answer(
    "The picture under its heat map, in its own shape, longest side at most 768 px.",
    "image/png",
    headers={
        "Heat-Spot": (
            "`clear`, or `unclear` where no place of the picture stands out; left out where that is not "
            "known, as in a collection without `confidence`."
        ),
        "Heat-Confidence": "The `confidence`, as in a search, of the window of the picture that fits best.",
    },
)

blueprint = make_blueprint("explain", __name__, tag="search")


@blueprint.get("/v1/explain", summary="Draw where in a picture a text matches", responses={200: _PNG})
@requires("search")
def explain(query: ExplainQuery) -> Response:
    """Draw a heat map over the picture: light where it answers to the text most, dark where least.

    Made from the model's own patch features (MaskCLIP: C. Zhou, C. C. Loy, B. Dai, Extract Free Dense Labels
    from CLIP, ECCV 2022; of a SigLIP by its pooling head) in windows that slide over the whole picture. The
    colours run from the least to the most of this one map: they say where, not how much, so a text that fits
    nothing has a map, too; the header `Heat-Spot` says whether it has a clear spot. Needs the pixels that
    `KEEP` keeps at ingest; without them it is `409 pixels_not_kept`.
    """
    refuse_blank([Term("/text", text=query.text)])
    collection = open_collection(query.collection)
    if collection is None:
        raise ImageNotFound(f"There is no picture {query.image_id!r} in this collection.").at("/image_id")
    try:
        collection.get(query.image_id)
    except ImageNotFound as error:
        raise error.at("/image_id") from None
    model = encoder_of(collection)
    kept = partial(kept_file, services().blobs, query.collection, query.image_id, "/image_id")
    (image,) = read_all([kept], open_stored, model.preprocess)
    if isinstance(image, ImageSearchError):
        raise image
    text = encoded_text(model, query.text).vector
    found = heat(image, model, text)
    return Response(
        overlay(image, found.places), 200, _spot(found, text, collection, model), mimetype="image/png"
    )


def _spot(found: Heat, text: NDArray[np.float32], collection: Collection, model: Encoder) -> dict[str, str]:
    """Say whether the map has a clear spot: a window that would be a good match, were it a picture."""
    calibration = context().backgrounds.calibrate(text, collection, model)
    if calibration is None:
        return {"Heat-Spot": "unclear"} if found.is_even else {}
    confidence = replace(calibration, count=found.windows).confidence(found.best)
    is_clear = strength(confidence) != "weak" and not found.is_even
    return {"Heat-Spot": "clear" if is_clear else "unclear", "Heat-Confidence": f"{confidence:.4f}"}
