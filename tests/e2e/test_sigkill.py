"""The harness is killed at any moment: a second later nothing of it is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

from harness.clock import now
from harness.environment.reaper import carriers

MOMENTS = 20
WITHIN_S = 1.0
ROOT = Path(__file__).resolve().parents[2]


def remains(run_id: str, ports: list[int], temporary: Path) -> list[str]:
    """What is left of a run, by name."""
    left = [f"process {pid}" for pid in carriers(run_id)]
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                left.append(f"port {port}")
    return left + [f"file {path}" for path in temporary.iterdir()]


def kill_one(after_s: float, directory: Path) -> tuple[list[str], int]:
    """Start a harness, kill it so long after it began: what is left, how many ports it had."""
    directory.mkdir()
    temporary, ids = directory / "tmp", directory / "ids"
    temporary.mkdir()
    victim = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.victim", str(ids)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert victim.stdout is not None
    with victim, victim.stdout:
        victim.stdout.readline()
        try:
            # The wait is the moment: the victim never ends by itself.
            victim.wait(after_s)
        except subprocess.TimeoutExpired:
            victim.send_signal(signal.SIGKILL)
    run_id, *ports = ids.read_text().split("\n")
    deadline = now() + WITHIN_S
    while (left := remains(run_id, [int(port) for port in ports], temporary)) and now() < deadline:
        os.sched_yield()
    return left, len(ports)


def test_nothing_survives_sigkill(tmp_path: Path) -> None:
    """At 20 random moments between the first line and steady traffic."""
    chance = random.Random()
    seed = chance.randrange(1_000_000)
    chance.seed(seed)
    left, ready = {}, 0
    for n in range(MOMENTS):
        moment = chance.uniform(0, 0.8)
        remaining, ports = kill_one(moment, tmp_path / str(n))
        ready += ports == 2
        if remaining:
            left[f"{moment:.3f} s"] = remaining

    assert left == {}, f"seed {seed}"
    # Some of the moments met it starting up, some at work; else the test tests little.
    assert 0 < ready < MOMENTS
