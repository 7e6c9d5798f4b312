"""
A test carried out n times, each time from the ground up, judged by the share that passes.

Each run sets up and tears down what is the test's own; what its module and session share
stays. Its seed is a function of the root seed, the test and the run's number.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from harness.clock import Draws
from harness.pytest_plugin.state import BROKEN, REPORTS, RUN, SETTINGS, RunOf, own_id
from harness.rate import said

__all__ = ["carry_out", "run_once"]

_SEEDS = 1_000_000
_NAMED = 10


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
    draws = Draws(settings.seed, f"run|{own_id(item)}")
    kept = list(item.user_properties)
    runs: dict[int, list[pytest.TestReport]] = {}
    how: dict[int, str] = {}
    # A time limit holds for each run, so the one for all of them must not go off.
    if hasattr(item.ihook, "pytest_timeout_cancel_timer"):
        item.ihook.pytest_timeout_cancel_timer(item=item)
    for number in numbers:
        item.stash[RUN] = RunOf(number, int(draws.at(number) * _SEEDS))
        item.user_properties[:] = kept
        # What the module and the class share is kept up for the next run.
        after = nextitem if number == numbers[-1] else item.parent
        # Through the hook once more: whoever wraps a test wraps each run of it.
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        runs[number] = item.stash[REPORTS]
        how[number] = "failed" if item.stash.get(BROKEN, False) else _how(runs[number])
        if len(runs) == 1 and how[number] == "skipped":
            break
        if item.session.shouldstop or item.session.shouldfail:
            break
    if number != numbers[-1]:
        runs[number] = _torn_down(item, nextitem, runs[number])
    for report in _joined(runs, how, n, least, alone=settings.only_run is not None):
        item.ihook.pytest_runtest_logreport(report=report)


def _torn_down(
    item: pytest.Item, nextitem: pytest.Item | None, reports: list[pytest.TestReport]
) -> list[pytest.TestReport]:
    """The last run was not meant to be: what the next test does not share is still up."""
    teardown = item.session._setupstate.teardown_exact  # noqa: SLF001
    call = pytest.CallInfo.from_call(lambda: teardown(nextitem), when="teardown")
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return [*reports[:-1], report] if report.failed else reports


def run_once(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Carry out one run and keep its reports."""
    if item.stash[RUN].number > 1:
        # A method gets a fresh instance of its class, as each test does.
        for name in ("_instance", "_obj"):
            item.__dict__.pop(name, None)
        # What was captured in the run before is no part of this one's report.
        item._report_sections.clear()  # noqa: SLF001
    item.stash[REPORTS] = runtestprotocol(item, nextitem=nextitem, log=False)


def _how(reports: list[pytest.TestReport]) -> str:
    """How a run without failed reports ended; an expected failure is one."""
    skipped = [report for report in reports if report.skipped]
    if any(hasattr(report, "wasxfail") for report in skipped):
        return "failed"
    return "skipped" if skipped else "passed"


def _joined(
    runs: dict[int, list[pytest.TestReport]],
    how: dict[int, str],
    n: int,
    least: float,
    *,
    alone: bool,
) -> list[pytest.TestReport]:
    """The reports of one run stand for all, with the rate told on them."""
    failed = [number for number, end in how.items() if end == "failed"]
    passed = [number for number, end in how.items() if end == "passed"]
    if not failed and not passed:
        return next(iter(runs.values()))
    good = len(passed) / len(failed + passed) >= least
    # The first that failed tells why; where enough passed, one that did tells nothing more.
    number = (passed if good else failed)[0]
    chosen = runs[number]
    if alone:
        told = f"run {number} alone: {how[number]}"
    else:
        told = _rate(passed, failed, skipped=len(how) - len(passed + failed), n=n, least=least)
    for report in chosen:
        report.sections.insert(0, ("harness runs", told))
        report.user_properties.append(("harness_runs", told))
        report.harness_runs = told  # type: ignore[attr-defined]
    others = (report for run in runs.values() if run is not chosen for report in run)
    chosen[-1].duration += sum(report.duration for report in others)
    return chosen


def _rate(passed: list[int], failed: list[int], *, skipped: int, n: int, least: float) -> str:
    done = len(passed + failed)
    told = f"{said(len(passed), done)}, must {100 * least:g} %"
    if skipped:
        told += f"; {skipped} more skipped"
    if done + skipped < n:
        told += f"; the session ended before the other {n - done - skipped}"
    if failed:
        named = ", ".join(map(str, failed[:_NAMED])) + (", …" if len(failed) > _NAMED else "")
        told += f"; failed: {named}"
    return told
