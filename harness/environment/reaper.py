"""
Nothing survives the process that made it, SIGKILL included.

Every child of an environment carries `HARNESS_RUN_ID` in its environment variables,
and passes it on to what it starts itself; so a daemon that forks, or starts a
session of its own, is found too. A small process of its own session waits at the
other end of a pipe. When the harness dies, however it dies, the pipe ends and the
reaper kills what carries the run id.

Run as `python -m harness.environment.reaper RUN_ID`. It reads lines: `remove PATH` (a
directory that must not outlive the run), `done` (everything was put away, go).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from pathlib import Path

__all__ = ["PROGRAM", "RUN_ID", "carriers", "end_all"]

RUN_ID = "HARNESS_RUN_ID"
PROGRAM = "HARNESS_PROGRAM"

# A child between fork and exec does not carry the id yet: look again for a while.
_CLEAN_SCANS = 6
_MOST_SCANS = 100
_SCAN_PAUSE_S = 0.05
_PARENT_CHECK_S = 0.5


def carriers(run_id: str, program: str | None = None) -> list[int]:
    """
    The processes that carry a run id, this one excepted.

    Only Linux shows other processes' environments; elsewhere the list is empty.

    Args:
        run_id: The run.
        program: Only those that carry this program's name, too.
    """
    wanted = [f"{RUN_ID}={run_id}".encode()]
    if program is not None:
        wanted.append(f"{PROGRAM}={program}".encode())
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            # A process that ends while it is looked at, or is somebody else's.
            with contextlib.suppress(OSError):
                variables = Path(entry.path, "environ").read_bytes().split(b"\0")
                if all(variable in variables for variable in wanted):
                    found.append(int(entry.name))
    return found


def end_all(run_id: str, program: str | None = None) -> list[int]:
    """Kill the processes that carry a run id. Returns those that were there."""
    found = carriers(run_id, program)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _listen(stream: int) -> tuple[bool, list[str]]:
    """
    Read orders until the harness ends.

    Returns:
        Whether it put everything away itself, and the directories to remove.
    """
    parent = os.getppid()
    text = b""
    while True:
        ready, _, _ = select.select([stream], [], [], _PARENT_CHECK_S)
        data = os.read(stream, 4096) if ready else b""
        text += data
        # Somebody who forked the harness may hold the pipe open; its parent's end counts too.
        if (ready and not data) or os.getppid() != parent:
            break
    lines = text.decode().splitlines()
    removals = [line.removeprefix("remove ") for line in lines if line.startswith("remove ")]
    return "done" in lines, removals


def _sweep(run_id: str) -> None:
    clean = 0
    for _ in range(_MOST_SCANS):
        clean = 0 if end_all(run_id) else clean + 1
        if clean == _CLEAN_SCANS:
            return
        select.select([], [], [], _SCAN_PAUSE_S)


def main() -> None:
    """Wait, then sweep."""
    # Ctrl-C is for the harness; it closes the pipe when it has put things away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    done, removals = _listen(0)
    if done:
        return
    _sweep(sys.argv[1])
    for path in removals:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
