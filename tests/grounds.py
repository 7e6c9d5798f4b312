"""
On which grounds tests stood: how many on each backend behind each proxy, told at the end.

Whoever brings a daemon up says so (`stands_on`), so what is counted was there. Where the whole tier
is asked for, a ground on which no test stood is told as "not run", and with --harness-strict fails
the session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pytest

from harness.environment.backends import BACKENDS, OWN_PROXIES
from harness.pytest_plugin.state import SETTINGS
from tests.held import is_whole

__all__ = ["ALONE", "Grounds", "lines", "stands_on"]

ALONE: Final = "alone"
"""In the place of a proxy: nothing stands between the client and the daemon."""

_PROPERTY: Final = "ground"
_UNDER_WAY: list[pytest.Item] = []


def stands_on(backend: str, proxy: str) -> None:
    """The test under way has a daemon there, behind that."""
    for item in _UNDER_WAY:
        told = (_PROPERTY, f"{backend}/{proxy}")
        if told not in item.user_properties:
            item.user_properties.append(told)


def wanted(backend: str | None) -> list[str]:
    """The grounds that there should be, of one backend or of all."""
    backends = BACKENDS if backend is None else (backend,)
    return [f"{each}/{proxy}" for each in backends for proxy in OWN_PROXIES]


def lines(counts: Mapping[str, int], grounds: Iterable[str]) -> list[str]:
    """A line for each ground, those first that there should be."""
    names = [*grounds, *sorted(set(counts).difference(grounds))]
    return [f"  {name:<20} {counts.get(name) or 'not run'}" for name in names]


class Grounds:
    """Counts at the end of a session, in the process that tells of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._whole = is_whole(config)
        self._on: dict[str, set[str]] = {}
        self._not_run: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._not_run.add(report.nodeid)
        grounds = {str(value) for name, value in report.user_properties if name == _PROPERTY}
        self._on.setdefault(report.nodeid, set()).update(grounds)

    @property
    def _wanted(self) -> list[str]:
        return wanted(self._config.getoption("--backend", None)) if self._whole else []

    @property
    def _strict(self) -> bool:
        # Set once all plugins are.
        settings = self._config.stash.get(SETTINGS, None)
        return settings is not None and settings.strict

    @property
    def _counts(self) -> Counter[str]:
        ran = [grounds for test, grounds in self._on.items() if test not in self._not_run]
        return Counter(ground for grounds in ran for ground in grounds)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        missing = [ground for ground in self._wanted if not self._counts[ground]]
        if self._strict and missing and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        told = lines(self._counts, self._wanted)
        if told:
            terminalreporter.write_line("tests on each ground (backend/proxy):")
        for line in told:
            bad = self._strict and line.endswith("not run")
            terminalreporter.write_line(line + " (--harness-strict)" * bad, red=bad)


def pytest_configure(config: pytest.Config) -> None:
    # The workers of pytest-xdist report to their controller.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Grounds(config), "grounds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _UNDER_WAY.append(item)
    try:
        return (yield)
    finally:
        _UNDER_WAY.remove(item)
