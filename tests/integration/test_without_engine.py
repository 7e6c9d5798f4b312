"""A machine on which no container engine answers: told shortly, wherever it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ASKED = """
import gc
from contextlib import suppress
from harness.environment.containers import Engine
from harness.errors import EnvironmentFailed

with suppress(EnvironmentFailed):
    Engine()
gc.collect()
"""


def command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Our command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_engine_is_told_with_the_remedy(tmp_path: Path) -> None:
    """3, not a traceback."""
    done = command(
        *("demo", "--backend", "docker", "--runs", str(tmp_path)),
        DOCKER_HOST=f"unix://{tmp_path}/nobody.sock",
    )

    assert done.returncode == 3
    assert "no container engine answers at unix://" in done.stderr
    assert "there is no such socket" in done.stderr
    assert "--backend local" in done.stderr or "backend local" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_engine_auto_is_local(tmp_path: Path) -> None:
    """And the reason is printed."""
    done = command(
        *("demo", "--backend", "auto", "--runs", str(tmp_path)),
        DOCKER_HOST=f"unix://{tmp_path}/nobody.sock",
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("backend local: no container engine answers")
    assert "backend local   proxy embedded" in done.stdout


@pytest.mark.parametrize("where", ["unix://{}/nobody.sock", "tcp://127.0.0.1:1"])
def test_whoever_asks_in_vain_leaves_no_socket(where: str, tmp_path: Path) -> None:
    """In a suite where warnings are errors it would fail some later test."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", _ASKED],
        env={**os.environ, "DOCKER_HOST": where.format(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr
