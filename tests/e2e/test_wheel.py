"""What a user installs: the wheel, in a clean environment, away from this tree."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 280


def run(*command: str | Path, cwd: Path) -> str:
    """A command's output; the test fails with it where the command does."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(300)
def test_the_wheel_runs_the_demo_in_a_clean_environment(tmp_path: Path) -> None:
    """A plain install brings all that the local backend needs, and nothing of Docker."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("ws_harness-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    constraints = ROOT / "constraints.txt"

    run(python, "-m", "pip", "install", "-q", "-c", constraints, wheel, cwd=tmp_path)
    told = run(tmp_path / "venv/bin/harness", "demo", cwd=tmp_path)
    listed = run(python, "-m", "pip", "list", cwd=tmp_path)

    assert "valid: 6 of 6 steps" in told
    assert "docker" not in listed
    assert (tmp_path / "runs/latest/results.json").exists()
