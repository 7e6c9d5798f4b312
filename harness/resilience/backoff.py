"""
How long to wait before the next try, and whether there may be one.

No clock and no chance here: times are handed in, draws come from the run's seed.

Rule: only a connection that proved itself ends a row of failures. A daemon that accepts
and closes at once would otherwise be connected to as fast as a loop can run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from harness.clock import Draws
from harness.resilience.settings import Settings, key

__all__ = ["Backoff", "RetryBudget", "RetrySettings"]

# Tokens are counted in thousandths, so that ten successes of 0.1 make a whole one.
_UNIT: Final = 1000


@dataclass(frozen=True, kw_only=True)
class RetrySettings(Settings):
    """How a client, or a daemon towards its provider, tries again."""

    attempts: int = key(
        3,
        low=1,
        high=1_000,
        about="how often one call is tried in all",
        variable="EXAI_RETRY_ATTEMPTS",
        advice="1 never repeats a call",
    )
    base_s: float = key(
        0.1,
        above=0,
        high=3_600,
        about="the first wait is at most this, or about this where decorrelated",
        advice="about what a healthy daemon needs for a call",
    )
    cap_s: float = key(
        30.0, above=0, high=86_400, about="no wait is longer", variable="EXAI_RETRY_MAX_DELAY_S"
    )
    multiplier: float = key(2.0, low=1, high=100, about="how much longer each wait may be")
    jitter: Literal["full", "decorrelated", "none"] = key(
        "full",
        about="how chance spreads the waits of many clients",
        advice='"none" only where one client is all there is: a herd stays a herd',
    )
    proof_s: float = key(
        5.0,
        low=0,
        high=86_400,
        about="a connection that brought an answer this long after it opened ends the row of"
        " failures",
        advice="longer than a daemon lives that dies of its first call",
    )
    budget: float = key(
        10.0,
        low=0,
        high=1_000_000,
        about="how many calls may be repeated at once, when all is well",
        advice="0 repeats none; a storm of repeats is what keeps a recovering daemon down",
    )
    budget_per_success: float = key(
        0.1,
        low=0,
        high=1_000,
        about="what a success gives back to the budget",
        advice="0.1 lets one call in ten be repeated",
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        if self.cap_s < self.base_s:
            yield (
                ("cap_s", "base_s"),
                f"{self.cap_s:g} is less than the first wait, base_s {self.base_s:g}",
            )


class Backoff:
    """
    The waits of one client between its connections.

    Full jitter: a draw between 0 and the present bound, which grows from `base_s` by `multiplier`
    up to `cap_s`. Decorrelated jitter: a draw between `base_s` and three times the last wait, up to
    `cap_s`. Both as in M. Brooker, "Exponential Backoff And Jitter" (2015).

    Args:
        settings: Its figures.
        draws: This client's stream of chance; the n-th wait of a life is drawn at place n.

    Attributes:
        failures: How many waits there were since a connection proved itself.
    """

    def __init__(self, settings: RetrySettings, *, draws: Draws) -> None:
        self._settings = settings
        self._draws = draws
        self._drawn = 0
        self._last_s = settings.base_s
        self._opened_s: float | None = None
        self.failures = 0

    @property
    def bound_s(self) -> float:
        """The longest the next wait can be, in seconds."""
        settings = self._settings
        if settings.jitter == "decorrelated":
            return min(settings.cap_s, max(settings.base_s, self._last_s * 3))
        try:
            return min(settings.cap_s, settings.base_s * settings.multiplier**self.failures)
        except OverflowError:
            return settings.cap_s

    def next_s(self) -> float:
        """How long to wait now, in seconds. Each question is a failure more."""
        settings, bound_s = self._settings, self.bound_s
        self.failures += 1
        self._opened_s = None
        if settings.jitter == "none":
            return bound_s
        draw = self._draws.at(self._drawn)
        self._drawn += 1
        if settings.jitter == "full":
            return draw * bound_s
        self._last_s = settings.base_s + draw * (bound_s - settings.base_s)
        return self._last_s

    def opened(self, now_s: float) -> None:
        """A connection came about. That alone proves nothing."""
        self._opened_s = now_s

    def answered(self, now_s: float) -> None:
        """The connection brought an answer; late enough, it has proved itself."""
        if self._opened_s is None:
            return
        # One that went back: the proof begins anew, and is not put off for ever.
        self._opened_s = min(self._opened_s, now_s)
        if now_s - self._opened_s >= self._settings.proof_s:
            self.failures = 0
            self._last_s = self._settings.base_s

    def adopt(self, settings: RetrySettings) -> None:
        """Go by other settings from now on; the row of failures stays."""
        self._settings = settings


class RetryBudget:
    """
    How many calls may be repeated: a bucket of tokens that successes fill.

    A repeat takes one token, a success gives `budget_per_success` back, up to `budget`. So in
    the long run repeats are a share of the successes, however many clients there are, where a
    fixed number of attempts multiplies the load of a daemon that is down by that number.

    Source: M. Brooker, "Fixing retries with token buckets and
    circuit breakers" (2022).

    Args:
        settings: Its figures.

    Attributes:
        spent: How many repeats it allowed.
        refused: How many it did not.
    """

    def __init__(self, settings: RetrySettings) -> None:
        self.spent = 0
        self.refused = 0
        self._most = self._tokens = round(settings.budget * _UNIT)
        self._gain = round(settings.budget_per_success * _UNIT)

    def adopt(self, settings: RetrySettings) -> None:
        """Go by other settings from now on; what is above the new bound is lost."""
        self._most = round(settings.budget * _UNIT)
        self._gain = round(settings.budget_per_success * _UNIT)
        self._tokens = min(self._tokens, self._most)

    @property
    def left(self) -> float:
        """Repeats that may be made now."""
        return self._tokens / _UNIT

    def succeeded(self) -> None:
        """A call went well."""
        self._tokens = min(self._most, self._tokens + self._gain)

    def take(self) -> bool:
        """Whether a call may be repeated; if so, that is spent."""
        if self._tokens < _UNIT:
            self.refused += 1
            return False
        self._tokens -= _UNIT
        self.spent += 1
        return True
