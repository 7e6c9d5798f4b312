"""What is said at the end of a session: pass rates, and annotations for GitHub."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any, Final

__all__ = ["annotate", "pass_rates"]

_ANOTHER: Final = "pytest_github_actions_annotate_failures"


def pass_rates(reporter: Any) -> None:
    """A line for each test that was carried out several times."""
    rates = {
        report.nodeid: report.harness_runs
        for report in chain.from_iterable(reporter.stats.values())
        if hasattr(report, "harness_runs")
    }
    if rates:
        reporter.section("harness runs")
        for nodeid, told in sorted(rates.items()):
            reporter.write_line(f"{nodeid}: {told}")


def annotate(reporter: Any) -> None:
    """
    An annotation for each failure that we told of, those in set-up and tear-down too; none
    where another plugin annotates.
    """
    from harness.report.github import annotation

    if reporter.config.pluginmanager.hasplugin(_ANOTHER):
        return
    # A failure that pytest-rerunfailures has repeated is none.
    told = {kind: reports for kind, reports in reporter.stats.items() if kind != "rerun"}
    for report in chain.from_iterable(told.values()):
        if not hasattr(report, "harness_annotation"):
            continue
        file, line, told = report.harness_annotation
        reporter.ensure_newline()
        reporter.write_line(
            annotation(
                file=_in_repository(file),
                line=line,
                title=f"{report.nodeid}, {report.when}",
                message=told,
            )
        )


def _in_repository(file: str) -> str:
    """A file as the repository knows it; the root directory of the tests may be a part of it."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    return Path(file).relative_to(root).as_posix() if Path(file).is_relative_to(root) else file
