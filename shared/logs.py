"""Structured logging, set up once per process."""

import logging
import sys

import structlog
from structlog.typing import EventDict

from shared.config import Settings
from shared.tracing import tracing
from shared.urls.redaction import redacted

CHATTY = (
    "httpx",
    "httpcore",
    "chromadb",
    "urllib3",
    "PIL",
    "botocore",
    "aiobotocore",
    "celery.worker.strategy",
    "celery.app.trace",
)


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: redacted(value) if isinstance(value, str) else value for name, value in event.items()}


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.update(tracing.ids())
    return event


def _tame(record: logging.LogRecord) -> bool:
    """Make what OpenTelemetry says of its variables one line, without headers, which may be credentials."""
    if record.name.startswith("opentelemetry."):
        record.exc_info = None
        if record.name == "opentelemetry.util.re":
            record.msg, record.args = "OTEL_EXPORTER_OTLP_HEADERS: an entry is no name=value", ()
    return True


def configure_logging(settings: Settings) -> None:
    """Send structlog's and the standard library's records to stderr, as lines for people or as JSON."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared_processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared_processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_tame)
    level = settings.log_level.upper()
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
