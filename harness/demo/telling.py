"""How the story is told: plain lines, the same on a terminal and in a CI log."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from harness.errors import HarnessError

__all__ = ["Step", "Verdict", "close_line", "describe", "head", "opening"]

Verdict = Literal["valid", "invalid", "unknown"]

_WIDTH: Final = 88


@dataclass(frozen=True, kw_only=True)
class Step:
    """
    One step, told.

    Attributes:
        name: What was done.
        expected: What a sound daemon lets us see.
        measured: What we saw.
        sides: Who saw what: the evidence from both sides of the fault.
        verdict: valid; invalid (the fault bit, and the daemon did not cope); unknown (the
            fault left no evidence, so nothing is proven).
        why: The sentence behind a verdict that is not valid.
    """

    name: str
    expected: str
    measured: str
    sides: tuple[tuple[str, str], ...]
    verdict: Verdict
    why: str = ""


def head(error: HarnessError) -> str:
    """An error's class and sentence, without its rows."""
    return f"{type(error).__name__}: {error.headline}"


def opening(*, backend: str, proxy: str, seed: int, directory: Path) -> str:
    """The first line."""
    where = f"backend {backend}   proxy {proxy}   seed {seed}"
    return f"harness demo   {where}   {_short(directory)}\n"


def describe(number: int, step: Step) -> str:
    """A step that ended."""
    title = f"  {number} {step.name}"
    rows = [("expected", step.expected), ("measured", step.measured), *step.sides]
    lines = [f"{title.ljust(_WIDTH - len(step.verdict))}{step.verdict}"]
    lines += [f"      {label.ljust(10)}{text}" for label, text in rows]
    if step.why:
        lines.append(f"      {'why'.ljust(10)}{step.why}")
    return "\n".join(lines) + "\n"


def close_line(
    verdict: str,
    told: Sequence[Step],
    *,
    total: int,
    elapsed_s: float,
    left: Sequence[str],
    limits_hit: Sequence[str] = (),
    again: str,
    runs: Path,
    directory: Path,
) -> str:
    """The verdict line and what to do next."""
    valid = sum(step.verdict == "valid" for step in told)
    rest = "nothing left running" if not left else f"left: {', '.join(left)}"
    lines = [f"  {verdict}: {valid} of {total} steps, {elapsed_s:.1f} s, {rest}"]
    lines += [f"  limit     {line}" for line in limits_hit]
    if told and told[-1].verdict != "valid":
        lines.append(f"  {verdict} at step {len(told)}, {told[-1].name}: {told[-1].why}")
        if len(told) < total:
            lines.append(f"  not run: steps {len(told) + 1} to {total}")
    command, run = _command(), _typed(directory)
    elsewhere = "" if runs == Path("runs") else f" --runs {_typed(runs)}"
    lines.append(f"  run       {run}   (history, results, daemon.log, proxy.log)")
    lines.append(f"  again     {command} demo {again}{elsewhere}")
    lines.append(f"  timeline  {command} show {run}")
    return "\n".join(lines)


def _short(path: Path) -> str:
    """A path as it is seen from here."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def _typed(path: Path) -> str:
    """A path as one would type it here, in a shell."""
    short = _short(path)
    # A command would take it for an option.
    return shlex.quote(f"./{short}" if short.startswith("-") else short)


def _command() -> str:
    """How this command can be typed in this shell."""
    if shutil.which("harness"):
        return "harness"
    # Not resolved: a virtual environment's Python is a link to another one.
    return f"{_typed(Path(sys.executable))} -m harness"
