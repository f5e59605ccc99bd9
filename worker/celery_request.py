"""A Celery request that notices when its acknowledgement was lost."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from celery.worker.request import Request
from kombu import Message
from kombu.asynchronous import get_event_loop


class AcknowledgedRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A request that reconnects to the broker where Celery only logs that it could not acknowledge.

    The message would count as unacknowledged for as long as the connection lasts, and with a prefetch of one
    the consumer would wait for it for ever, alive and idle (celery/celery#8030 and its kin).
    """

    def __init__(self, message: Message, *, connection_errors: tuple[type[Exception], ...], **options: Any):
        # Celery calls these later, from the consumer's loop, and keeps what they raise to itself.
        message.ack = _reconnecting(message.ack, connection_errors)
        message.reject = _reconnecting(message.reject, connection_errors)
        super().__init__(message, connection_errors=connection_errors, **options)


def _reconnecting(call: Callable[..., None], errors: tuple[type[Exception], ...]) -> Callable[..., None]:
    @wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            call(*arguments, **options)
        except errors:
            loop: Any = get_event_loop()
            loop.call_soon(_lose_connection)
            raise

    return wrapped


def _lose_connection() -> None:
    """Raise, in the consumer's loop, what makes it connect anew."""
    raise ConnectionResetError("The broker has not taken an acknowledgement.")
