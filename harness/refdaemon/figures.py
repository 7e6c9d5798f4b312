"""What a daemon counts of connections, frames and calls; time spans of calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from harness.refdaemon.transport.base import Cause, Wire
from harness.resilience.histogram import Histogram

__all__ = ["Counters", "Figures"]

_CLOSED_AS: Final[dict[Cause, str]] = {
    "reset": "closed_by_reset",
    "eof": "closed_by_eof",
    "closed": "closed_orderly",
}


_TOLD_APART: Final = 40
"""Bits of a time span that every histogram has a bucket for, in nanoseconds: 18 minutes."""


@dataclass(kw_only=True)
class Counters:
    """
    Counts since the start.

    Every connection counts once as opened and once as closed; every call whose frame could be
    read counts once: as executed, failed, refused, cancelled, timed out or replayed.

    Attributes:
        connections_opened: Upgrades done.
        connections_refused: Of these, above a limit or while draining.
        connections_replaced: Closed, for their session came by another one.
        hellos_refused: Connections closed for their first frame, or for the lack of one.
        closed_by_reset: Ended by the peer's RST.
        closed_by_eof: Ended by the peer's FIN without a close frame.
        closed_orderly: Ended by a close frame of either side.
        calls_executed: Ran and succeeded; the effect is on file.
        calls_failed: Ran and failed, or the effect could not be written.
        calls_refused: Not run.
        calls_cancelled: Ended while they ran, by the caller or by the daemon's end.
        calls_timed_out: Answered with TIMEOUT; the tool was told to stop if nobody else waits.
        calls_replayed: Answered with what an earlier call of the same key came to.
        frames_refused: Frames after hello that no call could be read from, or that made no sense.
        messages_limited: Frames after hello above a rate; of calls these are refused ones too.
        pings_missed: Connections closed since no pong came in time.
        readers_shed: Connections closed since their peer did not read.
        replies_left: Answers that were kept for a session and never sent.
    """

    connections_opened: int = 0
    connections_refused: int = 0
    connections_replaced: int = 0
    hellos_refused: int = 0
    closed_by_reset: int = 0
    closed_by_eof: int = 0
    closed_orderly: int = 0
    calls_executed: int = 0
    calls_failed: int = 0
    calls_refused: int = 0
    calls_cancelled: int = 0
    calls_timed_out: int = 0
    calls_replayed: int = 0
    frames_refused: int = 0
    messages_limited: int = 0
    pings_missed: int = 0
    readers_shed: int = 0
    replies_left: int = 0


@dataclass(kw_only=True)
class Figures:
    """
    All that is counted beside `resilience.metrics`.

    Attributes:
        worked: From a tool's start to its answer, in nanoseconds; `Metrics.processing`.
        counters: Counts since the start.
        codes: How often each error code was answered.
        limits: How often each limit of the admission was met.
        waited: From reading a call to its tool's start, in nanoseconds.
        received_bytes: Of connections that are gone; see `Wire`.
        sent_bytes: The same, sent.
    """

    worked: Histogram
    counters: Counters = field(default_factory=Counters)
    codes: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    waited: Histogram = field(default_factory=Histogram)
    received_bytes: int = 0
    sent_bytes: int = 0

    def ended(self, wire: Wire, cause: Cause) -> None:
        """A connection is gone."""
        name = _CLOSED_AS[cause]
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        self.received_bytes += wire.received_bytes
        self.sent_bytes += wire.sent_bytes

    def ran(self, waited_ns: int, worked_ns: int) -> None:
        """A tool ran."""
        waited, worked = self.waited, self.worked
        if waited_ns >> _TOLD_APART or worked_ns >> _TOLD_APART:
            # Below 0, or longer than a histogram tells apart.
            waited.record(waited_ns)
            worked.record(worked_ns)
            return
        # Histogram.record, written out twice: two calls would take as long as the rest.
        row, shift = waited.rows[waited_ns.bit_length()]
        row[waited_ns >> shift] += 1
        waited.total_ns += waited_ns
        row, shift = worked.rows[worked_ns.bit_length()]
        row[worked_ns >> shift] += 1
        worked.total_ns += worked_ns

    def counts(self) -> dict[str, Any]:
        """The counters by name."""
        return asdict(self.counters)
