"""
What happened of late: a bounded row of events that any number may follow.

Whoever follows asks for what came after the last it has. Nobody has a queue of his own, so a slow
one costs nothing, and is told how many it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from harness.clock import clock_id, now_ns
from harness.errors import InvalidValue

__all__ = ["Event", "Events"]

_KEEP: Final = 10_000

Event = Mapping[str, Any]
"""
`seq` (counts from 1, without gaps), `time_ns` (monotonic nanoseconds of `clock`), `clock`, `kind`,
and what else there is to say of it. Of kind "lost": so many (`count`) before the next are
forgotten.
"""


class Events:
    """
    The newest events of one daemon, for one event loop.

    Args:
        keep: How many are kept.

    Raises:
        InvalidValue: If none is.

    Attributes:
        newest: The number of the newest, 0 before the first.
    """

    def __init__(self, *, keep: int = _KEEP) -> None:
        if keep < 1:
            raise InvalidValue(f"{keep} events are to be kept; expected 1 or more")
        self.newest = 0
        self._row: deque[Event] = deque(maxlen=keep)
        self._news: asyncio.Event | None = None
        self._clock = clock_id()

    def note(self, kind: str, about: Mapping[str, Any]) -> None:
        """
        Something happened.

        Args:
            kind: What, in a word or two.
            about: What else there is to say, JSON-able. It is not looked at again.
        """
        self.newest += 1
        self._row.append(self._event(self.newest, kind, about))
        if self._news is not None:
            self._news.set()
            self._news = None

    def since(self, seq: int, *, most: int | None = None) -> list[Event]:
        """
        What came after that number, the oldest first; before it, where some are gone, a "lost".

        Args:
            seq: The number of the last that is known, 0 for none. One that is not reached yet is
                of an earlier life of the daemon: none is known.
            most: No more than so many; None: all.
        """
        known = seq if 0 <= seq <= self.newest else 0
        oldest = self.newest - len(self._row) + 1
        skipped = max(0, known + 1 - oldest)
        found = list(islice(self._row, skipped, None if most is None else skipped + most))
        gone = oldest - known - 1
        if gone > 0:
            found.insert(0, self._event(oldest - 1, "lost", {"count": gone}))
        return found

    async def news(self, seq: int) -> None:
        """Wait until there is something since that number."""
        while self.newest in (0, seq):
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    def _event(self, seq: int, kind: str, about: Mapping[str, Any]) -> Event:
        head = {"seq": seq, "time_ns": now_ns(), "clock": self._clock, "kind": kind}
        # First, to be read first; last, to be what they say.
        return {**head, **about, **head}
