"""Programs that make images: run to their end, with what they said where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentFailed

__all__ = ["need", "run"]

_TAIL_LINES: Final = 12


def need(program: str, *, remedy: str) -> str:
    """
    A program's path.

    Raises:
        EnvironmentFailed: If it is not there.
    """
    found = shutil.which(program)
    if found is None:
        raise EnvironmentFailed(f"there is no program {program}", [("next", remedy)])
    return found


def run(
    what: str,
    command: Sequence[str],
    *,
    within_s: float,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """
    Run a program to its end.

    Raises:
        EnvironmentFailed: If it fails, or does not end in time.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(variables or {})},
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(
            f"{what} did not end within {within_s:g} s", [("command", " ".join(command))]
        ) from None
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        rows = [("command", " ".join(command)), ("it said", "\n".join(said))]
        if any("No space left" in line for line in said):
            rows.append(("next", "free some disk"))
        raise EnvironmentFailed(f"{what} failed, exit code {done.returncode}", rows)
