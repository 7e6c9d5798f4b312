"""
Sliding windows: of the last calls, or of the last seconds.

No clock here. Each completion is recorded with the time it came, and the answer is why
the breaker must open now, or None. The rates are asked after every completion, successes
included: the one that fills the window up to its minimum may be a success.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from harness.resilience.breaker.values import BreakerSettings

__all__ = ["CountWindow", "Rates", "TimeWindow", "Window", "window_of"]

_FAILED: Final = 1
_SLOW: Final = 2


class Rates:
    """
    When a window is bad enough.

    Args:
        minimum_calls: With fewer calls in the window nothing is judged.
        failure_rate: This share of failures, or more, is too many; 0 to 1.
        slow_call_rate: This share of slow calls, or more; None judges none.
    """

    __slots__ = ("failure_rate", "minimum_calls", "slow_call_rate")

    def __init__(
        self, *, minimum_calls: int, failure_rate: float, slow_call_rate: float | None
    ) -> None:
        self.minimum_calls = minimum_calls
        self.failure_rate = failure_rate
        self.slow_call_rate = slow_call_rate

    def why_open(self, *, calls: int, failed: int, slow: int) -> str | None:
        """Why the breaker must open, None where it need not."""
        if calls < self.minimum_calls:
            return None
        # A quotient and the decimal it equals round to the same float, so "0.7" means 7 of 10.
        if failed and failed / calls >= self.failure_rate:
            return f"{failed} of {calls} calls failed"
        rate = self.slow_call_rate
        if rate is not None and slow and slow / calls >= rate:
            return f"{slow} of {calls} calls were slow"
        return None


class Window(Protocol):
    """What a breaker remembers of its calls."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Calls, failed and slow ones in the window, as of its last record."""

    def record(self, now: float, failed: bool, slow: bool) -> str | None:  # noqa: FBT001
        """One call ended at `now`, in seconds; why the breaker must open, or None."""


class CountWindow:
    """
    The last `calls` calls.

    Args:
        rates: When it is bad enough.
        calls: How many it holds.
    """

    def __init__(self, rates: Rates, *, calls: int) -> None:
        self._rates = rates
        self._ends: deque[int] = deque(maxlen=calls)
        self._calls = calls
        self._failed = 0
        self._slow = 0

    @property
    def counts(self) -> tuple[int, int, int]:
        """Calls, failed and slow ones."""
        return len(self._ends), self._failed, self._slow

    def record(self, now: float, failed: bool, slow: bool) -> str | None:  # noqa: FBT001
        """See `Window`. The time is of no account."""
        ends = self._ends
        if len(ends) == self._calls and (oldest := ends[0]):
            self._failed -= oldest & _FAILED
            self._slow -= oldest >> 1
        ends.append(failed | slow << 1)
        self._failed += failed
        self._slow += slow
        if self._failed or self._slow:
            return self._rates.why_open(calls=len(ends), failed=self._failed, slow=self._slow)
        return None


class TimeWindow:
    """
    The calls that ended within the last `window_s` seconds.

    It is kept in `parts` parts, so what it costs does not depend on the rate of calls: a call
    leaves with its whole part, at the latest `window_s` after it ended, and at the earliest one
    part sooner.

    A clock that goes back by a whole window starts it anew: its calls are of another time. By
    less, a call counts as having ended with the newest: threads hand in their times out of order.

    Args:
        rates: When it is bad enough.
        window_s: How long it looks back, in seconds.
        parts: In how many steps it moves on.
    """

    def __init__(self, rates: Rates, *, window_s: float, parts: int = 10) -> None:
        self._rates = rates
        self._part_s = window_s / parts
        self._parts = parts
        # Each part: its number, calls, failed, slow.
        self._kept: deque[list[int]] = deque()
        self._calls = self._failed = self._slow = 0

    @property
    def counts(self) -> tuple[int, int, int]:
        """Calls, failed and slow ones, as of the last record."""
        return self._calls, self._failed, self._slow

    def record(self, now: float, failed: bool, slow: bool) -> str | None:  # noqa: FBT001
        """See `Window`."""
        number = int(now // self._part_s)
        kept = self._kept
        part = kept[-1] if kept and kept[-1][0] == number else self._part_at(number)
        part[1] += 1
        part[2] += failed
        part[3] += slow
        self._calls += 1
        self._failed += failed
        self._slow += slow
        if self._failed or self._slow:
            return self._rates.why_open(calls=self._calls, failed=self._failed, slow=self._slow)
        return None

    def _part_at(self, number: int) -> list[int]:
        kept = self._kept
        if kept and number <= (newest := kept[-1][0]):
            if number > newest - self._parts:
                return kept[-1]
            kept.clear()
            self._calls = self._failed = self._slow = 0
        while kept and kept[0][0] <= number - self._parts:
            _, calls, failed, slow = kept.popleft()
            self._calls -= calls
            self._failed -= failed
            self._slow -= slow
        kept.append([number, 0, 0, 0])
        return kept[-1]


def window_of(settings: BreakerSettings) -> Window | None:
    """The window that a policy judges by, empty; None where it judges by a row of failures."""
    if settings.policy == "consecutive":
        return None
    rates = Rates(
        minimum_calls=settings.minimum_calls,
        failure_rate=settings.failure_rate,
        slow_call_rate=None if settings.slow_call_s is None else settings.slow_call_rate,
    )
    if settings.policy == "count_window":
        return CountWindow(rates, calls=settings.window_calls)
    return TimeWindow(rates, window_s=settings.window_s)
