"""The API under gunicorn: one process, since the encoder's weights and the key cache are per process."""

from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError

from api.auth import check_bind
from deploy.embedded import check_port_free
from shared.blobs import Blobs
from shared.config import Settings
from shared.errors import ImageSearchError

GRACE_S = 8  # for open requests at SIGTERM: within Docker's 10 s, and `up`'s


class Server(BaseApplication):
    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:  # some came with later versions
                self.cfg.set(name, value)

    def load(self) -> Flask:  # type: ignore[override] # its stubs spell WSGI in another way
        from api.wsgi import make_app  # noqa: PLC0415 - after the fork

        try:
            return make_app(self._settings, threads=self._options["threads"])
        except ImageSearchError as error:
            raise AppImportError(error.detail) from None


def serve(settings: Settings, host: str, port: int, threads: int) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError for an address that may not or cannot be used."""
    check_bind(host, Blobs(settings.blob_url))
    check_port_free(host, port)
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": 1,
        "worker_class": "deploy.connections.Worker",
        "threads": threads,
        "timeout": 60,
        "graceful_timeout": GRACE_S,
        "keepalive": 5,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "loglevel": settings.log_level,
        "accesslog": None,
        "control_socket_disable": True,
    }
    if Path("/dev/shm").is_dir():  # noqa: S108 - a heartbeat file on a disk can block the worker
        options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
    Server(settings, options).run()
