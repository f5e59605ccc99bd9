"""For a WSGI server of your own: `gunicorn 'api.wsgi:make_app()' --worker-class gthread --threads 32`."""

from flask import Flask

from api.app import create_app
from shared.config import load_settings
from shared.logs import configure_logging


def make_app() -> Flask:
    settings = load_settings()
    configure_logging(settings)
    return create_app(settings)
