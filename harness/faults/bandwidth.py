"""A narrow pipe: so many bytes a second, back-pressure behind it."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from harness.clock import Draws
from harness.faults.base import EOF, Piece, Pipe, Toxic, fault, wire

__all__ = ["Bandwidth"]

_PIECE_S = 0.1


@fault
class Bandwidth(Toxic):
    """
    Let so many kilobytes a second through, on each connection by itself.

    A chunk worth more than 100 ms is passed on in pieces of 100 ms; a shorter one
    is held for its whole time, then sent whole. What does not fit stays with the
    sender: the proxy stops reading.

    Args:
        rate_kb_per_s: Kilobytes (of 1000 bytes) a second. 0 must be said, and
            lets nothing through. Toxiproxy 2.13 reads 0 as unlimited, so do not use it
            for a black hole: `Timeout(timeout_ms=0)` is one.
        stream: "upstream" or "downstream", seen from the client.
        toxicity: The share of connections it affects.

    Raises:
        InvalidValue: If a value is missing or out of range.

    Source: Shopify/toxiproxy toxics/bandwidth.go at f48fd7f.
    """

    type: ClassVar[str] = "bandwidth"

    rate_kb_per_s: int = wire("rate")

    def pipe(self, draws: Draws, now: float) -> Pipe:
        """A throttle."""
        return _Throttle(self)


class _Throttle(Pipe):
    def __init__(self, toxic: Bandwidth) -> None:
        super().__init__()
        self._bytes_per_s = toxic.rate_kb_per_s * 1000
        self._line: deque[tuple[float, Piece]] = deque()
        # When the piece under way began to pass.
        self._since = 0.0

    def receive_data(self, data: bytes, now: float) -> None:
        self._append(data, now)
        self.held_bytes += len(data)

    def receive_eof(self, now: float) -> None:
        self._append(EOF, now)

    def _append(self, piece: Piece, now: float) -> None:
        if not self._line:
            self._since = max(self._since, now)
        self._line.append((now, piece))

    def next_due(self) -> float | None:
        if not self._line:
            return None
        piece = self._line[0][1]
        if not isinstance(piece, bytes):
            return self._since
        if self._bytes_per_s == 0:
            return None
        return self._since + self._size(piece) / self._bytes_per_s

    def _size(self, data: bytes) -> int:
        return min(len(data), max(1, int(self._bytes_per_s * _PIECE_S)))

    def advance(self, now: float) -> list[Piece]:
        due: list[Piece] = []
        while (at := self.next_due()) is not None and at <= now:
            arrived, piece = self._line.popleft()
            # Pieces follow each other from their due times, so lateness does not add up.
            self._since = at
            if isinstance(piece, bytes):
                size = self._size(piece)
                if size < len(piece):
                    self._line.appendleft((arrived, piece[size:]))
                    piece = piece[:size]
                self.held_bytes -= size
                self.touch("delayed", size)
            due.append(piece)
        return due

    def change(self, toxic: Bandwidth, now: float) -> None:
        self._bytes_per_s = toxic.rate_kb_per_s * 1000
        self._since = now

    def drain(self) -> list[Piece]:
        rest = [piece for _, piece in self._line]
        self._line.clear()
        self.held_bytes = 0
        return rest
