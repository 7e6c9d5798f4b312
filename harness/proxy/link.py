"""
One direction of one proxied connection: a chain of toxics.

No sockets and no clock here. A relay feeds bytes with the time they arrived,
and asks what is due. Tests do the same with made-up times.

Rule: a change of the chain loses no byte that a toxic did not mean to lose.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.faults.base import EOF, RESET, End, Piece, Pipe, Touch, Toxic

__all__ = ["Link"]


@dataclass
class _Stage:
    name: str
    pipe: Pipe
    ended: bool = False


class Link:
    """
    The chain, from the socket that is read to the socket that is written.

    Attributes:
        straight: No toxic stands here and nothing waits: bytes need not pass through.
        ended: The end has left the chain; whatever still arrives is thrown away.
    """

    def __init__(self) -> None:
        self._stages: list[_Stage] = []
        self._out: list[Piece] = []
        # Of toxics that were removed before anybody asked.
        self._touches: list[tuple[str, Touch]] = []
        self.straight = True
        self.ended = False

    @property
    def wants_more(self) -> bool:
        """Whether every toxic can take more bytes; if not, stop reading the source."""
        return not any(stage.pipe.full for stage in self._stages)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the source."""
        self._feed(0, data, now)

    def receive_eof(self, now: float) -> None:
        """Take the end of the source."""
        self._feed(0, EOF, now)

    def next_due(self) -> float | None:
        """When `advance` will have something to give, None if not by waiting alone."""
        dues = [due for stage in self._stages if (due := stage.pipe.next_due()) is not None]
        return min(dues, default=None)

    def advance(self, now: float) -> list[Piece]:
        """What is due, in order. An `End` is the last thing that ever comes out."""
        for index, stage in enumerate(self._stages):
            for piece in stage.pipe.advance(now):
                self._leave(index, stage, piece, now)
        out, self._out = self._out, []
        self._settle()
        return out

    def add(self, name: str, pipe: Pipe, *, index: int | None = None) -> None:
        """Put a toxic into the chain, at its end unless told where."""
        self._stages.insert(len(self._stages) if index is None else index, _Stage(name, pipe))
        self._settle()

    def change(self, name: str, toxic: Toxic, now: float) -> None:
        """Give a toxic of the chain other attributes."""
        self._stages[self._index(name)].pipe.change(toxic, now)

    def remove(self, name: str, now: float) -> None:
        """Take a toxic out; what it held moves on to its neighbour."""
        index = self._index(name)
        stage = self._stages[index]
        for piece in stage.pipe.drain():
            self._leave(index, stage, piece, now)
        self._touches.extend((name, touch) for touch in stage.pipe.touches)
        del self._stages[index]
        self._settle()

    def names(self) -> list[str]:
        """The toxics of the chain, in order."""
        return [stage.name for stage in self._stages]

    def take_touches(self) -> list[tuple[str, Touch]]:
        """What the toxics did since this was last asked, each with the toxic's name."""
        taken, self._touches = self._touches, []
        for stage in self._stages:
            if stage.pipe.touches:
                taken.extend((stage.name, touch) for touch in stage.pipe.touches)
                stage.pipe.touches.clear()
        return taken

    def _index(self, name: str) -> int:
        return self.names().index(name)

    def _feed(self, index: int, piece: Piece, now: float) -> None:
        if self.ended:
            return
        if piece is RESET or index == len(self._stages):
            # A reset waits for nobody: it destroys what stages behind it still hold.
            self._out.append(piece)
            self.straight = False
            self.ended = isinstance(piece, End)
        elif isinstance(piece, bytes):
            self._stages[index].pipe.receive_data(piece, now)
        else:
            self._stages[index].pipe.receive_eof(now)

    def _leave(self, index: int, stage: _Stage, piece: Piece, now: float) -> None:
        if not stage.ended:
            stage.ended = isinstance(piece, End)
            self._feed(index + 1, piece, now)

    def _settle(self) -> None:
        self.straight = not self._stages and not self._out and not self.ended
