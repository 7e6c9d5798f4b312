"""
A test carried out n times, each time from the ground up, judged by the share that passes.

Each run sets up and tears down what is the test's own; what its module and session share
stays. Its seed is a function of the root seed, the test and the run's number.
"""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from harness.clock import Draws
from harness.pytest_plugin.state import RUN, SETTINGS, RunOf
from harness.rate import said

__all__ = ["carry_out"]

_SEEDS = 1_000_000


def carry_out(item: pytest.Item, nextitem: pytest.Item | None, n: int, least: float) -> None:
    """
    Carry a test out n times and report it once.

    Args:
        item: The test.
        nextitem: The test after it.
        n: How many runs.
        least: The share that must pass.
    """
    settings = item.config.stash[SETTINGS]
    numbers = range(1, n + 1) if settings.only_run is None else [settings.only_run]
    draws = Draws(settings.seed, f"run|{item.nodeid}")
    kept = list(item.user_properties)
    runs: list[list[pytest.TestReport]] = []
    for number in numbers:
        item.stash[RUN] = RunOf(number, int(draws.at(number) * _SEEDS))
        item.user_properties[:] = kept
        runs.append(_once(item, nextitem if number == numbers[-1] else item.parent))
        if runs[-1][0].skipped or item.session.shouldstop or item.session.shouldfail:
            break
    for report in _joined(runs, least):
        item.ihook.pytest_runtest_logreport(report=report)


def _once(item: Any, nextitem: Any) -> list[pytest.TestReport]:
    # What pytest itself does for a test's first and only run.
    item._initrequest()  # noqa: SLF001
    return runtestprotocol(item, nextitem=nextitem, log=False)


def _joined(runs: list[list[pytest.TestReport]], least: float) -> list[pytest.TestReport]:
    """The reports of one run stand for all, with the rate told on them."""
    failed = [reports for reports in runs if any(report.failed for report in reports)]
    passed = len(runs) - len(failed)
    if runs[0][0].skipped:
        return runs[0]
    good = passed / len(runs) >= least
    told = f"{said(passed, len(runs))}, must {least:.0%}"
    # The first that failed tells why; where enough passed, one that did tells nothing more.
    chosen = next(run for run in runs if run not in failed) if good else failed[0]
    for report in chosen:
        report.sections.insert(0, ("harness runs", told))
        report.harness_runs = told  # type: ignore[attr-defined]
        if report.when == "call":
            report.user_properties.append(("harness_runs", told))
    chosen[-1].duration += sum(r.duration for run in runs for r in run if run is not chosen)
    return chosen
