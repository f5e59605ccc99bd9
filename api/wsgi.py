"""The application as a server runs it: `image-search api`, or a WSGI server of your own on `make_app()`."""

from flask import Flask

from api.app import create_app
from api.context import context, services
from api.encoding.announcements import Announcements
from api.encoding.encoder_loader import LoadEncoder
from api.encoding.encoder_loader import load_encoder as load_own
from shared.config import Settings, load_settings
from shared.imaging.memory import limit_heap_arenas
from shared.logs import configure_logging
from shared.tracing import tracing


def make_app(
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    listens_at: str | None = None,
    load_encoder: LoadEncoder | None = None,
) -> Flask:
    """Make the application of a server that answers `threads` requests at once, at the URL `listens_at`.

    Raises ConfigError for wrong settings.
    """
    settings = settings or load_settings()
    configure_logging(settings)
    tracing.set_up("api")
    limit_heap_arenas()
    app = create_app(settings, load=load_encoder or load_own, threads=threads, listens_at=listens_at)
    with app.app_context():
        parts = services()
        Announcements(parts.ledger.models, context().models, parts.index.pointers).start()
    return app
