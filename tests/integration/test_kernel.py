"""What the kernel tells of processes that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.environment import kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

_WAITS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that waits until its input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _WAITS], stdin=pipe, stdout=pipe) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"up\n"
        yield it


def test_who_runs_is_not_dying(process: subprocess.Popen[bytes]) -> None:
    """Not while it is asked to end in a way that it may decline, either."""
    assert not kernel.is_dying(process.pid)

    os.kill(process.pid, signal.SIGSTOP)
    try:
        os.kill(process.pid, signal.SIGTERM)
        assert not kernel.is_dying(process.pid)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_who_was_killed_is_dying_at_once(process: subprocess.Popen[bytes]) -> None:
    """Nobody waits for anything in between."""
    os.kill(process.pid, signal.SIGKILL)

    assert kernel.is_dying(process.pid)


def test_who_is_not_yet_reaped_or_gone_is_dying(process: subprocess.Popen[bytes]) -> None:
    """Whatever became of it."""
    process.communicate()
    assert kernel.is_dying(process.pid)

    with subprocess.Popen([sys.executable, "-c", ""]) as unreaped:
        os.waitid(os.P_PID, unreaped.pid, os.WEXITED | os.WNOWAIT)
        assert kernel.is_dying(unreaped.pid)
