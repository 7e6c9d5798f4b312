"""Putting things away: every step, whatever happens, and the first error stays the first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

__all__ = ["begin", "notes_of", "put_away", "side_by_side"]


def notes_of(error: BaseException) -> list[str]:
    """What was added to an error on its way."""
    return list(getattr(error, "__notes__", ()))


async def put_away(first: BaseException | None, *steps: Awaitable[object]) -> None:
    """
    Carry out clean-up steps, all of them, whatever happens.

    A cancellation that comes meanwhile waits until they are done. What goes wrong here
    never hides the error that was first: it becomes a note on it.

    Raises:
        BaseException: The error of the first step that failed, where `first` is None.
    """
    own: BaseException | None = None
    cancelled: asyncio.CancelledError | None = None
    for step in steps:
        task = asyncio.ensure_future(step)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        # One that somebody cancelled has failed like any other; those after it have their turn.
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if failure is None:
            continue
        if first is None and own is None:
            own = failure
        elif failure is not first:
            note = f"while putting away: {str(failure) or type(failure).__name__}"
            (first or own or failure).add_note("\n".join([note, *notes_of(failure)]))
    if cancelled is not None:
        raise cancelled from (first or own)
    if own is not None:
        raise own


def side_by_side(*steps: Coroutine[Any, Any, object]) -> list[asyncio.Task[object]]:
    """Steps begun at once, for `put_away`: each goes on to its end, whatever the others do."""
    return [asyncio.ensure_future(step) for step in steps]


async def begin(*steps: Coroutine[Any, Any, object]) -> None:
    """
    Carry out steps side by side, each to its end, whatever the others do. Whoever is cancelled
    meanwhile has them cancelled, too, and waits for their ends.

    Raises:
        BaseException: The error of the first of them that failed.
    """
    tasks = side_by_side(*steps)
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await put_away(None, _ends_of(tasks))
        raise
    await put_away(None, *tasks)


async def _ends_of(tasks: list[asyncio.Task[object]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            # Of no interest any more; it must be fetched, though.
            task.exception()
