"""The parts of the current app: its services, its encoder once that is loaded, its page of metrics."""

from dataclasses import dataclass, field

from flask import Flask, current_app

from api.encoding.calibration import Backgrounds
from api.encoding.loaded_models import LoadedModels
from api.encoding.text_cache import EncodedText, TextCache
from api.encoding.vector_cache import VectorCache
from api.http.auth import KeyRing
from api.readiness import Probe
from image_search.models import LoadedModel
from shared.embedding.encoder import Encoder
from shared.errors import CollectionNotFound
from shared.index.collection import Collection
from shared.index.survey import Surveys
from shared.metrics.exporter import Page
from shared.models import DEFAULT_COLLECTION
from shared.services import Services

_EXTENSION = "image_search"


@dataclass(frozen=True)
class Context:
    """One app's parts; `probe` remembers what readiness found last."""

    services: Services
    models: LoadedModels
    keys: KeyRing
    metrics: Page
    probe: Probe
    backgrounds: Backgrounds
    texts: TextCache = field(default_factory=TextCache)
    surveys: Surveys = field(default_factory=Surveys)
    vectors: VectorCache = field(default_factory=VectorCache)


def install(app: Flask, context: Context) -> None:
    app.extensions[_EXTENSION] = context


def context() -> Context:
    found: Context = current_app.extensions[_EXTENSION]
    return found


def services() -> Services:
    return context().services


def main_model() -> LoadedModel:
    """Return what a new collection is bound to. Raises as LoadedModels.main does."""
    return context().models.identity()


def encoder_of(collection: Collection | None) -> Encoder:
    """Return a collection's encoder, of None the deployment's. Raises as LoadedModels.of does."""
    if collection is None:
        return context().models.main()
    return context().models.of(collection.pointer.model, collection.pointer.fingerprint)


def encoded_text(encoder: Encoder, text: str) -> EncodedText:
    """Return a text encoded now or before. Raises as Encoder.encode_texts does."""
    return context().texts.get(encoder, text)


def open_collection(name: str) -> Collection | None:
    """Return a collection, None for an unused default one. Raises CollectionNotFound."""
    try:
        return services().index.collection(name)
    except CollectionNotFound as error:
        if name == DEFAULT_COLLECTION:
            return None
        raise error.at("/collection") from None
