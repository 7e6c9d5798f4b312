"""Errors and the lines of the project that met them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from harness.errors import HarnessError

__all__ = ["behind", "leave_out_ours", "met_at"]


def met_at(item: pytest.Item, error: BaseException) -> tuple[str, int, str]:
    """
    The place in the project that failed: its file, line and statement. The innermost in the
    test's own file, else in a conftest.py, else the test itself.
    """
    entries = pytest.ExceptionInfo.from_exception(error).traceback
    for own in (
        [entry for entry in entries if entry.path == item.path],
        [entry for entry in entries if Path(entry.path).name == "conftest.py"],
    ):
        if own:
            return str(own[-1].path), own[-1].lineno + 1, _statement(own[-1])
    return str(item.path), (item.location[1] or 0) + 1, ""


def _statement(entry: Any) -> str:
    try:
        return str(entry.statement)
    except (IndexError, AssertionError):
        # The file is not what it was when it was imported.
        return ""


def behind(error: BaseException | None) -> Iterator[BaseException]:
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


def leave_out_ours(error: BaseException, *, root: Path) -> None:
    """
    Cut the tracebacks of our own errors after the project's line that met them: what they
    have to say they say themselves.

    Args:
        error: What a test raised; also what is behind it and in it is looked at.
        root: The project's folder.
    """
    for one in behind(error):
        if not isinstance(one, HarnessError):
            continue
        last = None
        trace = one.__traceback__
        while trace is not None:
            if _is_of_the_project(trace, root):
                last = trace
            trace = trace.tb_next
        if last is not None:
            last.tb_next = None
        elif one is not error:
            one.__traceback__ = None


def _is_of_the_project(trace: TracebackType, root: Path) -> bool:
    file = Path(trace.tb_frame.f_code.co_filename)
    module = str(trace.tb_frame.f_globals.get("__name__"))
    foreign = "site-packages" in file.parts or module.partition(".")[0] == "harness"
    return file.is_relative_to(root) and not foreign
