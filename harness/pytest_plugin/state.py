"""What the parts of the plugin leave for each other, on pytest's own stashes."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from harness.pytest_plugin.options import Settings

if TYPE_CHECKING:
    from harness.daemons.base import Daemon
    from harness.environment.automatic import Chosen
    from harness.environment.backends import Choice
    from harness.environment.probe import ResetPath
    from harness.pytest_plugin.place import Place

__all__ = [
    "AGAIN",
    "ASKED",
    "BROKEN",
    "CHOSEN",
    "CURRENT",
    "FAILED",
    "LAST_WORDS",
    "PLACE",
    "REPORTS",
    "RUN",
    "SEEN",
    "SETTINGS",
    "TEST",
    "RunOf",
    "own_id",
]


AGAIN: Final = "harness_set_up_again"
"""A property of tests: what had failed for a foreign reason until then, and was done again."""


@dataclass(frozen=True)
class RunOf:
    """One run of a test marked harness_runs, counted from 1, and its seed."""

    number: int
    seed: int


SETTINGS: Final[pytest.StashKey[Settings]] = pytest.StashKey()
"""On the config: what was set."""

ASKED: Final[pytest.StashKey[Daemon | None]] = pytest.StashKey()
"""On the config: the daemon that was asked for, None where nobody asked for any."""

CHOSEN: Final[pytest.StashKey[list[tuple[Daemon, str, Chosen]]]] = pytest.StashKey()
"""On the config: where daemons run of which nobody said; behind which proxy, and why."""

SEEN: Final[pytest.StashKey[dict[Choice, ResetPath]]] = pytest.StashKey()
"""On the config: what was seen of paths when the session began."""

CURRENT: Final[pytest.StashKey[pytest.Item]] = pytest.StashKey()
"""On the config: the test that runs."""

PLACE: Final[pytest.StashKey[Place]] = pytest.StashKey()
"""On the item: its environment, up or put away."""

RUN: Final[pytest.StashKey[RunOf]] = pytest.StashKey()
"""On the item: which run of it this is."""

REPORTS: Final[pytest.StashKey[list[pytest.TestReport]]] = pytest.StashKey()
"""On the item: what its latest run was reported with."""

BROKEN: Final[pytest.StashKey[bool]] = pytest.StashKey()
"""On the item: something of it was reported as failed, be it a subtest."""

LAST_WORDS: Final[pytest.StashKey[str]] = pytest.StashKey()
"""On the config: what is to be said at the end of the session."""

FAILED: Final[pytest.StashKey[bool]] = pytest.StashKey()
"""On the item: its set-up or the test itself ended by an error, be it an expected one."""

TEST: Final[ContextVar[pytest.Item | None]] = ContextVar("harness_test", default=None)
"""While a test runs: the test. Tasks that it begins, and no others, have it in their context."""


def own_id(item: pytest.Item) -> str:
    """A test's id, without the group that pytest-xdist adds to it under --dist loadgroup."""
    name, at, group = item.nodeid.rpartition("@")
    grouped = at and getattr(item.config.option, "loadgroup", False)
    # A test's parameters may have such a sign, too.
    return name if grouped and "]" not in group else item.nodeid
