"""A session as Markdown, for the summary page of a CI job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import Final

__all__ = ["LIMIT_BYTES", "Cost", "Failure", "Session", "summary"]

LIMIT_BYTES: Final = 900_000
"""GitHub drops a step's summary whole where it is above a mebibyte."""

_MOST_REASONS: Final = 50


@dataclass(frozen=True)
class Failure:
    """A test that failed: its id and phase, and what our sections of the report say."""

    test: str
    sections: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cost:
    """What one test's environment took, in seconds."""

    isolation: str
    up_s: float
    down_s: float


@dataclass(frozen=True, kw_only=True)
class Session:
    """
    What is told of a session.

    Attributes:
        outcomes: How many tests ended how.
        paths: What was seen on the way to the daemon, each once.
        abilities: What environments could do, each set once.
        costs: Of each environment.
        again: Attempts of set-up that were made again, each in words.
        skipped: Why tests were skipped, once for each.
    """

    outcomes: dict[str, int]
    paths: Sequence[str] = ()
    abilities: Sequence[str] = ()
    costs: Sequence[Cost] = ()
    again: Sequence[str] = ()
    skipped: Sequence[str] = ()
    failures: Sequence[Failure] = field(default=())


def summary(session: Session, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """
    The session as Markdown, never longer than that many bytes; what had to be left out is said.
    """
    counts = ", ".join(f"{count} {how}" for how, count in session.outcomes.items() if count)
    parts = [f"## harness: {counts or 'no tests'}\n\n"]
    parts += _paths(session)
    parts += _costs(session.costs)
    parts += _reasons(session.skipped)
    text = "".join(parts)
    room = limit_bytes - 200
    for number, failure in enumerate(session.failures):
        told = _failure(failure)
        if len((text + told).encode()) > room:
            left = len(session.failures) - number
            return f"{text}\n{left} more failures are left out: a summary has a limit of size.\n"
        text += told
    return text


def _paths(session: Session) -> Iterator[str]:
    for path in session.paths:
        yield f"- path: {escape(path)}\n"
    for abilities in session.abilities:
        yield f"- abilities: {escape(abilities)}\n"
    for line in session.again:
        yield f"- set up again: {escape(line)}\n"
    if session.paths or session.abilities or session.again:
        yield "\n"


def _costs(costs: Sequence[Cost]) -> Iterator[str]:
    if not costs:
        return
    yield "| environment | tests | up, median | longest | down, median |\n|---|---|---|---|---|\n"
    for isolation in sorted({cost.isolation for cost in costs}):
        mine = [cost for cost in costs if cost.isolation == isolation]
        up, down = [cost.up_s for cost in mine], [cost.down_s for cost in mine]
        cells = (escape(isolation), len(mine), *map(_ms, (median(up), max(up), median(down))))
        yield f"| {' | '.join(map(str, cells))} |\n"
    yield "\n"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _reasons(skipped: Sequence[str]) -> Iterator[str]:
    if not skipped:
        return
    yield "| not run | why |\n|---|---|\n"
    for reason, count in Counter(skipped).most_common(_MOST_REASONS):
        yield f"| {count} | {escape(' '.join(reason.split())).replace('|', '&#124;')} |\n"
    yield "\n"


def _failure(failure: Failure) -> str:
    body = "".join(
        f"<p>{escape(title)}</p>\n<pre>{escape(text)}</pre>\n" for title, text in failure.sections
    )
    return f"<details><summary>{escape(failure.test)}</summary>\n{body}</details>\n\n"
