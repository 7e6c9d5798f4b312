"""
Histograms in HdrHistogram's format V2, which its plotter and its JVM tools read.

Needs the extra `metrics`. Nothing is counted with that library here: a record costs it
several times what `Histogram.record` takes.
"""

from __future__ import annotations

from typing import Final

from hdrh.histogram import HdrHistogram

from harness.resilience.histogram import LIMIT_NS, Distribution, bounds_ns

__all__ = ["encoded", "to_hdr"]

# Its buckets are an eighth of ours in width: none of ours is spread over two values of it.
_DIGITS: Final = 3


def to_hdr(distribution: Distribution) -> HdrHistogram:
    """
    The same counts, in nanoseconds, 3 digits.

    Each bucket's count stands at its middle, so a quantile lies in the bucket it came from.
    """
    histogram = HdrHistogram(1, LIMIT_NS, _DIGITS)
    for index, count in distribution.buckets:
        histogram.record_value(sum(bounds_ns(index)) // 2, count)
    return histogram


def encoded(distribution: Distribution) -> bytes:
    """HdrHistogram V2, compressed, in base64: what stands in a line of its log files."""
    return bytes(to_hdr(distribution).encode())
