"""
The pytest plugin: a daemon behind a proxy as a fixture, and what happened when a test fails.

pytest loads this module on every run, so all that is heavy is imported where it is first
needed; no Docker package is among it.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import marks
from harness.pytest_plugin.fixtures import (
    harness_client,
    harness_daemon,
    harness_environment,
    harness_house,
    harness_isolation,
    harness_proxy,
    harness_run,
    harness_run_directory,
    harness_seed,
    harness_settings,
    harness_toxiproxy,
    harness_toxiproxy_python,
    harness_url,
)
from harness.pytest_plugin.header import asked_for, header
from harness.pytest_plugin.options import add_options, read_settings
from harness.pytest_plugin.state import ASKED, CURRENT, PLACE, SETTINGS

if TYPE_CHECKING:
    from harness.pytest_plugin.place import Place

__all__ = [
    "harness_client",
    "harness_daemon",
    "harness_environment",
    "harness_house",
    "harness_isolation",
    "harness_proxy",
    "harness_run",
    "harness_run_directory",
    "harness_seed",
    "harness_settings",
    "harness_toxiproxy",
    "harness_toxiproxy_python",
    "harness_url",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and ini keys."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register markers and read what was set."""
    for marker in marks.MARKERS:
        config.addinivalue_line("markers", marker)
    settings = config.stash[SETTINGS] = read_settings(config)
    config.stash[ASKED] = asked_for(config, settings)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what tests would meet."""
    return header(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the workers of pytest-xdist the seed that the header shows."""
    node.workerinput["harness_seed"] = node.config.stash[SETTINGS].seed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Carry out a test marked harness_runs as often as it says."""
    item.config.stash[CURRENT] = item
    wanted = marks.runs(item)
    if wanted is None:
        return None
    from harness.pytest_plugin.repeats import carry_out

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    carry_out(item, nextitem, *wanted)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse wrong markers before the set-up, skip what cannot run here after it."""
    marks.check(item)
    result = yield
    if marks.needs(item):
        from harness.pytest_plugin.needs import skip_or_fail

        skip_or_fail(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """See which tasks the test leaves, before anybody closes its loop."""
    place = item.stash.get(PLACE, None)
    if place is None:
        return (yield)
    place.call_begins()
    try:
        return (yield)
    finally:
        place.call_ended()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what happened, while the environment is still there."""
    report = yield
    if report.failed and PLACE in item.stash and call.excinfo is not None:
        from harness.pytest_plugin.telling import add_sections

        add_sections(item, report, call.excinfo.value)
    return report


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explain a comparison of two values of ours."""
    ours = all(type(value).__module__.startswith("harness.") for value in (left, right))
    if op != "==" or not ours:
        return None
    from harness.pytest_plugin.compare import compared

    item = config.stash.get(CURRENT, None)
    place: Place | None = None if item is None else item.stash.get(PLACE, None)
    return compared(left, right, place)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print pass rates, and annotations where GitHub reads them."""
    from harness.pytest_plugin.summary import annotate, pass_rates

    pass_rates(terminalreporter)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        annotate(terminalreporter)
