"""
Set-up that failed for a foreign reason, tried again: a few times, with growing pauses, counted.

Only set-up. The body of a test is never carried out a second time, nor is a daemon under test
that does not start started again: both would hide what is looked for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

from harness.clock import Draws, fresh_seed, now
from harness.errors import EnvironmentFailed

__all__ = ["Again", "backoff_s"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS: Final = 3
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 20.0


class Again:
    """
    Attempts, and how many of them there were.

    Args:
        tell: Takes a line for a person, where one is there.
        first_wait_s: About how long the first pause is, in seconds (default: 1).
        within_s: No attempt begins later than so many seconds after the first.

    Attributes:
        told: A line for each attempt that was made again.
    """

    def __init__(
        self,
        *,
        tell: Callable[[str], None] | None = None,
        first_wait_s: float | None = None,
        within_s: float = float("inf"),
    ) -> None:
        self.told: list[str] = []
        self._tell = tell
        self._first_wait_s = _FIRST_WAIT_S if first_wait_s is None else first_wait_s
        self._within_s = within_s
        self._draws = Draws(fresh_seed(), "again")

    def attempt(
        self,
        what: str,
        work: Callable[[], T],
        *,
        passes: Callable[[EnvironmentFailed], bool],
    ) -> T:
        """
        Do something until it succeeds. Blocks.

        Args:
            what: What is done, in words.
            passes: Whether another attempt could mend it.

        Raises:
            EnvironmentFailed: That of the last attempt.
        """
        began = now()
        for number in count(1):
            try:
                return work()
            except EnvironmentFailed as error:
                if not passes(error):
                    raise _after(error, number) from None
                pause_s = self.pause_s(what, number, error, since=began)
                _wait(pause_s)
        raise AssertionError("the last attempt returned or raised")

    def pause_s(self, what: str, number: int, error: EnvironmentFailed, *, since: float) -> float:
        """
        How long to wait before the next attempt; it is counted and told.

        Args:
            number: That of the attempt that failed, from 1.
            error: How it failed.
            since: When the first one began, in seconds of the monotonic clock.

        Raises:
            EnvironmentFailed: That error, if it was the last one.
        """
        pause_s = backoff_s(number, self._draws.at(f"{what} {number}"), first_s=self._first_wait_s)
        if number == _ATTEMPTS or now() + pause_s - since > self._within_s:
            raise _after(error, number) from None
        said = f"attempt {number} of {_ATTEMPTS} failed, again in {pause_s:.1f} s"
        line = f"{what}: {said}: {error.headline.removeprefix(f'{what}: ')}"
        self.told.append(line)
        if self._tell is not None:
            self._tell(line)
        logger.info("%s: %s: %s", what, said, error)
        return pause_s


def backoff_s(number: int, draw: float, *, first_s: float = _FIRST_WAIT_S) -> float:
    """The pause after an attempt, in seconds: twice as long each time, half to one and a half."""
    longest_s: float = first_s * 2 ** (number - 1)
    return min(_LONGEST_WAIT_S, longest_s) * (0.5 + draw)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _after(error: EnvironmentFailed, number: int) -> EnvironmentFailed:
    if number > 1:
        error.headline += f" ({number} attempts)"
    return error
