"""
A private event loop in a thread: where synchronous fixtures do asynchronous things.

A test's own loop may be of any kind and may be running while a fixture is asked for,
so nothing of ours is ever done on it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

__all__ = ["Portal"]

T = TypeVar("T")

_CLEAN_UP_S: Final = 10.0


class Portal:
    """
    A loop in a thread of its own, from construction until `close`.

    Attributes:
        loop: The loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        # A daemon thread: a second Ctrl-C must be able to end the process.
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="harness portal", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
        """
        Carry out a coroutine there and wait for it.

        Interrupted (Ctrl-C, a time limit of the test), it is cancelled, and given ten seconds
        to clean up after itself.

        Raises:
            TimeoutError: If it does not end within `within_s` seconds.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(within_s)
        except BaseException:
            # A future counts as done once it is cancelled, its task when it has cleaned up.
            if future.cancel():
                asyncio.run_coroutine_threadsafe(_all_ended(), self.loop).result(2 * _CLEAN_UP_S)
            raise

    def left_over(self) -> list[str]:
        """The names of tasks that still run there; they are cancelled."""
        return asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(_CLEAN_UP_S)

    def close(self) -> None:
        """End the loop and its thread."""
        self.left_over()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLEAN_UP_S)
        if not self._thread.is_alive():
            self.loop.close()


def _others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def _all_ended() -> None:
    if tasks := _others():
        await asyncio.wait(tasks, timeout=_CLEAN_UP_S)


async def _cancel_all() -> list[str]:
    tasks = _others()
    for task in tasks:
        task.cancel()
    await _all_ended()
    return sorted(task.get_name() for task in tasks)
