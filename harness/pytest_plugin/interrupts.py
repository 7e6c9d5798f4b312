"""What ends a session from outside."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

__all__ = ["ended_with_parent", "sigterm_as_ctrl_c", "through_an_alarm"]

_PARENT_CHECK_S: Final = 0.2
_TAKEN: Final = "harness: SIGTERM, taken as Ctrl-C, so that what was started is put away"


def through_an_alarm(work: Callable[[], None]) -> None:
    """
    Carry out a part of a report. Where the test's time limit rings meanwhile it is carried out
    again: what the limit was for is over, and it rings once. Nobody else would catch it there.
    """
    try:
        work()
    except pytest.fail.Exception:
        work()


@contextmanager
def sigterm_as_ctrl_c(tell: Callable[[str], None]) -> Iterator[None]:
    """
    SIGTERM would end pytest without any tear-down: make it the Ctrl-C that it is meant as.

    Whoever minds it already is left alone.

    Args:
        tell: Keeps a line for the end of the session; called in a signal handler.
    """

    own = os.getpid()

    def as_ctrl_c(*_: object) -> None:
        if os.getpid() != own:
            # A fork, which has nothing of ours to put away.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        tell(_TAKEN)
        if not callable(signal.getsignal(signal.SIGINT)):
            # In the background of a script Ctrl-C is ignored, and asyncio leaves it so.
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, as_ctrl_c)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is as_ctrl_c:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def ended_with_parent() -> Iterator[None]:
    """
    A worker of pytest-xdist whose controller is gone notices it after its test, if ever:
    have it end by SIGTERM.
    """
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(_PARENT_CHECK_S):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="harness parent watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
