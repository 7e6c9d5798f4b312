"""What a failing test's report gets from us: the sentence, the timeline, the logs, the repeat."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.place import Place
from harness.pytest_plugin.state import PLACE, RUN, SETTINGS
from harness.records import Effect, read_lines
from harness.report.failure import fault_lines
from harness.report.timeline import timeline

__all__ = ["add_sections", "repeat_command"]

_LOG_LINES = 20
_LEAST_WIDTH = 100


def add_sections(item: pytest.Item, report: pytest.TestReport, error: BaseException) -> None:
    """
    Add what there is to tell of a test's environment to its report.

    Args:
        item: The test; its environment is up, or was put away.
        report: Of the phase that failed.
        error: Why.
    """
    place = item.stash[PLACE]
    place.failed = True
    try:
        sections = list(_sections(item, place, report, error))
    except HarnessError as trouble:
        # The record may be what is broken; the test's own error stands above this in any case.
        sections = [("harness", f"there is no more to tell: {trouble}")]
    report.sections += sections


def _sections(
    item: pytest.Item, place: Place, report: pytest.TestReport, error: BaseException
) -> Iterator[tuple[str, str]]:
    history = place.history()
    rows = [*_sentence(item, report, error), *_faults(place, error)]
    rows += [("run", _relative(place.path)), ("again", repeat_command(item))]
    yield "harness", "\n".join(f"{label:9}{text}" for label, text in rows)
    width = max(_LEAST_WIDTH, shutil.get_terminal_size((_LEAST_WIDTH, 24)).columns)
    if history.ops:
        yield "harness timeline", timeline(history, effects=_effects(place), width=width)
    for name, text in place.logs().items():
        lines = text.splitlines()[-_LOG_LINES:]
        yield f"harness {name}, last {_LOG_LINES} lines", "\n".join(lines) or "(it wrote nothing)"


def _sentence(
    item: pytest.Item, report: pytest.TestReport, error: BaseException
) -> Iterator[tuple[str, str]]:
    """What the failing line of the test expected, and what it met instead."""
    line = _line(item, error)
    if line and report.when == "call":
        yield ("expected" if line.startswith("assert ") else "doing"), line.removeprefix("assert ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(error)
    kind = f"{type(error).__name__}: "
    said = [part.strip().removeprefix(kind) for part in text.splitlines() if part.strip()]
    # An assertion's second line is the comparison with its values filled in.
    yield "seen", "; ".join(said[: 2 if isinstance(error, AssertionError) else 1]) or kind


def _line(item: pytest.Item, error: BaseException) -> str:
    """The line of the test's own file that failed."""
    entries = pytest.ExceptionInfo.from_exception(error).traceback
    own = [entry for entry in entries if entry.path == item.path]
    return " ".join(str(own[-1].statement).split()) if own else ""


def _faults(place: Place, error: BaseException) -> Iterator[tuple[str, str]]:
    behind = set(map(id, _chain(error)))
    on = [
        injection.name
        for injection in place.injections
        if injection.in_place or id(injection.left_by) in behind
    ]
    for line in fault_lines(place.history(), in_place=on, proxy_tells=place.proxy_tells):
        yield "fault", line


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and what it holds."""
    pending, met = [error], set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in met:
            continue
        met.add(id(one))
        yield one
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions


def _effects(place: Place) -> list[Effect]:
    environment = place.environment
    if environment is not None and environment.abilities.get("effects") is None:
        return environment.effects()
    file = place.path / "effects.jsonl"
    return read_lines(file.read_bytes(), Effect)[0] if file.exists() else []


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def repeat_command(item: pytest.Item) -> str:
    """What carries this test out again: with its seed, and what else the command line gave."""
    command = ["pytest", item.nodeid, "--harness-seed", str(item.config.stash[SETTINGS].seed)]
    for name in ("harness_daemon", "harness_proxy", "harness_isolation"):
        if given := item.config.getoption(name):
            command += ["--" + name.replace("_", "-"), given]
    run = item.stash.get(RUN, None)
    if run is not None:
        command += ["--harness-only-run", str(run.number)]
    return shlex.join(command)
