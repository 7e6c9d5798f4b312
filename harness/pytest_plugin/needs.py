"""Tests that say what they need: skipped, with the probed reason, where it is not there."""

from __future__ import annotations

from typing import Any

import pytest

from harness.pytest_plugin import marks
from harness.pytest_plugin.fixtures import told
from harness.pytest_plugin.house import Shared
from harness.pytest_plugin.place import Place
from harness.pytest_plugin.state import PLACE, SETTINGS

__all__ = ["skip_or_fail"]


def skip_or_fail(item: Any) -> None:
    """
    Skip a test whose needs are not met; with --harness-strict, fail it.

    Args:
        item: The test, set up.
    """
    if item.config.getoption("setupplan", default=False):
        return
    if not hasattr(item, "_request"):
        kind = type(item).__name__
        pytest.fail(f"harness_needs is for test functions; this is a {kind}", pytrace=False)
    with told():
        why = marks.unmet(item, _abilities(item))
    if not why:
        return
    if item.config.stash[SETTINGS].strict:
        pytest.fail(f"harness_needs is not met: {why} (--harness-strict)", pytrace=False)
    # With the test's own line, as a skip by a marker has it.
    raise pytest.skip.Exception(f"harness_needs: {why}", _use_item_location=True)


def _abilities(item: Any) -> dict[str, str | None]:
    """Of the test's own environment; where it has none, of the one that it would share."""
    place: Place | None = item.stash.get(PLACE, None)
    if place is not None and place.environment is not None:
        return place.environment.abilities
    ask = item._request.getfixturevalue  # noqa: SLF001
    house, daemon, choice = (
        ask(name) for name in ("harness_house", "harness_daemon", "harness_choice")
    )
    shared: Shared = house.portal.run(house.shared(daemon, choice))
    return shared.stack.abilities
