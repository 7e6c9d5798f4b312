"""
A recorder that also notes on which loops a test worked, to find the tasks it left there.

A task is a test's own if it began in the test's context: those of fixtures, and those that
a server of a fixture begins while the test runs, did not.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import Context
from typing import Any, Final, Unpack

import pytest

from harness.client.exchange import Exchange
from harness.errors import InvalidValue
from harness.history import OpWords, Recorder
from harness.pytest_plugin.state import TEST

__all__ = ["Watch", "begun_by", "loops_of", "shown"]

# What reads for a session; the session itself is looked at.
_READER: Final = Exchange.listen.__qualname__


class Watch:
    """
    Passes ops on, and notes the loop they come from.

    Args:
        recorder: Where ops go.
        item: The test.
    """

    def __init__(self, recorder: Recorder, item: pytest.Item) -> None:
        self._recorder = recorder
        self._item = item
        # Ops come from the test's thread and from ours.
        self._lock = threading.Lock()
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._over = False

    def record(self, **op: Unpack[OpWords]) -> None:
        """
        Append one op.

        Raises:
            InvalidValue: If it begins something after the test.
        """
        try:
            self.meet(asyncio.get_running_loop())
        except RuntimeError:
            # A plain test.
            pass
        if self._over:
            if op["type"] != "invoke":
                # The end of something that was left behind.
                return
            raise InvalidValue(
                f"{op['process']} {op['f']}: the test it was made for is over",
                [("next", "make it in the test, or in a fixture of scope function")],
            )
        self._recorder.record(**op)

    def end(self) -> None:
        """Take no more ops."""
        self._over = True

    def meet(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for tasks on this loop, too."""
        with self._lock:
            self._loops.add(loop)

    def begun(self) -> list[asyncio.Task[Any]]:
        """The tasks that the test began and that have not ended."""
        with self._lock:
            loops = [loop for loop in self._loops if not loop.is_closed()]
        return [task for loop in loops for task in begun_by(self._item, loop)]


def begun_by(item: pytest.Item, loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """The tasks that a test began on a loop, and that have not ended."""
    return [
        task
        for task in asyncio.all_tasks(loop)
        if any(context.get(TEST) is item for context in _contexts(task))
        and getattr(task.get_coro(), "__qualname__", "") != _READER
    ]


def loops_of(request: pytest.FixtureRequest) -> list[asyncio.AbstractEventLoop]:
    """
    The loops that pytest-asyncio has for a test.

    Its runners are fixtures. One that was asked for here, before ours, is put away after
    ours: so there is a moment when fixtures have put their tasks away, and the loop still
    knows those that nobody did.
    """
    names = [name for name in request.fixturenames if name.endswith("_scoped_runner")]
    runners = [request.getfixturevalue(name) for name in names]
    return [runner.get_loop() for runner in runners if isinstance(runner, asyncio.Runner)]


def _contexts(task: asyncio.Task[Any]) -> Iterator[Context]:
    """The context that a task began in; before 3.12 it does not say, but refers to it."""
    if sys.version_info >= (3, 12):
        yield task.get_context()
    else:
        yield from (each for each in gc.get_referents(task) if isinstance(each, Context))


def shown(task: asyncio.Task[Any]) -> str:
    """A task by its name and its coroutine's."""
    coroutine = getattr(task.get_coro(), "__qualname__", None)
    return task.get_name() if coroutine is None else f"{task.get_name()} ({coroutine})"
