"""A daemon's token out of a test's report, whatever the test printed, compared or raised."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import pytest

from harness.run.redact import Redactor

__all__ = ["hide"]

# pytest writes the start and the end of what is long, with this in between.
_LEFT_OUT: Final = "..."
# Less of a token tells nothing, and is found in other words.
_LEAST: Final = 4


def hide(secrets: Collection[str], report: pytest.TestReport) -> None:
    """Put "***" for each secret, and for what is left of one where pytest cut it."""
    clean = Redactor([*secrets, *_pieces(secrets)]).text
    if (annotation := getattr(report, "harness_annotation", None)) is not None:
        file, line, told = annotation
        report.harness_annotation = (file, line, clean(told))  # type: ignore[attr-defined]
    report.sections[:] = [(title, clean(text)) for title, text in report.sections]
    shown = str(report.longrepr)
    if clean(shown) == shown:
        return
    for traceback, crash, _ in getattr(report.longrepr, "chain", ()):
        _clean_chain(traceback, crash, clean)
    shown = str(report.longrepr)
    if clean(shown) != shown:
        # Of another shape: then it is plain text.
        report.longrepr = clean(shown)


def _pieces(secrets: Collection[str]) -> list[str]:
    sizes = [(secret, n) for secret in secrets for n in range(_LEAST, len(secret))]
    ends = [_LEFT_OUT + secret[-n:] for secret, n in sizes]
    return [*ends, *(secret[:n] + _LEFT_OUT for secret, n in sizes)]


def _clean_chain(traceback: Any, crash: Any, clean: Callable[[str], str]) -> None:
    """One error of a chain as pytest represents it: where it was met, and its lines."""
    if crash is not None:
        crash.message = clean(crash.message)
    for entry in traceback.reprentries:
        entry.lines[:] = [clean(line) for line in entry.lines]
        if (given := getattr(entry, "reprfuncargs", None)) is not None:
            given.args = [(name, clean(str(value))) for name, value in given.args]
        if (there := getattr(entry, "reprlocals", None)) is not None:
            there.lines[:] = [clean(line) for line in there.lines]
