"""Calls `Connections.advance` when time has brought something about."""

from __future__ import annotations

import asyncio

from harness.clock import now
from harness.resilience.connections import Connections

__all__ = ["Pulse"]


class Pulse:
    """
    One timer for all sessions.

    Args:
        connections: Whose time it is.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Something happened: see whether the timer has to go off sooner."""
        due_s = self._connections.next_due_s
        if due_s is not None and (self._due_s is None or due_s < self._due_s):
            self._set(due_s)

    def stop(self) -> None:
        """Go off no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        delay_s = max(0.0, due_s - now())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_off)

    def _go_off(self) -> None:
        self._due_s = self._timer = None
        self._connections.advance()
        self.check()
