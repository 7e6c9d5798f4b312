"""A clock that does not go back, made of one that may."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Steady"]


class Steady:
    """
    A clock that goes on from where it was when the one it reads jumps back.

    Nothing becomes older or younger by such a jump, and nothing waits until it is made up for.

    Args:
        clock: Seconds.
    """

    __slots__ = ("_ahead_s", "_clock", "_now_s", "_read_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._read_s = self._now_s = clock()
        self._ahead_s = 0.0

    def peek(self) -> float:
        """What it says now; for another thread than the one that calls it."""
        read_s = self._clock()
        return max(self._now_s, read_s + self._ahead_s)

    def __call__(self) -> float:
        read_s = self._clock()
        if read_s < self._read_s:
            self._ahead_s += self._read_s - read_s
        self._read_s = read_s
        # A sum of floats may be a hair less than it was.
        self._now_s = max(self._now_s, read_s + self._ahead_s)
        return self._now_s
