"""
The markers: what they may be given, and what they ask for.

Complaints fail the one test that carries the marker, all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pytest

from harness.pytest_plugin.options import ISOLATIONS

if TYPE_CHECKING:
    from harness.pytest_plugin.place import Place

__all__ = ["MARKERS", "check", "isolation", "needs", "runs", "tell_properties"]

MARKERS: Final = (
    'harness_isolation(level): what this test gets fresh: "proxy" (on a daemon that others use), '
    '"daemon" or "environment" (everything)',
    "harness_needs(ability, ...): skip this test, with the probed reason, where the environment "
    'lacks an ability, for instance "rst" or "process"; --harness-strict fails it',
    "harness_runs(n, min_pass_rate=1.0): carry this test out n times, each isolated and with a "
    "seed of its own; it passes if so large a share of its runs does",
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
    return None if marker is None else str(marker.args[0])


def _isolation_complaints(item: pytest.Item) -> list[str]:
    marker = item.get_closest_marker("harness_isolation")
    if marker is None:
        return []
    found = _shown(marker)
    if marker.kwargs or len(marker.args) != 1 or marker.args[0] not in ISOLATIONS:
        return [f"{found}: expected one of {', '.join(map(repr, ISOLATIONS))}"]
    return []


def needs(item: pytest.Item) -> list[str]:
    """The abilities that this test needs, from all its harness_needs."""
    markers = item.iter_markers("harness_needs")
    return list(dict.fromkeys(name for marker in markers for name in marker.args))


def _needs_complaints(item: pytest.Item) -> list[str]:
    complaints = []
    for marker in item.iter_markers("harness_needs"):
        from harness.environment.abilities import ABILITIES

        known = ", ".join(ABILITIES)
        if marker.kwargs or not marker.args:
            complaints.append(f"{_shown(marker)}: expected one or more of {known}")
        complaints += [
            f"{_shown(marker)}: {name!r} is no ability; expected one or more of {known}"
            for name in marker.args
            if name not in ABILITIES
        ]
    return complaints


def runs(item: pytest.Item) -> tuple[int, float] | None:
    """How many runs, and the share that must pass; None where the test runs once."""
    marker = item.get_closest_marker("harness_runs")
    if marker is None or _runs_complaints(item):
        return None
    return marker.args[0], float(marker.kwargs.get("min_pass_rate", 1.0))


def _runs_complaints(item: pytest.Item) -> list[str]:
    marker = item.get_closest_marker("harness_runs")
    if marker is None:
        return []
    complaints = []
    if len(marker.args) != 1 or type(marker.args[0]) is not int or marker.args[0] < 1:
        complaints.append(f"{_shown(marker)}: expected a number of runs, 1 or more")
    unknown = sorted(marker.kwargs.keys() - {"min_pass_rate"})
    if unknown:
        complaints.append(f"{_shown(marker)}: {', '.join(unknown)} unknown; it takes min_pass_rate")
    rate = marker.kwargs.get("min_pass_rate", 1.0)
    if type(rate) not in (int, float) or not 0 < rate <= 1:
        complaints.append(f"{_shown(marker)}: min_pass_rate must be above 0 and at most 1")
    return complaints


def _shown(marker: pytest.Mark) -> str:
    given = [repr(value) for value in marker.args]
    given += [f"{name}={value!r}" for name, value in marker.kwargs.items()]
    return f"@pytest.mark.{marker.name}({', '.join(given)})"


def unmet(item: pytest.Item, abilities: Mapping[str, str | None]) -> str:
    """Why this test cannot run here; "" where it can."""
    lacking = {name: abilities.get(name, "it was not probed") for name in needs(item)}
    return "; ".join(f"{name}: {why}" for name, why in lacking.items() if why is not None)


def tell_properties(item: pytest.Item, place: Place) -> None:
    """What JUnit and other reports are told of a test's environment."""
    environment = place.environment
    assert environment is not None
    there = [name for name, why in environment.abilities.items() if why is None]
    item.user_properties += [
        ("harness_seed", str(place.wish.seed)),
        ("harness_run", str(place.path)),
        ("harness_isolation", place.wish.isolation),
        ("harness_abilities", " ".join(there)),
    ]
