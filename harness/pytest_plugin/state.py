"""What the parts of the plugin leave for each other, on pytest's own stashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from harness.pytest_plugin.options import Settings

if TYPE_CHECKING:
    from harness.daemons.base import Daemon
    from harness.pytest_plugin.place import Place

__all__ = ["ASKED", "CURRENT", "PLACE", "RUN", "SETTINGS", "RunOf"]


@dataclass(frozen=True)
class RunOf:
    """One run of a test marked harness_runs, counted from 1, and its seed."""

    number: int
    seed: int


SETTINGS: Final[pytest.StashKey[Settings]] = pytest.StashKey()
"""On the config: what was set."""

ASKED: Final[pytest.StashKey[Daemon | None]] = pytest.StashKey()
"""On the config: the daemon that was asked for, None where nobody asked for any."""

CURRENT: Final[pytest.StashKey[pytest.Item]] = pytest.StashKey()
"""On the config: the test that runs."""

PLACE: Final[pytest.StashKey[Place]] = pytest.StashKey()
"""On the item: its environment, up or put away."""

RUN: Final[pytest.StashKey[RunOf]] = pytest.StashKey()
"""On the item: which run of it this is."""
