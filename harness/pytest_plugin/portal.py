"""
A private event loop in a thread: where synchronous fixtures do asynchronous things.

A test's own loop may be of any kind and may be running while a fixture is asked for,
so nothing of ours is ever done on it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Coroutine
from concurrent import futures
from typing import Any, Final, Generic, TypeVar

from harness.errors import EnvironmentFailed, InvalidValue

__all__ = ["Portal"]

T = TypeVar("T")

_CLEAN_UP_S: Final = 10.0


class _Job(Generic[T]):
    """
    A coroutine that somebody in another thread waits for.

    Attributes:
        end: How it ended. Nothing of it runs any more when this is known.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.end: futures.Future[T] = futures.Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """On the loop: set it going."""
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self.end.set_result(task.result())
        else:
            self.end.set_exception(error)

    def cancel(self) -> None:
        """On the loop: nobody waits for it any more."""
        if self._task is not None:
            self._task.cancel()
            return
        # The interruption came before anybody set it going.
        self._work.close()
        self.end.cancel()
        # `futures.wait` sees a future that was cancelled only when it was told so.
        self.end.set_running_or_notify_cancel()


class Portal:
    """
    A loop in a thread of its own, from construction until `close`.

    Attributes:
        loop: The loop.
    """

    def __init__(self) -> None:
        # A fork of this process has the portal, but not its thread.
        self._pid = os.getpid()
        # Not of the policy's making: a project may have set any.
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._closing = False
        # Whether something there did not end when it was cancelled.
        self._stuck = False
        # A daemon thread: a second Ctrl-C must be able to end the process.
        self._thread = threading.Thread(target=self._serve, name="harness portal", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # Of a coroutine: whoever waits for it gets it, and the loop goes on for others.
                continue

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
        """
        Carry out a coroutine there and wait for it.

        Interrupted (Ctrl-C, a time limit of the test), it is cancelled, and given ten seconds
        to clean up after itself.

        Raises:
            InvalidValue: If it is no coroutine, or is to be waited for on this very loop.
            TimeoutError: If it does not end within `within_s` seconds.
            EnvironmentFailed: If the loop is blocked.
        """
        __tracebackhide__ = True
        self._look_at(work)
        job = _Job(work)
        try:
            self.loop.call_soon_threadsafe(job.begin)
            try:
                return job.end.result(within_s)
            except futures.TimeoutError:
                if job.end.done():
                    return job.end.result()
                what = getattr(work, "__qualname__", "the coroutine")
                raise TimeoutError(f"{what} did not end within {within_s:g} s") from None
        except BaseException:
            if not job.end.done():
                self.loop.call_soon_threadsafe(job.cancel)
                self._stuck = not futures.wait([job.end], timeout=_CLEAN_UP_S).done
            raise

    def _look_at(self, work: object) -> None:
        if not asyncio.iscoroutine(work):
            raise InvalidValue(
                f"{work!r} is no coroutine",
                [("next", "call the coroutine function: run(story()), not run(story)")],
            )
        trouble: Exception | None = None
        if self.loop.is_closed():
            trouble = InvalidValue("the session is over: no coroutine is carried out any more")
        elif os.getpid() != self._pid:
            trouble = InvalidValue("a fork of pytest's process cannot use the harness's fixtures")
        elif threading.current_thread() is self._thread:
            trouble = InvalidValue(
                "a coroutine that the harness carries out cannot wait for another one there",
                [("next", "await it, and use `async with` instead of `with`")],
            )
        elif self._stuck and not self._answers():
            trouble = EnvironmentFailed(
                f"the harness's loop has not answered for {_CLEAN_UP_S:g} s: something blocks it",
                [("next", "see that no coroutine given to harness_run blocks its thread")],
            )
        if trouble is not None:
            work.close()
            raise trouble

    def _answers(self) -> bool:
        answered = threading.Event()
        self.loop.call_soon_threadsafe(answered.set)
        self._stuck = not answered.wait(_CLEAN_UP_S)
        return not self._stuck

    def cancel(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Have tasks of this loop end."""
        self.run(_cancel(tasks))

    def close(self) -> None:
        """End the loop and its thread, and all that runs there."""
        try:
            self.run(_cancel_all())
        finally:
            self._closing = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(_CLEAN_UP_S)
            if not self._thread.is_alive():
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.close()


async def _cancel_all() -> None:
    await _cancel([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLEAN_UP_S)
