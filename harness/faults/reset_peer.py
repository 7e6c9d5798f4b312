"""A reset: both ends see the connection break."""

from __future__ import annotations

from typing import ClassVar

from harness.clock import Draws
from harness.faults.base import EOF, RESET, Piece, Pipe, Toxic, fault, wire

__all__ = ["ResetPeer"]


@fault
class ResetPeer(Toxic):
    """
    On the first chunk of this direction, break the connection with a TCP reset.

    That chunk is not forwarded. A connection on which nothing moves is left alone.
    In our proxy client and daemon both see the reset, also on a connection that was
    open before the toxic came; Toxiproxy 2.12 ends such a one with a plain FIN.
    Lifted while it still waits, it lets go of what it held.

    Args:
        timeout_ms: Wait so many milliseconds after that chunk.
        stream: "upstream" or "downstream", seen from the client.
        toxicity: The share of connections it affects.

    Raises:
        InvalidValue: If a value is out of range.

    Source: Shopify/toxiproxy toxics/reset_peer.go at f48fd7f.
    """

    type: ClassVar[str] = "reset_peer"
    needs: ClassVar[frozenset[str]] = frozenset({"rst"})

    timeout_ms: int = wire("timeout", default=0)

    def pipe(self, draws: Draws, now: float) -> Pipe:
        """A fuse."""
        return _Fuse(self)


class _Fuse(Pipe):
    def __init__(self, toxic: ResetPeer) -> None:
        super().__init__()
        self._timeout_s = toxic.timeout_ms / 1000
        self._lit: float | None = None
        self._held: list[Piece] = []
        self._fired = False

    def receive_data(self, data: bytes, now: float) -> None:
        if self._fired:
            self.touch("dropped", len(data))
            return
        self._hold(data, now)
        self.held_bytes += len(data)

    def receive_eof(self, now: float) -> None:
        if not self._fired:
            self._hold(EOF, now)

    def _hold(self, piece: Piece, now: float) -> None:
        if self._lit is None:
            self._lit = now
        self._held.append(piece)

    def next_due(self) -> float | None:
        if self._lit is None or self._fired:
            return None
        return self._lit + self._timeout_s

    def advance(self, now: float) -> list[Piece]:
        due = self.next_due()
        if due is None or due > now:
            return []
        self._fired = True
        self.touch("reset", self.held_bytes)
        self._held.clear()
        self.held_bytes = 0
        return [RESET]

    def change(self, toxic: ResetPeer, now: float) -> None:
        self._timeout_s = toxic.timeout_ms / 1000

    def drain(self) -> list[Piece]:
        rest, self._held = self._held, []
        self.held_bytes = 0
        return rest
