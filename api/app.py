"""The application: `create_app` puts it together."""

from collections.abc import Callable

from flask_openapi3.openapi import OpenAPI

from api import context, request_spans
from api.collections import routes as collections
from api.collections import transfers
from api.context import Context
from api.encoding.calibration import Backgrounds
from api.encoding.encoder_loader import LoadEncoder, load_encoder, main_name
from api.encoding.loaded_models import LoadedModels
from api.http import (
    answer_size,
    auth,
    concurrency,
    cross_origin,
    metrics,
    openapi,
    problems,
    rate_limits,
    security_headers,
    switches,
)
from api.http.auth import KeyRing
from api.images import bulk, duplicates
from api.images import routes as images
from api.jobs import routes as jobs
from api.operations import health, system
from api.operations import models as loaded
from api.readiness import Probe
from api.search import explain, metadata
from api.search import routes as search
from api.sources import routes as sources
from api.web import docs
from api.web import routes as page
from shared.config import Settings
from shared.embedding.serving.downloads import at_hand
from shared.metrics.exporter import Page
from shared.metrics.ledger import LedgerMetrics
from shared.services import Services, build_services
from shared.version import VERSION


def create_app(
    settings: Settings,
    services: Services | None = None,
    *,
    load: LoadEncoder = load_encoder,
    at_hand: Callable[[str], object] = at_hand,
    threads: int | None = None,
    listens_at: str | None = None,
) -> OpenAPI:
    """Make the API on `services`, or on those that the settings name. The model loads in the background.

    `threads`: how many requests the server answers at once; `listens_at`: its URL; `at_hand` raises until
    the model of a collection can be loaded.
    """
    services = services or build_services(settings, listens_at)
    app = openapi.make_app(__name__, VERSION)
    backgrounds = Backgrounds()
    models = LoadedModels(
        lambda: backgrounds.prepared(load(services, None)),
        lambda model: backgrounds.prepared(load(services, model)),
        most=services.settings.models_loaded,
        main_name=lambda: main_name(services),
        at_hand=at_hand,
    )
    keys = KeyRing(services.blobs)
    probe = Probe(services, models)
    context.install(
        app,
        Context(services, models, keys, Page(["api"], LedgerMetrics(services.ledger)), probe, backgrounds),
    )

    concurrency.install(app, threads)
    problems.install(app)
    request_spans.install(app)
    cross_origin.install(app, services.settings.allow_origins)
    security_headers.install(app)
    auth.refuse_downloads(app)
    metrics.install(app)
    auth.identify_callers(app, keys)
    rate_limits.install(app, services.settings)
    auth.require_scopes(app)
    concurrency.limit_uploads(app)
    answer_size.install(app)

    app.register_api(jobs.blueprint)
    app.register_api(search.blueprint)
    app.register_api(images.blueprint)
    app.register_api(bulk.blueprint)
    app.register_api(explain.blueprint)
    app.register_api(duplicates.blueprint)
    app.register_api(collections.blueprint)
    app.register_api(metadata.blueprint)
    app.register_api(transfers.blueprint)
    app.register_api(sources.blueprint)
    app.register_api(health.blueprint)
    app.register_api(system.blueprint)
    app.register_api(loaded.blueprint)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(page.blueprint)
    switches.repeat_readers(app)

    models.start()
    return app
