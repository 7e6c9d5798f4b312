"""What happened inside the proxy: a bounded log that says so where it forgot."""

from __future__ import annotations

from collections import deque

from harness.clock import clock_id, now_ns
from harness.records import ProxyEvent

__all__ = ["EventLog"]


class EventLog:
    """
    The newest events of one server.

    Appending costs the data path one small object; who reads, and how slowly, costs
    it nothing.

    Args:
        keep: How many events are kept.

    Attributes:
        newest: The number of the newest event, 0 before the first.
    """

    def __init__(self, keep: int = 20_000) -> None:
        self._events: deque[ProxyEvent] = deque(maxlen=keep)
        self.newest = 0

    def add(
        self,
        kind: str,
        *,
        proxy: str,
        connection: int | None = None,
        stream: str | None = None,
        toxic: str | None = None,
        size: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Append one event, stamped now."""
        self.newest += 1
        self._events.append(
            ProxyEvent(
                seq=self.newest,
                time_ns=now_ns(),
                clock=clock_id(),
                kind=kind,
                proxy=proxy,
                connection=connection,
                stream=stream,
                toxic=toxic,
                bytes=size,
                detail=detail,
            )
        )

    def since(self, seq: int) -> list[ProxyEvent]:
        """The events after that number; first a `lost` one where some are gone."""
        oldest = self.newest - len(self._events) + 1
        gone = oldest - seq - 1
        events = [event for event in self._events if event.seq > seq]
        if gone > 0:
            lost = ProxyEvent(
                seq=oldest - 1, time_ns=now_ns(), clock=clock_id(), kind="lost", bytes=gone
            )
            events.insert(0, lost)
        return events
