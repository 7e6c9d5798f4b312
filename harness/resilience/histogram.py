"""
How long things took: counts in buckets whose width grows with the value.

Log-linear: each octave has 128 buckets, so a value read back is at most 0.8 % above the one
recorded, whatever its size. Below 256 ns every nanosecond has a bucket. Two histograms are
merged by adding, exactly, and the order of arrival does not matter.

No clock here, and no lock: one thread records. Rule: rows are never replaced, for those on a
hot path keep them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import Final

from harness.errors import InvalidValue

__all__ = ["LIMIT_NS", "SIZE", "Distribution", "Histogram", "bounds_ns"]

# A value of more than 8 bits keeps its first 8: an octave's 128 buckets.
_BITS: Final = 8
_AN_OCTAVE: Final = 1 << (_BITS - 1)
_OCTAVES: Final = 35
"""How many there are above the numbers of 8 bits."""

LIMIT_NS: Final = 1 << (_BITS + _OCTAVES)
"""What is as long as this, 2.4 hours, is counted in the last bucket, and as an overflow."""

SIZE: Final = (_OCTAVES + 2) * _AN_OCTAVE
"""How many buckets there are."""


def bounds_ns(index: int) -> tuple[int, int]:
    """The least and the most that a bucket holds, in nanoseconds."""
    shift = max(0, index // _AN_OCTAVE - 1)
    low = (index - shift * _AN_OCTAVE) << shift
    return low, low + (1 << shift) - 1


@dataclass(frozen=True)
class Distribution:
    """
    What a histogram held at one moment.

    Attributes:
        buckets: Index and count of each bucket that is not empty, the least first.
        total_ns: The sum of what was recorded, exact.
        overflows: How many values were longer than a histogram tells apart.
        negatives: How many were below 0, from a clock that jumped; they are counted as 0.
    """

    buckets: tuple[tuple[int, int], ...] = ()
    total_ns: int = 0
    overflows: int = 0
    negatives: int = 0

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(count for _, count in self.buckets)

    @property
    def low_ns(self) -> int | None:
        """The lower end of the bucket with the least value; None where there is none."""
        return bounds_ns(self.buckets[0][0])[0] if self.buckets else None

    @property
    def high_ns(self) -> int | None:
        """The upper end of the bucket with the greatest value; None where there is none."""
        return bounds_ns(self.buckets[-1][0])[1] if self.buckets else None

    @property
    def mean_ns(self) -> float | None:
        """The mean, exact; None where there is none."""
        count = self.count
        return self.total_ns / count if count else None

    def percentile(self, percent: float) -> int | None:
        """
        What so many percent of the values do not exceed, in nanoseconds, by nearest rank.

        It is the upper end of a bucket: at most 0.8 % above the value of that rank.

        Args:
            percent: 0 to 100; 0 is the least value.

        Returns:
            None where nothing was recorded.

        Raises:
            InvalidValue: If `percent` is out of range.
        """
        if not 0 <= percent <= 100:
            raise InvalidValue(f"percentile {percent}: expected 0 to 100")
        # As written: 99.9 is a little more than that as a float, and would be the next rank.
        rank = max(1, ceil(Fraction(str(percent)) * self.count / 100))
        cumulated = accumulate(count for _, count in self.buckets)
        for (index, _), so_far in zip(self.buckets, cumulated, strict=True):
            if so_far >= rank:
                return bounds_ns(index)[1]
        return None

    def since(self, earlier: Distribution) -> Distribution:
        """What was recorded after an earlier moment of the same histogram."""
        before = dict(earlier.buckets)
        later = ((index, count - before.get(index, 0)) for index, count in self.buckets)
        return Distribution(
            buckets=tuple((index, count) for index, count in later if count),
            total_ns=self.total_ns - earlier.total_ns,
            overflows=self.overflows - earlier.overflows,
            negatives=self.negatives - earlier.negatives,
        )

    def counts_below(self, bounds: Iterable[int]) -> list[int]:
        """
        For each bound, how many values lie in buckets that end below it, in nanoseconds.

        Exact for powers of two, where a bucket begins.
        """
        ends = [bounds_ns(index)[1] for index, _ in self.buckets]
        cumulated = [0, *accumulate(count for _, count in self.buckets)]
        return [cumulated[bisect_left(ends, bound)] for bound in bounds]


class Histogram:
    """
    Counts values as they come.

    Attributes:
        rows: By a value's number of bits, its octave's counts and by how many bits a value is
            shifted to find its own there. Small numbers alone are made on the way: a shift
            and an index into one long list would take twice as long.
        total_ns: The sum of what was recorded, exact.
        overflows: How many values reached `LIMIT_NS`.
        negatives: How many were below 0; they are counted as 0.
    """

    __slots__ = ("negatives", "overflows", "rows", "total_ns")

    def __init__(self) -> None:
        small = ([0] * 2 * _AN_OCTAVE, 0)
        octaves = [([0] * 2 * _AN_OCTAVE, shift) for shift in range(1, _OCTAVES + 1)]
        self.rows = [small] * (_BITS + 1) + octaves
        self.total_ns = 0
        self.overflows = 0
        self.negatives = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.snapshot() == other.snapshot()

    __hash__ = None  # type: ignore[assignment]

    def record(self, value_ns: int) -> None:
        """Count a value. `ClientFigures.sent` has a copy of this, to save a call."""
        if value_ns < 0:
            value_ns = self.negative()
        try:
            row, shift = self.rows[value_ns.bit_length()]
            row[value_ns >> shift] += 1
        except IndexError:
            self.overflow()
        self.total_ns += value_ns

    def negative(self) -> int:
        """Take note of a value below 0; returns what it counts as."""
        self.negatives += 1
        return 0

    def overflow(self) -> None:
        """Count a value that has no bucket."""
        self.rows[-1][0][-1] += 1
        self.overflows += 1

    def counts(self) -> list[int]:
        """A count for each bucket."""
        counts = self.rows[0][0].copy()
        for row, _ in self.rows[_BITS + 1 :]:
            counts += row[_AN_OCTAVE:]
        return counts

    def merge(self, other: Histogram | Distribution) -> None:
        """Add what another counted, as if it had been recorded here."""
        if isinstance(other, Histogram):
            other = other.snapshot()
        for index, count in other.buckets:
            row, shift = self.rows[bounds_ns(index)[0].bit_length()]
            row[bounds_ns(index)[0] >> shift] += count
        self.total_ns += other.total_ns
        self.overflows += other.overflows
        self.negatives += other.negatives

    def snapshot(self) -> Distribution:
        """What it holds now; later records do not change it."""
        return Distribution(
            buckets=tuple((index, count) for index, count in enumerate(self.counts()) if count),
            total_ns=self.total_ns,
            overflows=self.overflows,
            negatives=self.negatives,
        )

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.counts())

    def percentile(self, percent: float) -> int | None:
        """As `Distribution.percentile`, of what it holds now."""
        return self.snapshot().percentile(percent)
