"""How long a shutdown may take, and whose connection is to be closed by now."""

from __future__ import annotations

from typing import Final, Literal

from harness.resilience.connections.peer import Peer

__all__ = ["Leaving"]

# Of its time, for flushing; the rest is for the closing handshakes.
_FLUSHING: Final = 0.7


class Leaving:
    """
    A shutdown under way.

    Args:
        now_s: When it began.
        within_s: Seconds until all is over.

    Attributes:
        closed: How many connections were closed with 1001.
    """

    def __init__(self, now_s: float, *, within_s: float) -> None:
        self._within_s = within_s
        self._began_s = now_s
        self.closed = 0

    def left_s(self, now_s: float) -> float:
        """Seconds until all is over."""
        return self._began_s + self._within_s - now_s

    def next_s(self, now_s: float) -> float:
        """When time next changes something."""
        flush_until_s = self._began_s + self._within_s * _FLUSHING
        return flush_until_s if now_s < flush_until_s else self._began_s + self._within_s

    def go_back(self, now_s: float) -> None:
        """The clock went back to `now_s`: it began no later."""
        self._began_s = min(self._began_s, now_s)

    def due(self, peer: Peer, now_s: float) -> Literal["close", "abort"] | None:
        """What is to become of a session's connection now."""
        if peer.transport is None:
            return None
        if now_s >= self._began_s + self._within_s:
            return "abort"
        if peer.closing:
            return None
        drained = not len(peer.outbox) and not peer.transport.buffered()
        if drained or now_s >= self._began_s + self._within_s * _FLUSHING:
            return "close"
        return None
