"""A black hole, with or without an end."""

from __future__ import annotations

from typing import ClassVar

from harness.clock import Draws
from harness.faults.base import EOF, Piece, Pipe, Toxic, fault, wire

__all__ = ["Timeout"]


@fault
class Timeout(Toxic):
    """
    Throw all data of one direction away; the other direction flows on.

    Nobody is told: the sender's kernel sees its bytes acknowledged. Lifting it
    closes the connections it stood on, since what follows a gap in a stream means
    nothing. The end of the stream passes at once.

    Args:
        timeout_ms: Close the connection when nothing arrived for so many
            milliseconds. Every chunk starts the wait anew, so a busy connection is
            never closed. 0 never closes.
        stream: "upstream" or "downstream", seen from the client.
        toxicity: The share of connections it affects.

    Raises:
        InvalidValue: If a value is out of range.

    Source: Shopify/toxiproxy toxics/timeout.go at f48fd7f.
    """

    type: ClassVar[str] = "timeout"

    timeout_ms: int = wire("timeout", default=0)

    def pipe(self, draws: Draws, now: float) -> Pipe:
        """A hole."""
        return _Hole(self, now)


class _Hole(Pipe):
    def __init__(self, toxic: Timeout, now: float) -> None:
        super().__init__()
        self._timeout_s = toxic.timeout_ms / 1000
        self._quiet_since = now
        self._ended = False
        self._eof = False

    def receive_data(self, data: bytes, now: float) -> None:
        self._quiet_since = now
        self.touch("dropped", len(data))

    def receive_eof(self, now: float) -> None:
        self._eof = True

    def next_due(self) -> float | None:
        if self._ended:
            return None
        if self._eof:
            return self._quiet_since
        return self._quiet_since + self._timeout_s if self._timeout_s else None

    def advance(self, now: float) -> list[Piece]:
        due = self.next_due()
        if due is None or due > now:
            return []
        self._ended = True
        if not self._eof:
            self.touch("cut", 0)
        return [EOF]

    def change(self, toxic: Timeout, now: float) -> None:
        self._timeout_s = toxic.timeout_ms / 1000
        self._quiet_since = now

    def drain(self) -> list[Piece]:
        if self._ended:
            return []
        self._ended = True
        self.touch("cut", 0)
        return [EOF]
