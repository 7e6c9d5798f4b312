"""
What many calls came to, in figures.

Every call is in them, those without a reply too, with the time until that was known: a
percentile of successes alone is best where most calls fail.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from harness.resilience.histogram import Histogram

__all__ = ["Results", "Tally"]


@dataclass(frozen=True, kw_only=True)
class Results:
    """
    The calls of one client. Times in milliseconds from the intended start; None without calls.

    Mean, least, most and deviation are exact; median and percentiles, by the nearest rank, are
    at most 0.8 % too high.

    Attributes:
        calls: How many have ended.
        ok: Answered, tools that failed inside included.
        failed: Certainly did not happen.
        unknown: May have happened.
        retries: Attempts beyond the first.
        reconnections: Connections beyond the first.
        mean_ms: The mean.
        median_ms: Half took at most this.
        min_ms: The shortest.
        max_ms: The longest.
        stdev_ms: The standard deviation of the sample; None of fewer than two calls.
        p50_ms: The median, once more, beside its like.
        p95_ms: 95 % took at most this.
        p99_ms: 99 % took at most this.
        cv: The coefficient of variation: `stdev_ms` by `mean_ms`.
    """

    calls: int
    ok: int
    failed: int
    unknown: int
    retries: int
    reconnections: int
    mean_ms: float | None
    median_ms: float | None
    min_ms: float | None
    max_ms: float | None
    stdev_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    cv: float | None


class Tally:
    """
    Calls counted as they end, in memory that does not grow with them.

    Attributes:
        retries: Attempts beyond the first.
        reconnections: Connections beyond the first.
    """

    def __init__(self) -> None:
        self.retries = self.reconnections = 0
        self._ends: Counter[str] = Counter()
        self._times = Histogram()
        self._min_ms, self._max_ms = math.inf, 0.0
        # Welford's: the sum of squares would lose what small deviations are made of.
        self._count = 0
        self._mean_ms = self._squares = 0.0

    def ended(self, how: Literal["ok", "failed", "unknown"], elapsed_ms: float) -> None:
        """A call ended in this way, after so many milliseconds."""
        self._ends[how] += 1
        self._times.record(int(elapsed_ms * 1e6))
        self._min_ms = min(self._min_ms, elapsed_ms)
        self._max_ms = max(self._max_ms, elapsed_ms)
        self._count += 1
        off_ms = elapsed_ms - self._mean_ms
        self._mean_ms += off_ms / self._count
        self._squares += off_ms * (elapsed_ms - self._mean_ms)

    def results(self) -> Results:
        """The figures so far."""
        count = self._count
        stdev_ms = math.sqrt(self._squares / (count - 1)) if count > 1 else None
        mean_ms = self._mean_ms if count else None
        return Results(
            calls=count,
            ok=self._ends["ok"],
            failed=self._ends["failed"],
            unknown=self._ends["unknown"],
            retries=self.retries,
            reconnections=self.reconnections,
            mean_ms=mean_ms,
            median_ms=self._at(50),
            min_ms=self._min_ms if count else None,
            max_ms=self._max_ms if count else None,
            stdev_ms=stdev_ms,
            p50_ms=self._at(50),
            p95_ms=self._at(95),
            p99_ms=self._at(99),
            cv=stdev_ms / mean_ms if stdev_ms is not None and mean_ms else None,
        )

    def _at(self, percent: float) -> float | None:
        at_ns = self._times.percentile(percent)
        # A bucket's end may lie beyond the longest there was.
        return None if at_ns is None else min(at_ns / 1e6, self._max_ms)
