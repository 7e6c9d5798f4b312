"""Delay: a line in which every chunk waits its time."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from harness.clock import Draws
from harness.faults.base import EOF, Piece, Pipe, Toxic, fault, wire

__all__ = ["Latency"]


@fault
class Latency(Toxic):
    """
    Hold every chunk back before passing it on.

    The delay counts from when the proxy received the chunk, so two chunks that
    arrive together leave together. Order is kept even where jitter would swap them.
    The end of the stream waits for the data before it, and for nothing else.

    Args:
        latency_ms: Delay in milliseconds, 0 or more. It has no default: without it, and
            without jitter, nothing would be delayed.
        jitter_ms: Each chunk's delay varies by up to this many milliseconds
            either way. Drawn from the run's seed in our proxy; Toxiproxy draws
            its own and cannot be seeded.
        stream: "upstream" or "downstream", seen from the client.
        toxicity: The share of connections it affects.

    Raises:
        InvalidValue: If a value is missing or out of range.

    Source: Shopify/toxiproxy toxics/latency.go at f48fd7f.
    """

    type: ClassVar[str] = "latency"

    latency_ms: int = wire("latency")
    jitter_ms: int = wire("jitter", default=0)

    def pipe(self, draws: Draws, now: float) -> Pipe:
        """A delay line."""
        return _DelayLine(self, draws)


class _DelayLine(Pipe):
    # As much as Toxiproxy can keep in front of a latency toxic: 1024 chunks of 32 KiB.
    hold_limit_bytes = 1024 * 32 * 1024

    def __init__(self, toxic: Latency, draws: Draws) -> None:
        super().__init__()
        self._toxic = toxic
        self._draws = draws
        self._offset = 0
        # When it arrived, its draw (None for the end, which is not delayed), what it is.
        self._line: deque[tuple[float, float | None, Piece]] = deque()

    def receive_data(self, data: bytes, now: float) -> None:
        # The draw belongs to the byte offset, so that it does not depend on earlier chunks.
        self._line.append((now, self._draws.at(self._offset), data))
        self._offset += len(data)
        self.held_bytes += len(data)

    def receive_eof(self, now: float) -> None:
        self._line.append((now, None, EOF))

    def next_due(self) -> float | None:
        return self._due() if self._line else None

    def _due(self) -> float:
        arrived, draw, _ = self._line[0]
        return arrived if draw is None else arrived + self._delay_s(draw)

    def _delay_s(self, draw: float) -> float:
        jitter = self._toxic.jitter_ms
        delay_ms = self._toxic.latency_ms + int(draw * 2 * jitter) - jitter
        return max(0, delay_ms) / 1000

    def advance(self, now: float) -> list[Piece]:
        due: list[Piece] = []
        while self._line and self._due() <= now:
            arrived, _, piece = self._line.popleft()
            if isinstance(piece, bytes):
                self.held_bytes -= len(piece)
                if now > arrived:
                    self.touch("delayed", len(piece))
            due.append(piece)
        return due

    def change(self, toxic: Latency, now: float) -> None:
        self._toxic = toxic

    def drain(self) -> list[Piece]:
        rest = [piece for _, _, piece in self._line]
        self._line.clear()
        self.held_bytes = 0
        return rest
