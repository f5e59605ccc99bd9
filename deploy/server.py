"""The API under gunicorn: one process of many threads, or several that share the encoder's weights."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError

from deploy.metrics_folder import shared_metrics_folder
from deploy.ports import check_port_free
from shared.api_keys import check_bind
from shared.config import Settings
from shared.errors import ImageSearchError
from shared.logs import configure_logging
from shared.storage.blobs import Blobs
from shared.tracing import tracing

if TYPE_CHECKING:
    from api.encoding.encoder_loader import LoadEncoder

GRACE_SECONDS = 8  # for open requests at SIGTERM: within Docker's 10 s, and `up`'s


class Server(BaseApplication):
    def __init__(
        self, settings: Settings, options: dict[str, Any], load_encoder: "LoadEncoder | None" = None
    ) -> None:
        self._settings = settings
        self._options = options
        self._load_encoder = load_encoder
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:  # some came with later versions
                self.cfg.set(name, value)

    def load(self) -> Flask:  # type: ignore[override] # its stubs spell WSGI in another way
        from api.wsgi import make_app  # noqa: PLC0415 - after the fork

        try:
            return make_app(
                self._settings,
                threads=self._options["threads"],
                listens_at=f"http://{self._options['bind']}",
                load_encoder=self._load_encoder,
            )
        except ImageSearchError as error:
            raise AppImportError(error.detail) from None


def serve(settings: Settings, host: str, port: int, threads: int, processes: int = 1) -> None:
    """Serve until SIGINT or SIGTERM, with `threads` in each of `processes`.

    Raises ConfigError for an address that may not or cannot be used, and as tracing.is_wanted does.
    """
    check_bind(host, Blobs(settings.blob_url))
    check_port_free(host, port)
    tracing.is_wanted()  # refuses, before there are processes, what none of them could do
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": processes,
        "worker_class": "deploy.gunicorn_worker.Worker",
        "threads": threads,
        "timeout": 60,
        "graceful_timeout": GRACE_SECONDS,
        "keepalive": 5,
        "forwarder_headers": "",  # SCRIPT_NAME and PATH_INFO are nobody's to send
        "secure_scheme_headers": {},
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "loglevel": settings.log_level,
        "accesslog": None,
        "control_socket_disable": True,
    }
    if Path("/dev/shm").is_dir():  # noqa: S108 - a heartbeat file on a disk can block the worker
        options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
    with shared_metrics_folder() if processes > 1 else nullcontext():
        encoder = None
        if processes > 1:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin take the others' cores
            encoder = _encoder_to_share(settings)
        Server(settings, options, encoder).run()


def _encoder_to_share(settings: Settings) -> "LoadEncoder | None":
    """Load the encoder before the fork, on a CPU: nobody writes its weights, so they lie in memory once.

    None where each process is to load its own: CUDA and OpenVINO cannot be used after a fork, and a model
    that cannot be loaded is for each to report, and to try again.
    """
    if settings.device != "cpu" or settings.precision == "int8":
        return None
    from api.encoding.encoder_loader import load_encoder  # noqa: PLC0415 - has Prometheus' client
    from shared.services import build_services  # noqa: PLC0415

    configure_logging(settings)
    # In a thread that ends: OpenMP's helpers belong to the thread that computes, and would not be in a fork.
    with ThreadPoolExecutor(1) as loading:
        try:
            encoder = loading.submit(load_encoder, build_services(settings)).result()
        except ImageSearchError:
            return None
    gc.collect()
    gc.freeze()  # else the first full collection in each process copies the heap's pages
    return lambda services, model: encoder if model is None else load_encoder(services, model)
