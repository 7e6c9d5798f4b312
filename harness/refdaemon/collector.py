"""
When the garbage collector looks at what lives long.

A collection of all of it takes as long as there are sessions: with some thousands everybody's calls
wait for tens of milliseconds, and whoever opens connections as fast as he can brings that about. So
what has lived through one is set aside, and looked at again only once in a while. Most of what ends
is freed by its counts of references; what is left is the cycles of connections that are gone.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from harness.clock import now

__all__ = ["Collector"]

_LOOK_S: Final = 0.2

_WHOLE_S: Final = 300.0
_NEVER: Final = 2**30


class Collector:
    """Sets the collector's pace, from `start` to `stop`."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._before = gc.get_threshold()
        self._whole_s = 0.0

    def start(self) -> None:
        """What is there now is the program: set it aside."""
        self._before = gc.get_threshold()
        youngest, middle, _ = self._before
        gc.set_threshold(youngest, middle, _NEVER)
        gc.freeze()
        self._whole_s = now()
        self._wait()

    def stop(self) -> None:
        """As it was."""
        if self._timer is not None:
            self._timer.cancel()
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        if now() - self._whole_s >= _WHOLE_S:
            self._whole_s = now()
            gc.unfreeze()
            self._collect()
        elif gc.get_count()[2]:
            # Some thousands of objects have come.
            self._collect()
        self._wait()

    def _collect(self) -> None:
        gc.collect()
        gc.freeze()
