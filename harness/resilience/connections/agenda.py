"""Which session is to be attended to, and when: at most one time each, the earliest."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from harness.resilience.connections.peer import Peer

__all__ = ["Agenda"]


class Agenda:
    """
    Times of sessions. A time that is put off stays, and brings the session up for nothing once.

    What that saves: the time of the next ping moves on with every message, and none of them has
    to look for its old place.
    """

    def __init__(self) -> None:
        self._times: list[tuple[float, str]] = []

    @property
    def next_s(self) -> float | None:
        """The earliest time; None while there is none."""
        return self._times[0][0] if self._times else None

    def note(self, peer: Peer, due_s: float) -> None:
        """The session is to come up at that time, or sooner."""
        if peer.due_s is None or due_s < peer.due_s:
            peer.due_s = due_s
            heapq.heappush(self._times, (due_s, peer.name))

    def pop(self, peers: Mapping[str, Peer], now_s: float) -> list[tuple[Peer, float]]:
        """Those that are due, each with its time. It has to be noted again."""
        # All of them first: one that is due again at once has to wait for the next time.
        due = []
        while self._times and self._times[0][0] <= now_s:
            due_s, name = heapq.heappop(self._times)
            peer = peers.get(name)
            # What is not the session's present time was overtaken by an earlier one.
            if peer is not None and peer.due_s == due_s:
                peer.due_s = None
                due.append((peer, due_s))
        return due

    def clear(self) -> None:
        """Forget all times; the sessions have to be noted anew."""
        self._times.clear()
