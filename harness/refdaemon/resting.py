"""Reading no more for a while after large messages, so that those of one do not hold up all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.clock import now

__all__ = ["Resting"]


class Resting:
    """
    How long a connection is not read any more.

    Args:
        over: Told when it is.
    """

    __slots__ = ("_over", "_until_s")

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        # 0 while it does not rest.
        self._until_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether it rests."""
        return self._until_s > 0

    def extend(self, by_s: float, now_s: float) -> bool:
        """
        Rest for so long, after whatever it rests for already: one read may bring several.

        Returns:
            Whether it begins with that.
        """
        begins = not self.is_on
        self._until_s = max(self._until_s, now_s) + by_s
        if begins:
            self._wait(now_s)
        return begins

    def _wait(self, now_s: float) -> None:
        asyncio.get_running_loop().call_later(self._until_s - now_s, self._look)

    def _look(self) -> None:
        now_s = now()
        if self._until_s > now_s:
            self._wait(now_s)
            return
        self._until_s = 0.0
        self._over()
