"""The demonstration as a newcomer runs it, and three sabotages that it must not survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment.reaper import carriers
from tests import sabotage

BOUND_S = 60


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    # Wide enough that no cell of the timeline is cut.
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def sabotaged(what: str, directory: Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sabotage.__file__).resolve())
    return run([sys.executable, program, what, "demo", "--seed", "7"], directory)


def results(directory: Path) -> dict:
    return json.loads((directory / "runs/latest/results.json").read_text())


def run_id(directory: Path) -> str:
    return json.loads((directory / "runs/latest/environment.json").read_text())["run_id"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One demonstration."""
    directory = tmp_path_factory.mktemp("demo")
    return run([sys.executable, "-m", "harness", "demo", "--seed", "7"], directory), directory


def test_the_demo_is_valid(told) -> None:
    """Six steps, one verdict line, exit 0, nothing left running."""
    done, directory = told

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "valid: 6 of 6 steps" in done.stdout
    assert "nothing left running" in done.stdout
    assert carriers(run_id(directory)) == []


def test_the_demo_keeps_its_record(told) -> None:
    """The run directory has what a reader needs to judge again."""
    _, directory = told
    names = {path.name for path in (directory / "runs/latest/").iterdir()}

    assert {
        "daemon.log",
        "effects.jsonl",
        "environment.json",
        "history.jsonl",
        "proxy.log",
        "results.json",
    } <= names
    assert [step["verdict"] for step in results(directory)["steps"]] == ["valid"] * 6


def test_show_prints_the_timeline_of_the_demo(told) -> None:
    """`harness show` finds the newest run and tells faults, calls and executions."""
    _, directory = told

    shown = run([sys.executable, "-m", "harness", "show"], directory)

    assert shown.returncode == 0, shown.stderr
    for word in ("latency-1", "reset_peer-4", "✗ RST", "executed", "SIGKILL"):
        assert word in shown.stdout


@pytest.mark.parametrize(
    ("what", "step", "why"),
    [
        ("bypass", "baseline", "the client does not go through it"),
        ("inert:all", "latency of 200 ms on replies", "the latency did not reach the client"),
        ("inert:latency", "latency of 200 ms on replies", "did not reach the client"),
        ("inert:timeout", "data dropped in a black hole, replies", "nothing was dropped"),
        ("inert:reset_peer", "connection reset in the middle of work", "was not reset under it"),
        ("rst-as-fin", "connection reset in the middle of work", "no RST reached the client"),
    ],
)
def test_a_fault_without_evidence_is_unknown(
    what: str, step: str, why: str, tmp_path: Path
) -> None:
    """Where a fault does not bite, the demo fails at that step, by name, with exit code 2."""
    done = sabotaged(what, tmp_path)

    assert done.returncode == 2, done.stdout + done.stderr
    steps = results(tmp_path)["steps"]
    assert [told["verdict"] for told in steps[:-1]] == ["valid"] * (len(steps) - 1)
    assert (steps[-1]["name"], steps[-1]["verdict"]) == (step, "unknown")
    assert why in steps[-1]["why"]
    assert f"unknown at step {len(steps)}, {step}: " in done.stdout
    assert carriers(run_id(tmp_path)) == []


def test_ctrl_c_puts_everything_away(tmp_path: Path) -> None:
    """In the middle of a step: exit 130, a sentence, nothing left."""
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        while "1 baseline" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        code = demo.wait(BOUND_S)
        said = demo.stderr.read()

    assert (code, said) == (130, "harness demo: interrupted; what was started is put away\n")
    assert carriers(run_id(tmp_path)) == []
