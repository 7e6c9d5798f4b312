"""A loop in a thread: what is waited for there ends, is cancelled, or is told of."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.errors import EnvironmentFailed, InvalidValue
from harness.pytest_plugin import portal as portal_module
from harness.pytest_plugin.portal import Portal


class Interruption(BaseException):
    """As a Ctrl-C, or a time limit of a test."""


@pytest.fixture
def portal() -> Iterator[Portal]:
    """A portal of one's own."""
    made = Portal()
    yield made
    made.close()


@pytest.fixture
def interrupt() -> Iterator[Any]:
    """Interrupts the main thread from any other one."""

    def raised(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR1, raised)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_an_interruption_waits_until_it_has_cleaned_up(portal: Portal, interrupt: Any) -> None:
    """When the interruption comes out, nothing of the coroutine runs any more."""
    said = []

    async def story() -> None:
        try:
            interrupt()
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.sleep(0)
            said.append("clean")

    with pytest.raises(Interruption):
        portal.run(story())

    assert said == ["clean"]


def test_an_interruption_leaves_others_alone(portal: Portal, interrupt: Any) -> None:
    """What else runs there is neither cancelled nor waited for."""
    goes_on = threading.Event()

    async def other() -> None:
        while not goes_on.is_set():
            await asyncio.sleep(0)

    async def story() -> asyncio.Task[None]:
        return asyncio.create_task(other())

    async def hangs() -> None:
        interrupt()
        await asyncio.Event().wait()

    task = portal.run(story())
    with pytest.raises(Interruption):
        portal.run(hangs())

    assert not task.done()
    goes_on.set()


def test_what_was_interrupted_before_it_began_does_not_begin(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed, nobody waits for it, and the loop goes on."""
    began = []

    async def story() -> str:
        began.append("story")
        return "over"

    def interrupted(*_: object) -> None:
        monkeypatch.undo()
        raise Interruption

    monkeypatch.setattr(portal.loop, "call_soon_threadsafe", interrupted)
    never = story()
    with pytest.raises(Interruption):
        portal.run(never)

    assert inspect.getcoroutinestate(never) == inspect.CORO_CLOSED
    # Else its end was waited for, ten seconds, and the loop is taken for blocked.
    assert not portal._stuck
    assert portal.run(story()) == "over"
    assert began == ["story"]


def test_a_context_goes_with_its_coroutine(portal: Portal) -> None:
    """What a test set in its context is there."""
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word")
    word.set("said")

    async def story() -> str:
        return word.get()

    assert portal.run(story()) == "said"


def test_a_loop_that_is_blocked_is_told_of(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever: not the one who blocked it, and not those after him."""
    monkeypatch.setattr(portal_module, "_CLEAN_UP_S", 0.05)
    over = threading.Event()

    async def blocks() -> None:
        over.wait(20)

    async def story() -> int:
        return 7

    with pytest.raises(TimeoutError, match=r"blocks did not end within 1 s"):
        portal.run(blocks(), within_s=1)
    with pytest.raises(EnvironmentFailed, match="something blocks it"):
        portal.run(story())

    over.set()
    # It may take a moment until it answers again.
    monkeypatch.setattr(portal_module, "_CLEAN_UP_S", 10.0)
    assert portal.run(story()) == 7


def test_tasks_are_cancelled_there(portal: Portal) -> None:
    """Those that are named, and no others."""

    async def forever() -> None:
        await asyncio.Event().wait()

    async def story() -> list[asyncio.Task[None]]:
        return [asyncio.create_task(forever()) for _ in range(2)]

    one, other = portal.run(story())
    portal.cancel([one])

    assert one.cancelled()
    assert not other.done()


def test_a_closed_portal_says_so() -> None:
    """A coroutine that comes too late is refused, and closed without a warning."""
    portal = Portal()
    portal.close()

    async def story() -> None:
        pass

    with pytest.raises(InvalidValue, match="the session is over"):
        portal.run(story())
