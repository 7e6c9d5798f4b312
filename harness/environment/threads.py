"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from harness.environment.clean_up import put_away

__all__ = ["in_thread", "in_thread_or_not"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """
    Carry out blocking work in a thread, to its end.

    Whoever is cancelled meanwhile is so when the work has ended: it cannot be broken off, and
    what it makes must not appear after everything was put away. The work bounds itself.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **options))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Its own error, if it has one, is of no interest any more; it must be fetched, though.
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()


async def in_thread_or_not(work: Callable[[], T], *, break_off: Callable[[], None]) -> T:
    """
    Carry out blocking work that may take minutes in a thread.

    Args:
        work: The work.
        break_off: Makes it end soon, from whatever thread. Whoever is cancelled meanwhile calls
            it, and is so when the work has ended.
    """
    task = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as error:
        break_off()
        await put_away(error, task)
        raise
