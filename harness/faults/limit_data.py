"""So many bytes, then the end."""

from __future__ import annotations

from typing import ClassVar

from harness.clock import Draws
from harness.faults.base import EOF, Piece, Pipe, Toxic, fault, wire

__all__ = ["LimitData"]


@fault
class LimitData(Toxic):
    """
    Let exactly so many bytes through, then close the connection.

    It closes as soon as the count is reached, not when it is exceeded. Counted for
    each connection from when the toxic came upon it; a change keeps the count.

    Args:
        limit_bytes: How many bytes pass. 0 must be said, and closes at the first chunk.
        stream: "upstream" or "downstream", seen from the client.
        toxicity: The share of connections it affects.

    Raises:
        InvalidValue: If a value is missing or out of range.

    Source: Shopify/toxiproxy toxics/limit_data.go at f48fd7f.
    """

    type: ClassVar[str] = "limit_data"

    limit_bytes: int = wire("bytes")

    def pipe(self, draws: Draws, now: float) -> Pipe:
        """A counter with a knife."""
        return _Limit(self)


class _Limit(Pipe):
    def __init__(self, toxic: LimitData) -> None:
        super().__init__()
        self._limit_bytes = toxic.limit_bytes
        self._passed_bytes = 0
        self._ended = False
        self._due: list[Piece] = []

    def receive_data(self, data: bytes, now: float) -> None:
        if self._ended:
            self.touch("dropped", len(data))
            return
        # Lowered below what has passed, nothing more may.
        room = max(0, self._limit_bytes - self._passed_bytes)
        head = data[:room]
        self._passed_bytes += len(head)
        if head:
            self._due.append(head)
        if self._passed_bytes >= self._limit_bytes:
            self.touch("cut", len(data) - len(head))
            self._end()

    def receive_eof(self, now: float) -> None:
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._due.append(EOF)

    def next_due(self) -> float | None:
        return 0.0 if self._due else None

    def advance(self, now: float) -> list[Piece]:
        due, self._due = self._due, []
        return due

    def change(self, toxic: LimitData, now: float) -> None:
        self._limit_bytes = toxic.limit_bytes

    def drain(self) -> list[Piece]:
        return self.advance(0.0)
