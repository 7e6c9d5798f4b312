"""The examples, held against faults that do nothing: a test that still passes proves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment.backends import engine

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 50

INERT = """
from tests import sabotage

sabotage.sabotage("inert:all")
"""


def test_no_test_of_the_echo_example_passes_without_its_fault(tmp_path: Path) -> None:
    """Toxics that do nothing fail all that put one on; a kill is no toxic."""
    echo = shutil.copytree(
        ROOT / "examples/echo", tmp_path / "echo", ignore=shutil.ignore_patterns("runs", "__*")
    )
    (echo / "conftest.py").write_text(INERT)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:randomly", "--harness-strict"],
        cwd=echo,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert "PASSED test_echo.py::test_a_killed_server_comes_back\n" in done.stdout
    assert " 1 passed" in done.stdout
    assert done.stdout.count("\nPASSED ") == 1


@pytest.mark.parametrize("proxy", ["embedded", "toxiproxy"])
def test_the_echo_example_passes_in_a_container(
    containers: None, tmp_path: Path, proxy: str
) -> None:
    """All five behind our proxy; behind the real one all but that which it cannot."""
    echo = shutil.copytree(
        ROOT / "examples/echo", tmp_path / "echo", ignore=shutil.ignore_patterns("runs", "__*")
    )
    before = set(engine().images.tags("ws-harness-built:"))
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:randomly"]
    done = subprocess.run(
        [*command, "--harness-backend", "docker", "--harness-proxy", proxy],
        cwd=echo,
        env={**os.environ, "GITHUB_STEP_SUMMARY": ""},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    for tag in set(engine().images.tags("ws-harness-built:")) - before:
        engine().images.remove(tag)

    assert done.returncode == 0, done.stdout
    assert (" 5 passed" if proxy == "embedded" else " 4 passed, 1 skipped") in done.stdout
    if proxy == "toxiproxy":
        assert "live_rst: a reset of a live connection arrived as FIN" in done.stdout
