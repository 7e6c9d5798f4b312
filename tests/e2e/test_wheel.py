"""What a user installs: the wheel, in a clean environment, away from this tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 280

# What the plugin's users need not have.
OURS_ALONE = {
    *("anyio", "docker", "hypothesis", "requests", "testcontainers", "toxiproxy-python"),
    *("pytest-randomly", "pytest-timeout", "pytest-xdist"),
}

pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """A command's output; the test fails with it where it ends otherwise."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


class Installed:
    """A clean environment with the wheel in it."""

    def __init__(self, folder: Path, wheel: Path, *, extra: str = "") -> None:
        self.programs = folder / "venv/bin"
        venv.create(folder / "venv", with_pip=True)
        constraints = ROOT / "constraints.txt"
        what = f"{wheel}{extra}"
        run(*self._pip, "install", "-q", "-c", constraints, what, cwd=folder)

    @property
    def _pip(self) -> tuple[str | Path, ...]:
        return self.programs / "python", "-m", "pip", "--disable-pip-version-check"

    def packages(self) -> set[str]:
        """The names of what is installed."""
        listed = run(*self._pip, "list", "--format", "json", cwd=self.programs)
        return {package["name"].lower() for package in json.loads(listed)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, cwd=ROOT)
    (built,) = folder.glob("ws_harness-*.whl")
    return built


@pytest.fixture(scope="module")
def testing(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What `pip install 'ws-harness[test]'` makes."""
    return Installed(tmp_path_factory.mktemp("testing"), wheel, extra="[test]")


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """The stranger's project, as it was checked in."""
    ignored = shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(ROOT / "examples/echo", tmp_path / "echo", ignore=ignored))


def test_a_plain_install_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """It brings all that the local backend needs, and nothing of Docker or pytest."""
    plain = Installed(tmp_path, wheel)

    told = run(plain.programs / "harness", "demo", cwd=tmp_path)

    assert "valid: 6 of 6 steps" in told
    assert (tmp_path / "runs/latest/results.json").exists()
    assert plain.packages() & {*OURS_ALONE, "pytest"} == set()


def test_what_images_are_made_of_is_in_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Whoever has no tree makes the same image: of the same code, by the same Dockerfile."""
    # An image has what metrics need where that is installed, as it is here.
    measuring = Installed(tmp_path, wheel, extra="[metrics]")
    script = "from harness.environment.images.daemon import inputs; print(inputs())"

    installed = run(measuring.programs / "python", "-P", "-c", script, cwd=tmp_path)

    assert installed == run(sys.executable, "-P", "-c", script, cwd=ROOT)


def test_a_strangers_project_passes(testing: Installed, echo: Path) -> None:
    """Its five tests, by its own pytest, with no package that it did not ask for."""
    told = run(testing.programs / "pytest", cwd=echo)

    assert "harness: daemon command, backend local, proxy embedded" in told
    assert "5 passed" in told
    assert testing.packages() & OURS_ALONE == set()


def test_a_strangers_failure_tells_what_happened(testing: Installed, echo: Path) -> None:
    """The sentence, the fault with what it touched, how to repeat it, the timeline."""
    test = echo / "test_echo.py"
    hopeful = test.read_text().replace("elapsed_ms >= 100", "elapsed_ms >= 2000")
    assert hopeful != test.read_text()
    test.write_text(hopeful)

    told = run(testing.programs / "pytest", "-k", "late", cwd=echo, code=1)

    sentence, _, timeline = told.partition("harness timeline")
    for said in (
        r"^expected +reply\.elapsed_ms >= 2000$",
        r"^fault +.*latency on replies, latency_ms 100 \(delayed 1 x, 4 bytes; 1 call exposed\)$",
        r"^run +runs/test_a_late_reply_is_a_reply/",
        r"^again +pytest test_echo\.py::test_a_late_reply_is_a_reply --harness-seed \d+$",
    ):
        assert re.search(said, sentence, re.MULTILINE), sentence
    for seen in ("latency-1 in place", "call hi", "delayed 4 by", "lifted"):
        assert seen in timeline


def test_a_strangers_daemon_comes_up_by_hand(testing: Installed, echo: Path) -> None:
    """`harness up` in that folder takes its table."""
    with subprocess.Popen(
        [testing.programs / "harness", "up"], cwd=echo, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        said = [up.stdout.readline() for _ in range(4)]
        up.terminate()
        assert up.wait(BOUND_S) == 0

    assert "command, started here" in said[3]
