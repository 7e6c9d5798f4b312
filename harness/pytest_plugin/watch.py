"""A recorder that also notes on which loops a test worked, to find the tasks it left there."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from harness.history import OpType, Recorder

__all__ = ["Watch"]


class Watch:
    """
    Passes ops on, and notes the loop they come from.

    Args:
        recorder: Where ops go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # The tasks that were there when the loop was first met are not the test's.
        self._loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, weakref.WeakSet[asyncio.Task[Any]]
        ] = weakref.WeakKeyDictionary()

    def record(
        self,
        *,
        process: str,
        type: OpType,
        f: str,
        value: Any = None,
        error: str | None = None,
        time_ns: int | None = None,
        clock: str | None = None,
        intended_ns: int | None = None,
        key: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Append one op."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            if loop not in self._loops:
                self._loops[loop] = weakref.WeakSet(asyncio.all_tasks(loop))
        self._recorder.record(
            process=process,
            type=type,
            f=f,
            value=value,
            error=error,
            time_ns=time_ns,
            clock=clock,
            intended_ns=intended_ns,
            key=key,
            attempt=attempt,
        )

    def look(self) -> None:
        """The tasks that are there now are not the test's either."""
        for loop in self._loops:
            self._loops[loop] = weakref.WeakSet(asyncio.all_tasks(loop))

    def left(self, *, besides: asyncio.AbstractEventLoop) -> list[str]:
        """
        The tasks that the test began and that have not ended, by name.

        Args:
            besides: A loop that is not the test's.
        """
        return sorted(
            task.get_name()
            for loop, before in self._loops.items()
            if loop is not besides and not loop.is_closed()
            for task in asyncio.all_tasks(loop)
            if task not in before and not task.done() and not task.get_name().endswith(" reader")
        )
