"""The parts of the current app: its services, its encoder once that is loaded, its metrics."""

from dataclasses import dataclass, field

from flask import Flask, current_app

from api.encoding.calibration import Backgrounds
from api.encoding.encoder_loader import EncoderLoader
from api.encoding.text_cache import EncodedText, TextCache
from api.http.auth import KeyRing
from api.http.metrics import Metrics
from api.readiness import Probe
from shared.embedding.encoder import Encoder
from shared.errors import CollectionNotFound
from shared.index.collection import Collection
from shared.index.survey import Surveys
from shared.models import DEFAULT_COLLECTION
from shared.services import Services

_EXTENSION = "image_search"


@dataclass(frozen=True)
class Context:
    """One app's parts; `probe` remembers what readiness found last."""

    services: Services
    loader: EncoderLoader
    keys: KeyRing
    metrics: Metrics
    probe: Probe
    backgrounds: Backgrounds
    texts: TextCache = field(default_factory=TextCache)
    surveys: Surveys = field(default_factory=Surveys)


def install(app: Flask, context: Context) -> None:
    app.extensions[_EXTENSION] = context


def context() -> Context:
    found: Context = current_app.extensions[_EXTENSION]
    return found


def services() -> Services:
    return context().services


def encoder() -> Encoder:
    """Return the loaded encoder. Raises ModelNotReady while it loads, Unavailable when it cannot."""
    return context().loader.get()


def encoded_text(text: str) -> EncodedText:
    """Return a text encoded by the loaded encoder. Raises as `encoder` and Encoder.encode_texts do."""
    return context().texts.get(encoder(), text)


def open_collection(name: str) -> Collection | None:
    """Return a collection, None for an unused default one. Raises CollectionNotFound."""
    try:
        return services().index.collection(name)
    except CollectionNotFound as error:
        if name == DEFAULT_COLLECTION:
            return None
        raise error.at("/collection") from None


def metrics() -> Metrics:
    return context().metrics
