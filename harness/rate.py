"""
How much a count of passed runs proves: an exact interval for the rate behind it.

Clopper-Pearson: whatever the true rate is, the interval holds it in at least the
stated share of all experiments. No normal approximation, so few runs and rates of
0 and 1 are no special cases: twenty of twenty proves 83 %, not 100 %.

Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413.
"""

from __future__ import annotations

import math

from harness.errors import InvalidValue

__all__ = ["exact_interval", "said"]


def exact_interval(passed: int, runs: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """
    The two-sided Clopper-Pearson interval of a rate.

    Args:
        passed: How many runs passed.
        runs: How many there were, 1 or more. The time taken grows with its square root.
        confidence: The share of experiments whose interval holds the true rate, above 0
            and below 1.

    Returns:
        The lower and the upper end, each from 0 to 1.

    Raises:
        InvalidValue: If the counts are no counts, or the confidence is out of range.
    """
    complaints = []
    if type(runs) is not int or runs < 1:
        complaints.append(("runs", f"{runs!r} is not allowed; a whole number, 1 or more"))
    elif type(passed) is not int or not 0 <= passed <= runs:
        complaints.append(("passed", f"{passed!r} is not allowed; a whole number, 0 to {runs}"))
    if type(confidence) is not float or not 0 < confidence < 1:
        complaints.append(("confidence", f"{confidence!r} is not allowed; above 0 and below 1"))
    if complaints:
        raise InvalidValue("no interval can be given for these counts", complaints)
    alpha = (1 - confidence) / 2
    return _lower(passed, runs, alpha), 1 - _lower(runs - passed, runs, alpha)


def said(passed: int, runs: int) -> str:
    """
    The rate and its exact 95 % interval as a sentence's part.

    The interval is rounded outwards, and a rate of 0 % or 100 % is said only of none
    or all.

    Raises:
        InvalidValue: If the counts are no counts.
    """
    lower, upper = exact_interval(passed, runs)
    rate = f"{round(100 * passed / runs, 1):g}"
    if rate == "0" and passed:
        rate = "under 0.1"
    elif rate == "100" and passed < runs:
        rate = "over 99.9"
    lower, upper = math.floor(1000 * lower) / 10, math.ceil(1000 * upper) / 10
    return f"{passed} of {runs} ({rate} %; exact 95 % interval {lower:g} % to {upper:g} %)"


def _lower(passed: int, runs: int, alpha: float) -> float:
    """The rate at which so many passes, or more, have the chance `alpha`."""
    if passed == 0:
        return 0.0
    # At the observed rate that chance is a half or more, so the rate sought is below it.
    low, high = 0.0, passed / runs
    while low < (middle := (low + high) / 2) < high:
        if _chance_of_at_least(passed, runs, middle) < alpha:
            low = middle
        else:
            high = middle
    return low


def _chance_of_at_least(passed: int, runs: int, rate: float) -> float:
    """The upper tail of the binomial distribution, for rates below passed / runs."""
    term = math.exp(
        math.lgamma(runs + 1)
        - math.lgamma(passed + 1)
        - math.lgamma(runs - passed + 1)
        + passed * math.log(rate)
        + (runs - passed) * math.log1p(-rate)
    )
    odds = rate / (1 - rate)
    total, count = term, passed
    # Each term is smaller than the one before it: what is left out is no part of a double.
    while count < runs and term > total * 1e-18:
        term *= (runs - count) / (count + 1) * odds
        total += term
        count += 1
    return total
