"""
Nothing survives the process that made it, SIGKILL included.

Every child of an environment carries `HARNESS_RUN_ID` in its environment variables,
and passes it on to what it starts itself; so a daemon that forks, or starts a
session of its own, is found too. A small process of its own session waits at the
other end of a pipe. When the harness dies, however it dies, the pipe ends and the
reaper kills what carries the ids of its runs.

Run as `python -m harness.environment.reaper`. It reads lines, each for one run:
`ID watch`, `ID remove PATH` (a directory that must not outlive the run), `ID delete URL`
(what was made on somebody else's server), `ID done` (all of it was put away).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
from pathlib import Path

__all__ = ["PROGRAM", "RUN_ID", "carriers", "end_all"]

RUN_ID = "HARNESS_RUN_ID"
PROGRAM = "HARNESS_PROGRAM"

# A child between fork and exec does not carry the id yet: look again for a while.
_CLEAN_SCANS = 6
_MOST_SCANS = 100
_SCAN_PAUSE_S = 0.05
_PARENT_CHECK_S = 0.5
_DELETE_TIMEOUT_S = 0.5


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


def _listen(stream: int) -> list[list[str]]:
    """Read orders until the harness ends: those of the runs that it did not put away itself."""
    parent = os.getppid()
    text = b""
    while True:
        ready, _, _ = select.select([stream], [], [], _PARENT_CHECK_S)
        data = os.read(stream, 4096) if ready else b""
        text += data
        # Somebody who forked the harness may hold the pipe open; its parent's end counts too.
        if (ready and not data) or os.getppid() != parent:
            break
    # What was cut off in the middle names nothing.
    orders = [line.split(" ", 2) for line in text.decode().split("\n")[:-1]]
    done = {run_id for run_id, *order in orders if order == ["done"]}
    return [order for order in orders if order[0] not in done]


def _sweep(run_ids: set[str]) -> None:
    clean = 0
    for _ in range(_MOST_SCANS):
        found = [pid for run_id in run_ids for pid in end_all(run_id)]
        clean = 0 if found else clean + 1
        if clean == _CLEAN_SCANS:
            return
        select.select([], [], [], _SCAN_PAUSE_S)


def _delete(url: str) -> None:
    # Imported here: hardly any run makes anything on somebody else's server.
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_DELETE_TIMEOUT_S)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("DELETE", parts.path)
        connection.getresponse()
    connection.close()


def main() -> None:
    """Wait, then sweep."""
    # Ctrl-C is for the harness; it closes the pipe when it has put things away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orders = _listen(0)
    if not orders:
        return
    for url in _about(orders, "delete"):
        _delete(url)
    _sweep({run_id for run_id, *_ in orders})
    for path in _about(orders, "remove"):
        shutil.rmtree(path, ignore_errors=True)


def _about(orders: list[list[str]], wanted: str) -> list[str]:
    return [order[2] for order in orders if order[1] == wanted]


if __name__ == "__main__":
    main()
