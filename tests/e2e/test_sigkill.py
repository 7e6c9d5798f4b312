"""The harness is killed at any moment: a second later nothing of it is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.clock import now
from harness.environment.backends import DOCKER, LOCAL, engine
from harness.environment.reaper import carriers
from tests.backends import in_containers
from tests.integration.foreign import KINDS, Foreign, foreign_server
from tests.integration.refdaemon_process import started

# Fifty of them are a script: HARNESS_TEST_MOMENTS=50 make test-e2e ARGS="-k sigkill".
MOMENTS = int(os.environ.get("HARNESS_TEST_MOMENTS", "10"))
ATTACHED_MOMENTS = 5
WITHIN_S = 1.0
# A network takes the engine a while.
BACKENDS_WITHIN_S = {LOCAL: 1.0, DOCKER: 2.0}
# Between its first line and steady traffic.
LONGEST_S = {LOCAL: 0.8, DOCKER: 1.4}
COMPOSE_MOMENTS = max(4, MOMENTS // 2)
# It starts another container, and stands on another network; what it asked for comes late.
COMPOSE_WITHIN_S = 6.0
COMPOSE_LONGEST_S = 4.0
# An image that takes a minute is being built by then, and still is.
BUILDING_S = 4.0
ROOT = Path(__file__).resolve().parents[2]

# What is left is gone in a second where no other worker is at work.
pytestmark = pytest.mark.whole_machine


def spoken_of(run_id: str) -> list[int]:
    """Processes with that id in their arguments, whatever they carry."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        # One that ends while it is looked at.
        with suppress(OSError):
            if run_id.encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def remains(backend: str, run_id: str, ports: list[int], temporary: Path) -> list[str]:
    """What is left of a run, by name."""
    left = [f"process {pid}" for pid in {*carriers(run_id), *spoken_of(run_id)}]
    if backend == DOCKER:
        left += engine().left.remains(run_id)
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                left.append(f"port {port}")
    return left + [f"file {path}" for path in temporary.iterdir()]


def kill_one(
    backend: str,
    after_s: float | None,
    directory: Path,
    *projects: Path,
    within_s: float | None = None,
) -> tuple[list[str], int]:
    """
    Start a harness, kill it so long after it began, or once it is at work: what is left, and
    how many ports it had.
    """
    directory.mkdir()
    temporary, ids = directory / "tmp", directory / "ids"
    temporary.mkdir()
    victim = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.victim", str(ids), backend, *map(str, projects)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert victim.stdout is not None
    with victim, victim.stdout:
        victim.stdout.readline()
        if after_s is None:
            victim.stdout.readline()
        else:
            with suppress(subprocess.TimeoutExpired):
                # The wait is the moment: the victim never ends by itself.
                victim.wait(after_s)
        victim.send_signal(signal.SIGKILL)
    run_id, *ports = ids.read_text().split("\n")
    deadline = now() + (within_s or BACKENDS_WITHIN_S[backend])
    numbers = [int(port) for port in ports]
    while (left := remains(backend, run_id, numbers, temporary)) and now() < deadline:
        os.sched_yield()
    return left, len(ports)


@pytest.mark.timeout(60 + 10 * MOMENTS)
def test_nothing_survives_sigkill(backend: str, tmp_path: Path) -> None:
    """At random moments between the first line and steady traffic."""
    chance = random.Random()
    seed = chance.randrange(1_000_000)
    chance.seed(seed)
    left, ready = {}, 0
    # The first and the last are certain: starting up, and at work.
    moments = [0.0, *(chance.uniform(0, LONGEST_S[backend]) for _ in range(MOMENTS - 2)), None]
    for n, moment in enumerate(moments):
        remaining, ports = kill_one(backend, moment, tmp_path / str(n))
        ready += ports == 2
        if remaining:
            left["at work" if moment is None else f"{moment:.3f} s"] = remaining

    assert left == {}, f"seed {seed}"
    # Some of the moments met it starting up, some at work; else the test tests little.
    assert 0 < ready < MOMENTS


@in_containers
@pytest.mark.usefixtures("compose")
@pytest.mark.timeout(60 + 20 * COMPOSE_MOMENTS)
def test_nothing_survives_of_a_compose_project(project: Path, tmp_path: Path) -> None:
    """While an image is built, while Compose is at work, and later; some seconds after that."""
    chance = random.Random()
    seed = chance.randrange(1_000_000)
    chance.seed(seed)
    left, ready = {}, 0
    dockerfile = project / "Dockerfile"
    usual = dockerfile.read_text()
    dockerfile.write_text(f"{usual}\nRUN sleep 60 && echo {seed}\n")
    moments = [*(chance.uniform(0.5, COMPOSE_LONGEST_S) for _ in range(COMPOSE_MOMENTS - 2)), None]
    for n, moment in enumerate([BUILDING_S, *moments]):
        place = tmp_path / f"run-{n}"
        remaining, ports = kill_one(DOCKER, moment, place, project, within_s=COMPOSE_WITHIN_S)
        dockerfile.write_text(usual)
        ready += ports == 2
        if remaining:
            left["at work" if moment is None else f"{moment:.3f} s"] = remaining

    assert left == {}, f"seed {seed}"
    assert 0 < ready < COMPOSE_MOMENTS


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
