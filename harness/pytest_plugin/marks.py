"""
The markers: what they may be given, and what they ask for.

Complaints fail the one test that carries the marker, all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any, Final

import pytest

from harness.pytest_plugin.options import ISOLATIONS
from harness.pytest_plugin.state import SETTINGS

__all__ = ["MARKERS", "check", "isolation", "needs", "runs", "unmet"]

MARKERS: Final = (
    'harness_isolation(level): what this test gets fresh: "proxy" (on a daemon that others use), '
    '"daemon" or "environment" (everything)',
    "harness_needs(ability, ...): skip this test, with the probed reason, where the environment "
    'lacks an ability, for instance "rst" or "process"; --harness-strict fails it',
    "harness_runs(n, min_pass_rate=1.0): carry this test out n times, each isolated and with a "
    "seed of its own; it passes if so large a share of its runs does",
)

_ISOLATION: Final = Signature([Parameter("level", Parameter.POSITIONAL_OR_KEYWORD)])
_RUNS: Final = Signature(
    [
        Parameter("n", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("min_pass_rate", Parameter.POSITIONAL_OR_KEYWORD, default=1.0),
    ]
)


def check(item: pytest.Item) -> None:
    """
    Look through the arguments of our markers.

    Raises:
        pytest.fail.Exception: If any cannot be used.
    """
    complaints = [
        *_isolation_complaints(item),
        *_needs_complaints(item),
        *_runs_complaints(item),
    ]
    if complaints:
        many = "1 problem" if len(complaints) == 1 else f"{len(complaints)} problems"
        rows = "\n".join(f"  {complaint}" for complaint in complaints)
        pytest.fail(f"markers of {item.nodeid}: {many}\n{rows}", pytrace=False)


def isolation(item: pytest.Item) -> str | None:
    """What the closest harness_isolation says."""
    marker = item.get_closest_marker("harness_isolation")
    return None if marker is None else str(_bound(_ISOLATION, marker)["level"])


def _isolation_complaints(item: pytest.Item) -> Iterator[str]:
    marker = item.get_closest_marker("harness_isolation")
    if marker is None:
        return
    try:
        level = _bound(_ISOLATION, marker)["level"]
    except TypeError as error:
        yield f"{_shown(marker)}: {error}; it takes one level"
        return
    if level not in ISOLATIONS:
        yield f"{_shown(marker)}: expected one of {', '.join(map(repr, ISOLATIONS))}"


def needs(item: pytest.Item) -> list[str]:
    """The abilities that this test needs, from all its harness_needs."""
    markers = item.iter_markers("harness_needs")
    return list(dict.fromkeys(name for marker in markers for name in marker.args))


def _needs_complaints(item: pytest.Item) -> Iterator[str]:
    for marker in item.iter_markers("harness_needs"):
        from harness.environment.abilities import ABILITIES

        # Compared one by one: what somebody gives need not be hashable.
        unknown = [name for name in marker.args if name not in list(ABILITIES)]
        if marker.kwargs or not marker.args:
            yield f"{_shown(marker)}: expected one or more of {', '.join(ABILITIES)}"
        for name in unknown:
            known = ", ".join(ABILITIES)
            yield f"{_shown(marker)}: {name!r} is no ability; expected one or more of {known}"


def runs(item: pytest.Item) -> tuple[int, float] | None:
    """How many runs, and the share that must pass; None where the test runs once."""
    marker = item.get_closest_marker("harness_runs")
    if marker is None or any(_runs_complaints(item)):
        return None
    given = _bound(_RUNS, marker)
    return given["n"], float(given["min_pass_rate"])


def _runs_complaints(item: pytest.Item) -> Iterator[str]:
    marker = item.get_closest_marker("harness_runs")
    if marker is None:
        return
    try:
        given = _bound(_RUNS, marker)
    except TypeError as error:
        yield f"{_shown(marker)}: {error}; it takes n and min_pass_rate"
        return
    n, rate, only = given["n"], given["min_pass_rate"], item.config.stash[SETTINGS].only_run
    if type(n) is not int or n < 1:
        yield f"{_shown(marker)}: expected a number of runs, 1 or more, found {n!r}"
    elif only is not None and only > n:
        yield f"{_shown(marker)}: there is no run {only}, which --harness-only-run asks for"
    if type(rate) not in (int, float) or not 0 < rate <= 1:
        yield f"{_shown(marker)}: min_pass_rate must be above 0 and at most 1, found {rate!r}"


def _bound(shape: Signature, marker: pytest.Mark) -> dict[str, Any]:
    """A marker's arguments by name; raises TypeError as a call with them would."""
    bound = shape.bind(*marker.args, **marker.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _shown(marker: pytest.Mark) -> str:
    given = [repr(value) for value in marker.args]
    given += [f"{name}={value!r}" for name, value in marker.kwargs.items()]
    return f"@pytest.mark.{marker.name}({', '.join(given)})"


def unmet(item: pytest.Item, abilities: Mapping[str, str | None]) -> str:
    """Why this test cannot run here; "" where it can."""
    lacking = {name: abilities.get(name, "it was not probed") for name in needs(item)}
    return "; ".join(f"{name}: {why}" for name, why in lacking.items() if why is not None)
