"""The programs that make images, and the command that has them made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment import images
from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed
from tests.integration.proxy_process import eventually
from tests.integration.throwaway import engine_or_skip

BOUND_S = 60


def shop(folder: Path) -> Workshop:
    return Workshop(folder, tell=lambda _: None)


def test_a_program_that_fails_is_told_with_what_it_said_last(tmp_path: Path):
    """And with what to do, where that is known."""
    script = "for n in $(seq 100); do echo line $n; done; echo No space left on device; exit 7"

    with pytest.raises(EnvironmentFailed, match="packing: sh ended with 7") as failure:
        shop(tmp_path).run(["sh", "-c", script], what="packing", within_s=BOUND_S)

    text = str(failure.value)
    assert "line 100" in text
    assert "line 50" not in text
    assert "make room" in text


def test_a_program_that_is_not_there_is_named(tmp_path: Path):
    """In our words."""
    with pytest.raises(EnvironmentFailed, match="packing: no-such-program: No such file"):
        shop(tmp_path).run(["no-such-program"], what="packing", within_s=BOUND_S)


async def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path):
    """What it started keeps its pipe open, and would keep us."""
    script = f"sleep 600 & echo $! > {tmp_path}/child; echo begun; wait"

    with pytest.raises(EnvironmentFailed, match=r"not done within 3 s") as failure:
        shop(tmp_path).run(["sh", "-c", script], what="packing", within_s=3)

    assert "begun" in str(failure.value)
    child = int((tmp_path / "child").read_text())
    await eventually(lambda: is_dead(child), bool)


async def is_dead(pid: int) -> bool:
    """Whether a process has ended; whoever adopted it may not have looked yet."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "Z (zombie)" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_how_far_it_is_is_told_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The last line that it wrote, now and then."""
    monkeypatch.setattr("harness.environment.images.workshop._TELL_S", 1.0)
    told: list[str] = []
    script = f"echo 57 packages; until [ -e {tmp_path}/go ]; do sleep 0.05; done"

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("57 packages"):
            (tmp_path / "go").touch()

    Workshop(tmp_path, tell=tell).run(["sh", "-c", script], what="packing", within_s=BOUND_S)

    assert re.fullmatch(r"packing: \d+ s, 57 packages", told[-1])


def command(*words: str, program: str = "") -> subprocess.CompletedProcess[str]:
    """`harness images`."""
    start = program or "from harness.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, "images", *words],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def test_the_command_lists_what_is_here(pytestconfig: pytest.Config):
    """A line for each that is needed; 0 where all are usable, else 3."""
    engine = engine_or_skip(pytestconfig)
    missing = images.missing(engine)
    engine.close()

    done = command("--list")

    assert done.returncode == (3 if missing else 0), done.stderr
    names = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert names == [images.own_image(), images.TOXIPROXY_IMAGE]


def test_what_excludes_each_other_is_refused():
    """One of making, listing, removing."""
    assert command("--list", "--remove").returncode == 64


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Where it looked, and what to do."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")

    done = command()

    assert done.returncode == 3
    assert "no container engine answers at unix://" in done.stderr
    assert "next" in done.stderr
