"""
The process that puts things away for a harness that died.

Closing its pipe is all that the death of a harness looks like to it; `dismiss` does that.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clock import now
from harness.environment import processes
from harness.environment.processes import Reaper
from harness.environment.reaper import PROGRAM, RUN_ID
from tests.integration.proxy_process import BOUND_S, Http

# Each of these is told to the reaper as a run's id: nobody else's may be the same.
RUNS = tuple(f"test-reaper-{os.getpid()}-{letter}" for letter in "abc")


@pytest.fixture
def sleeper() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process that carries a run's id and never ends by itself."""
    with ExitStack() as stack:

        def start(run_id: str) -> subprocess.Popen[bytes]:
            variables = {**os.environ, RUN_ID: run_id, PROGRAM: "daemon"}
            process = subprocess.Popen(["sleep", "600"], env=variables)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reaper that has hardly begun has all the time that it needs for its end."""
    monkeypatch.setattr(processes, "_ENDED_WITHIN_S", BOUND_S)


def gone(path: Path, *, within_s: float = BOUND_S) -> bool:
    """Whether it goes away in time."""
    deadline = now() + within_s
    while path.exists():
        if now() >= deadline:
            return False
        os.sched_yield()
    return True


def test_only_runs_that_were_not_put_away_are_swept(
    patient: None, sleeper: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """One reaper, three runs, one of them settled: its process and its folder stay."""
    reaper = Reaper()
    processes = {run_id: sleeper(run_id) for run_id in RUNS}
    for run_id in RUNS:
        (tmp_path / run_id).mkdir()
        reaper.watch(run_id)
        reaper.remove(run_id, tmp_path / run_id)
    first, settled, last = RUNS
    reaper.settle(settled)

    reaper.dismiss()

    assert [processes[run_id].wait(BOUND_S) for run_id in (first, last)] == [-signal.SIGKILL] * 2
    assert processes[settled].poll() is None
    assert [path.name for path in tmp_path.iterdir()] == [settled]


def test_what_was_made_on_a_server_is_deleted(patient: None, edge: Http) -> None:
    """What the order was taken back of stays, unless it was given anew; no settled run's does."""
    reaper, url = Reaper(), f"http://127.0.0.1:{edge.address[1]}/proxies"
    for name in ("a b", "left", "anew", "settled"):
        body = {"name": name, "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"}
        assert edge.call("POST", "/proxies", body).status == 201
    dead, settled, _ = RUNS
    reaper.delete(dead, f"{url}/a%20b")
    reaper.delete(dead, f"{url}/left")
    reaper.leave(dead, f"{url}/left")
    for order in (reaper.delete, reaper.leave, reaper.delete):
        order(dead, f"{url}/anew")
    reaper.delete(settled, f"{url}/settled")
    reaper.settle(settled)

    reaper.dismiss()

    assert set(edge.call("GET", "/proxies").json) == {"edge", "left"}


def test_a_server_that_does_not_answer_keeps_no_process_alive(
    sleeper: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    """Processes go first: a server that hangs is waited for afterwards, and not for ever."""
    reaper, process = Reaper(), sleeper(RUNS[0])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reaper.watch(RUNS[0])
        for n in range(20):
            reaper.delete(RUNS[0], f"http://127.0.0.1:{silent.getsockname()[1]}/{n}")

        reaper.dismiss()

    # Nobody waits for the reaper until it has given up on all twenty.
    assert process.poll() == -signal.SIGKILL


def reaping(said: bytes) -> None:
    """A reaper that is told this, and whose harness dies then."""
    command = [sys.executable, "-m", "harness.environment.reaper", str(os.getpid())]
    subprocess.run(command, input=said, timeout=BOUND_S, check=True)


def test_an_order_that_was_cut_off_is_none(tmp_path: Path) -> None:
    """Half a path may be another's folder: /a of /a/b."""
    (tmp_path / "mine").mkdir()

    reaping(f"run remove {tmp_path}/mine\nrun remove {tmp_path}".encode())

    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_any_name_is_removed(patient: None, tmp_path: Path) -> None:
    """Blanks, and bytes that are no UTF-8."""
    folder = tmp_path / os.fsdecode(b"a b \xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    reaper = Reaper()
    reaper.remove(RUNS[0], folder)

    reaper.dismiss()

    assert not folder.exists()


FORKED = """
import os, signal, sys
from harness.environment.processes import Reaper
reaper = Reaper()
for n in range(400):
    reaper.remove("run", sys.argv[1] + "/nothing-" + str(n))
reaper.remove("run", sys.argv[1] + "/folder")
if os.fork() == 0:
    open(sys.argv[1] + "/pid", "w").write(str(os.getpid()))
    signal.pause()
while not os.path.exists(sys.argv[1] + "/pid"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A harness that dies at once and leaves a fork of itself behind, which holds the pipe open."""


def test_a_fork_that_holds_the_pipe_open_keeps_nothing_alive(tmp_path: Path) -> None:
    """Every order is obeyed, also those that were not read yet when the harness died."""
    (tmp_path / "folder").mkdir()
    try:
        subprocess.run([sys.executable, "-c", FORKED, tmp_path], timeout=BOUND_S, check=False)

        assert gone(tmp_path / "folder")
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_harness_goes_on_without_its_reaper() -> None:
    """Somebody killed it: orders go nowhere, and nothing is raised."""
    reaper = Reaper()
    reaper._process.kill()
    reaper._process.wait(BOUND_S)

    reaper.watch(RUNS[0])
    reaper.settle(RUNS[0])
    reaper.dismiss()
