"""Programs that end well, carried out for what they write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

__all__ = ["docker", "output_of"]

_DOCKER_S = 60


def output_of(*command: str, within_s: float, variables: Mapping[str, str] | None = None) -> str:
    """
    Carry out a program; anything but 0 fails the test, with what it complained of.

    Args:
        command: The program and its words.
        within_s: After so many seconds it is killed, and the test fails.
        variables: Environment variables on top of ours.

    Returns:
        What it wrote to its standard output.
    """
    done = subprocess.run(
        command,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def docker(*words: str) -> str:
    """A command of the engine's own; what it wrote."""
    return output_of("docker", *words, within_s=_DOCKER_S).strip()
