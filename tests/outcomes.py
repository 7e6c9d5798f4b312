"""
What became of each test, as a list that a program reads, held against what may be not run.

A tier that quietly skips half of itself is green and worth nothing. `--outcomes FILE` writes
a row for each test (its id, its backend, its outcome, why it was not run), and a test that was
not run without leave of `expected_not_run.toml` fails the session, by name.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["Leave", "Row", "leaves", "unexpected"]

EXPECTED: Final = Path(__file__).with_name("expected_not_run.toml")
GIVEN: Final = "HARNESS_TEST_GIVEN"
_NOT_RUN: Final = "not run"
# The worst of a test's phases is its outcome.
_WORSE: Final = ("passed", "xfailed", _NOT_RUN, "xpassed", "failed", "error")


@dataclass(frozen=True)
class Row:
    """One test. `backend` is "-" where it has none."""

    test: str
    backend: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Leave:
    """Tests that may be not run, for that reason, for want of that."""

    want: str
    reason: str
    tests: tuple[str, ...]


def leaves(text: str) -> list[Leave]:
    """
    The committed expectation.

    Raises:
        ValueError: If it has anything else than it should; all complaints at once.
    """
    found, complaints = [], []
    for number, entry in enumerate(tomllib.loads(text).get("not_run", []), 1):
        if entry.keys() != {"want", "reason", "tests"}:
            complaints.append(
                f"entry {number}: expected want, reason, tests; found {sorted(entry)}"
            )
        elif not entry["tests"]:
            complaints.append(f"entry {number}: names no tests")
        else:
            found.append(Leave(entry["want"], entry["reason"], tuple(entry["tests"])))
    if complaints:
        raise ValueError("; ".join(complaints))
    return found


def unexpected(rows: Iterable[Row], allowed: Sequence[Leave], given: set[str]) -> list[str]:
    """Of the tests that were not run, those that had no leave: each with why."""
    complaints = []
    for row in rows:
        if row.outcome != _NOT_RUN:
            continue
        wants = [
            leave.want
            for leave in allowed
            if row.reason.startswith(leave.reason)
            and any(fnmatchcase(row.test, pattern) for pattern in leave.tests)
        ]
        if not wants:
            complaints.append(f"{row.test}: not run without leave: {row.reason}")
        elif given.issuperset(wants):
            complaints.append(f"{row.test}: not run although {wants[0]} is given: {row.reason}")
    return complaints


class Outcomes:
    """Takes down what becomes of each test, and judges at the end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Row] = {}
        self.backends: dict[str, str] = {}
        self.complaints: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome, reason = str(report.outcome), ""
        if hasattr(report, "wasxfail"):
            outcome = "xpassed" if report.passed else "xfailed"
        elif report.skipped:
            outcome = _NOT_RUN
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")  # type: ignore[index]
        elif report.failed and report.when != "call":
            outcome = "error"
        told = dict(report.user_properties).get("backend", "-")
        before = self.rows.get(report.nodeid)
        if before is None or _WORSE.index(outcome) > _WORSE.index(before.outcome):
            self.rows[report.nodeid] = Row(report.nodeid, str(told), outcome, reason)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        rows = [self.rows[name] for name in sorted(self.rows)]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        given = set(os.environ.get(GIVEN, "").split())
        self.complaints = unexpected(rows, leaves(EXPECTED.read_text()), given)
        if self.complaints and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(f"outcomes: {self.file} ({len(self.rows)} tests)")
        for line in self.complaints:
            terminalreporter.write_line(f"UNEXPECTED {line}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--outcomes",
        metavar="FILE",
        help="write what became of each test; one not run without leave fails the session",
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--outcomes")
    # The workers of pytest-xdist report to their controller.
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Path(file)), "outcomes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    callspec = getattr(item, "callspec", None)
    backend = None if callspec is None else callspec.params.get("backend")
    if backend is None and "containers" in getattr(item, "fixturenames", ()):
        backend = "docker"
    if backend is not None:
        item.user_properties.append(("backend", backend))
