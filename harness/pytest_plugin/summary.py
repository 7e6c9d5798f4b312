"""What is said at the end of a session: pass rates, and annotations for GitHub."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.pytest_plugin.state import AGAIN

if TYPE_CHECKING:
    from harness.report.markdown import Session

__all__ = ["annotate", "pass_rates", "set_up_again", "write_summary"]

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


def set_up_again(reporter: Any) -> None:
    """A line for each attempt of set-up that was made again: a session that needed them says so."""
    if lines := _again(reporter):
        reporter.section("harness set-up, tried again")
        for line in lines:
            reporter.write_line(line)


def _again(reporter: Any) -> list[str]:
    reports = chain.from_iterable(reporter.stats.values())
    told = [dict(getattr(report, "user_properties", ())).get(AGAIN, "") for report in reports]
    # Each test tells of all that there were until then.
    return list(dict.fromkeys(line for text in told for line in text.splitlines()))


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


def write_summary(reporter: Any, file: Path) -> None:
    """
    Add the session to the summary of a CI job, as Markdown; no session ends for it.

    Args:
        file: What GITHUB_STEP_SUMMARY names.
    """
    from harness.report.markdown import LIMIT_BYTES, summary

    with suppress(OSError):
        # Other steps of this job may have written there; the limit is for all of it.
        used = file.stat().st_size if file.exists() else 0
        text = summary(_session(reporter), limit_bytes=max(1000, LIMIT_BYTES - used))
        with file.open("a", encoding="utf-8") as page:
            page.write(text)


def _session(reporter: Any) -> Session:
    from harness.report.markdown import Cost, Failure, Session

    kinds = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
    stats = reporter.stats
    reports = [report for report in chain.from_iterable(stats.values()) if hasattr(report, "when")]
    told = [dict(getattr(report, "user_properties", ())) for report in reports]
    costs: dict[str, dict[str, Any]] = {}
    for report, properties in zip(reports, told, strict=True):
        if (isolation := properties.get("harness_isolation")) is not None:
            costs.setdefault(report.nodeid, {"isolation": isolation})[report.when] = report.duration
    return Session(
        outcomes={kind: len(stats.get(kind, ())) for kind in kinds},
        paths=sorted({str(each["harness_path"]) for each in told if "harness_path" in each}),
        abilities=sorted(
            {str(each["harness_abilities"]) for each in told if "harness_abilities" in each}
        ),
        costs=[
            Cost(str(cost["isolation"]), cost["setup"], cost.get("teardown", 0.0))
            for cost in costs.values()
            if "setup" in cost
        ],
        again=_again(reporter),
        skipped=[_why(report) for report in stats.get("skipped", ())],
        failures=[
            Failure(f"{report.nodeid}, {report.when}", _ours(report))
            for kind in ("failed", "error")
            for report in stats.get(kind, ())
            if hasattr(report, "when")
        ],
    )


def _why(report: Any) -> str:
    told = report.longrepr
    return str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")


def _ours(report: Any) -> list[tuple[str, str]]:
    """Our sections, from which secrets are struck out; else the last line of pytest's."""
    found = [(title, text) for title, text in report.sections if title.startswith("harness")]
    return found or [("failed", str(report.longrepr).strip().splitlines()[-1:][0])]
