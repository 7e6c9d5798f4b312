"""What is said at the end of a session: pass rates, and annotations for GitHub."""

from __future__ import annotations

from typing import Any

__all__ = ["annotate", "pass_rates"]

_SECTION = "harness"


def pass_rates(reporter: Any) -> None:
    """A line for each test that was carried out several times."""
    rates = {
        report.nodeid: report.harness_runs
        for reports in reporter.stats.values()
        for report in reports
        if getattr(report, "harness_runs", None)
    }
    if rates:
        reporter.section("harness runs")
        for nodeid, told in sorted(rates.items()):
            reporter.write_line(f"{nodeid}: {told}")


def annotate(reporter: Any) -> None:
    """An annotation for each failure of a test with an environment, those in set-up too."""
    from harness.report.github import annotation

    for outcome in ("failed", "error"):
        for report in reporter.stats.get(outcome, ()):
            told = dict(getattr(report, "sections", ())).get(_SECTION)
            if told is None:
                continue
            file, line, _ = report.location
            where = getattr(getattr(report.longrepr, "reprcrash", None), "lineno", None)
            reporter.ensure_newline()
            reporter.write_line(
                annotation(
                    file=file,
                    line=where or (line or 0) + 1,
                    title=f"{report.nodeid}, {report.when}",
                    message=told,
                )
            )
