"""What all tiers share: the option that makes one toxic inert and expects its tests to fail."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

from harness.environment.backends import DOCKER
from tests import sabotage

# In the order in which they import one another.
pytest_plugins = [
    "tests.held",
    "tests.grounds",
    "tests.backends",
    "tests.outcomes",
    "tests.projects",
    "tests.turns",
]

# Both judge by the wall clock: on a busy machine, or while Hypothesis builds its tables in a
# fresh clone, they would fail tests whose code is right.
settings.register_profile("harness", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")
# For docs/mutants.md: the same examples for each mutant, and none made smaller, which takes long.
settings.register_profile(
    "mutants",
    settings.get_profile("harness"),
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)


# A shell that runs us in the background has Ctrl-C ignored, and so would every program that a
# test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--inert",
        metavar="TOXIC",
        choices=sorted(sabotage.toxics()),
        help="make this toxic do nothing, run only its tests, and expect each of them to fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    if inert := config.getoption("--inert"):
        sabotage.sabotage(f"inert:{inert}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    inert = config.getoption("--inert")
    if inert is None:
        return
    # A real Toxiproxy has toxics of its own, which nothing here makes inert.
    chosen = [item for item in items if inert in _toxics(item) and of_backend(item) != DOCKER]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    for item in items:
        # Strict: a test that passes although its toxic does nothing is a failure.
        reason = f"{inert} does nothing"
        wanted = (AssertionError, pytest.fail.Exception)
        item.add_marker(pytest.mark.xfail(strict=True, raises=wanted, reason=reason))


def _toxics(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("toxic") for name in marker.args]


def of_backend(item: pytest.Item) -> str | None:
    """Which backend it runs on, where it runs on each."""
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("backend")
