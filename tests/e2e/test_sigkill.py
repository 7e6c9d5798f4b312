"""The harness is killed at any moment: a second later nothing of it is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clock import now
from harness.environment.reaper import carriers
from tests.integration.foreign import KINDS, Foreign, foreign_server
from tests.integration.refdaemon_process import started

MOMENTS = 20
ATTACHED_MOMENTS = 5
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


def end_attached(
    number: signal.Signals, line: str, after_s: float, *addresses: str, temporary: Path
) -> None:
    """Start a harness that is attached, end it so long after it said that line."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.attached_victim", *addresses],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as victim:
        assert victim.stdout is not None
        while victim.stdout.readline() != f"{line}\n":
            assert victim.poll() is None
        try:
            # The wait is the moment: the victim never ends by itself.
            victim.wait(after_s)
        except subprocess.TimeoutExpired:
            victim.send_signal(number)


def look(foreign: Foreign, temporary: Path) -> tuple[bytes, list[str]]:
    """What is on the server, and what lies in the folder for temporary files."""
    return foreign.state(), [path.name for path in temporary.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("kind", KINDS)
async def test_somebody_elses_server_is_as_it_was(
    kind: str, number: signal.Signals, tmp_path: Path
) -> None:
    """
    At moments of the start and of steady traffic: a second later our proxies and temporary
    files are gone, all else is there.
    """
    chance = random.Random()
    seed = chance.randrange(1_000_000)
    chance.seed(seed)
    # Somebody else's daemon and server are there already: it takes some 30 ms to begin.
    moments = [("begun", chance.uniform(0, 0.04)) for _ in range(ATTACHED_MOMENTS)]
    moments += [("at work", chance.uniform(0, 0.2)) for _ in range(ATTACHED_MOMENTS)]
    left = {}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with foreign_server(kind) as foreign:
        before = foreign.state(), []
        async with started(tmp_path, token=None) as daemon:
            for line, moment in moments:
                addresses = daemon.url, foreign.url
                end_attached(number, line, moment, *addresses, temporary=temporary)
                deadline = now() + WITHIN_S
                while (found := look(foreign, temporary)) != before and now() < deadline:
                    os.sched_yield()
                if found != before:
                    left[f"{line}, {moment:.3f} s"] = found
            runs = daemon.process.returncode is None

    assert left == {}, f"seed {seed}"
    assert runs
