"""An installation without Docker's packages, an extra: told shortly, wherever it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BOUND_S = 60

_WITHOUT = "import sys; sys.modules['docker'] = None; "
_HARNESS = _WITHOUT + "from harness.cli import main; main()"
_PYTEST = _WITHOUT + "import pytest; sys.exit(pytest.main())"
_SAID = "containers need a package that is not installed: docker"


def run(program: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python program to its end, in a folder."""
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        "images",
        "images --list",
        "demo --backend docker",
        "demo --backend docker --proxy embedded",
        "demo --proxy toxiproxy",
        "up --backend docker",
    ],
)
def test_what_needs_them_says_what_to_install(words: str, tmp_path: Path) -> None:
    """An error of two lines, and no traceback."""
    done = run(_HARNESS, *words.split(), folder=tmp_path)

    assert done.returncode == 3, done.stderr
    assert _SAID in done.stderr
    assert "pip install 'ws-harness[docker]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["demo --backend auto", "doctor", "clean --dry-run"])
def test_what_can_do_without_does(words: str, tmp_path: Path) -> None:
    """And says why it did."""
    done = run(_HARNESS, *words.split(), folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert _SAID in done.stdout


def suite(folder: Path) -> Path:
    """A test that wants an environment."""
    (folder / "test_it.py").write_text("def test_it(harness_environment):\n    pass\n")
    return folder


@pytest.mark.parametrize("option", ["--harness-backend=docker", "--harness-proxy=toxiproxy"])
def test_a_test_that_needs_them_is_told(option: str, tmp_path: Path) -> None:
    """It fails at its set-up, as any whose environment does not come up."""
    done = run(_PYTEST, option, folder=suite(tmp_path))

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert _SAID in done.stdout
    assert "ws-harness[docker]" in done.stdout
    assert "Traceback" not in done.stdout


def test_auto_is_local_without_them(tmp_path: Path) -> None:
    """The header says why."""
    done = run(_PYTEST, "--harness-backend=auto", folder=suite(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"backend local ({_SAID})" in done.stdout
