"""A Celery request that does not take a lost acknowledgement for a given one."""

from typing import Any

from celery.worker.request import Request
from kombu.asynchronous import get_event_loop


class AcknowledgedRequest(Request):  # type: ignore[misc]  # Celery has no types
    """Reconnects to the broker where Celery only logs that it could not acknowledge.

    The message would count as unacknowledged for as long as the connection lasts, and with a prefetch of one
    the consumer would wait for ever for it, alive and idle (celery/celery#8030 and its kin).
    """

    def acknowledge(self) -> None:
        super().acknowledge()
        self._reconnect_unless_told()

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue)
        self._reconnect_unless_told()

    def _reconnect_unless_told(self) -> None:
        loop: Any = get_event_loop()
        if loop is not None and not self.message.acknowledged:
            loop.call_soon(_lose_connection)


def _lose_connection() -> None:
    """Raised in the consumer's loop, this is what makes it start anew."""
    raise ConnectionResetError("The broker has not taken an acknowledgement.")
