"""The ends of critical messages: counted at once, told when all is in order."""

from __future__ import annotations

import logging
from collections.abc import Callable

from harness.resilience.connections.peer import Peer
from harness.resilience.connections.values import End, Message
from harness.resilience.metrics import Metrics

__all__ = ["Ends"]

_log = logging.getLogger(__name__)


class Ends:
    """
    Ends that have come and have not been told yet.

    Args:
        metrics: Where they are counted.
        on_end: Who is told, if anybody: session, message, how.
    """

    def __init__(
        self, metrics: Metrics, on_end: Callable[[str, Message, End], None] | None
    ) -> None:
        self._metrics = metrics
        self._on_end = on_end
        self._untold: list[tuple[str, Message, End]] = []

    def came(self, peer: Peer, message: Message, how: End) -> None:
        """A message of that session ended."""
        if how == "expired":
            peer.figures.expired()
        elif how == "dropped":
            self._metrics.queue_overflowed()
        elif how in ("left", "poison"):
            peer.figures.failed()
        if self._on_end is not None:
            self._untold.append((peer.name, message, how))

    def tell(self) -> None:
        """Tell of them. Who is told may send, and so make more of them."""
        while self._untold:
            session, message, how = self._untold.pop(0)
            assert self._on_end is not None
            try:
                self._on_end(session, message, how)
            # Their mistake must not become that of whoever sent something else.
            except Exception:  # noqa: BLE001
                _log.exception("session %s: on_end failed", session)
