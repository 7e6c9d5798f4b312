"""
The pytest plugin: a daemon behind a proxy as a fixture, and what happened when a test fails.

pytest loads this module on every run, so all that is heavy is imported where it is first
needed; no Docker package is among it.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import marks
from harness.pytest_plugin.fixtures import (
    harness_backend,
    harness_choice,
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
from harness.pytest_plugin.state import (
    ASKED,
    BROKEN,
    CURRENT,
    FAILED,
    LAST_WORDS,
    PLACE,
    RUN,
    SETTINGS,
    TEST,
)

if TYPE_CHECKING:
    from harness.pytest_plugin.place import Place

__all__ = [
    "harness_backend",
    "harness_choice",
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


class _Alias:
    """Stands for this plugin under its other name."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Register options and ini keys."""
    # The entry point's name and the module's mean the same: whoever asks for the plugin under
    # the other one, too, has it already.
    for name in ("harness", __name__):
        if not pluginmanager.hasplugin(name):
            pluginmanager.register(_Alias(), name)
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register markers and read what was set."""
    for marker in marks.MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("help"):
        # Whoever gave something wrong may want to look up what is right.
        return
    settings = config.stash[SETTINGS] = read_settings(config)
    config.stash[ASKED] = asked_for(config, settings)


def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Load what the tests with our fixtures and runs need, before the first of them is timed.

    It is a third of a second and more, none of it the test's; and nobody catches a time limit
    that ends in the middle of a report.
    """
    if not session.config.option.collectonly and any(map(_will_be_ours, session.items)):
        import harness.pytest_plugin.telling  # noqa: F401


def pytest_report_header(config: pytest.Config) -> str:
    """Say what tests would meet."""
    return header(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the workers of pytest-xdist the seed and the backend that the header shows."""
    settings = node.config.stash[SETTINGS]
    node.workerinput["harness_seed"] = settings.seed
    if settings.backend == "auto":
        from dataclasses import astuple

        from harness.pytest_plugin.ground import GIVEN, usual

        node.workerinput[GIVEN] = astuple(usual(node.config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Carry out a test marked harness_runs as often as it says."""
    item.config.stash[CURRENT] = item
    wanted = marks.runs(item)
    if wanted is None:
        return None
    from harness.pytest_plugin.repeats import carry_out, run_once

    if RUN in item.stash:
        run_once(item, nextitem)
        return True
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        carry_out(item, nextitem, *wanted)
    finally:
        del item.stash[RUN]
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse wrong markers before the set-up, skip what cannot run here after it."""
    # A test may be carried out again; what it left here is an earlier run's.
    item.stash[BROKEN] = item.stash[FAILED] = False
    if PLACE in item.stash:
        del item.stash[PLACE]
    marks.check(item)
    result = yield
    if marks.needs(item):
        from harness.pytest_plugin.needs import skip_or_fail

        skip_or_fail(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """See which tasks the test leaves, before anybody closes its loop."""
    __tracebackhide__ = True
    token = TEST.set(item)
    try:
        return (yield)
    finally:
        TEST.reset(token)
        if (place := item.stash.get(PLACE, None)) is not None:
            place.call_ended()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what happened, while the environment is still there."""
    if PLACE in item.stash and call.when != "teardown":
        from harness.pytest_plugin.interrupts import through_an_alarm
        from harness.pytest_plugin.telling import tell_properties

        through_an_alarm(partial(tell_properties, item))
    ours = _is_ours(item)
    if ours and call.excinfo is not None and not item.config.getoption("fulltrace", default=False):
        from harness.pytest_plugin.interrupts import through_an_alarm
        from harness.pytest_plugin.tracebacks import leave_out_ours

        own = partial(leave_out_ours, call.excinfo.value, root=item.config.rootpath)
        through_an_alarm(own)
    report = yield
    if call.excinfo is not None and call.when != "teardown":
        item.stash[FAILED] = True
    if report.failed:
        item.stash[BROKEN] = True
    # Of a unittest.TestCase the error is known only now.
    if ours and call.excinfo is not None:
        from harness.pytest_plugin.telling import tell

        tell(item, report, call.excinfo.value)
    return report


def _is_ours(item: pytest.Item) -> bool:
    return PLACE in item.stash or _will_be_ours(item)


def _will_be_ours(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return marks.runs(item) is not None or any(name.startswith("harness_") for name in names)


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explain a comparison of two values of ours."""
    if op != "==" or not (_may_be_ours(left) and _may_be_ours(right)):
        return None
    from harness.pytest_plugin.compare import compared

    item = config.stash.get(CURRENT, None)
    place: Place | None = None if item is None else item.stash.get(PLACE, None)
    return compared(left, right, place)


def _may_be_ours(value: object) -> bool:
    return any(kind.__module__.startswith("harness.") for kind in type(value).__mro__)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that is torn down only now was interrupted: what it left is no news."""
    if (item := session.config.stash.get(CURRENT, None)) is not None:
        item.stash[FAILED] = True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Pass rates, why it ended early; for GitHub annotations, and the summary of the job."""
    from harness.pytest_plugin.summary import annotate, pass_rates, set_up_again, write_summary

    if last_words := terminalreporter.config.stash.get(LAST_WORDS, ""):
        terminalreporter.ensure_newline()
        terminalreporter.write_line(last_words)

    pass_rates(terminalreporter)
    set_up_again(terminalreporter)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        annotate(terminalreporter)
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    # The workers of pytest-xdist report to their controller.
    if page and not hasattr(terminalreporter.config, "workerinput"):
        write_summary(terminalreporter, Path(page))
