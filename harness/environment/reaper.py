"""
Nothing survives the process that made it, SIGKILL included.

Every child of an environment carries `HARNESS_RUN_ID` in its environment variables,
and passes it on to what it starts itself; so a daemon that forks, or starts a
session of its own, is found too. A small process of its own session waits at the
other end of a pipe. When the harness dies, however it dies, the pipe ends and the
reaper kills what carries the ids of its runs.

Run as `python -m harness.environment.reaper PID`, with the pid of the harness. It reads
lines, each for one run:
`ID watch`, `ID contain` (it has containers, too), `ID remove PATH` (a directory that must not
outlive the run), `ID delete URL` (what was made on somebody else's server), `ID leave URL` (it
is not there any more, or not ours), `ID done` (all of it was put away but for what is elsewhere).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clock import now

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["OWNER", "PROGRAM", "RUN_ID", "carriers", "end_all", "runs_of_processes"]

RUN_ID = "HARNESS_RUN_ID"
PROGRAM = "HARNESS_PROGRAM"
OWNER = "HARNESS_OWNER"

# A child between fork and exec does not carry the id yet: look again for a while.
_CLEAN_SCANS = 6
_MOST_SCANS = 100
_SCAN_PAUSE_S = 0.05
_CONTAINERS_WITHIN_S = 15.0
_PARENT_CHECK_S = 0.5
_DELETE_TIMEOUT_S = 0.5
_ELSEWHERE = ("delete", "leave")


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
    return [
        pid
        for pid, variables in _environments()
        if all(variable in variables for variable in wanted)
    ]


def runs_of_processes() -> dict[int, tuple[str, str]]:
    """Each process that carries a run id: that id, and the name of who started it."""
    found = {}
    for pid, variables in _environments():
        values = dict(line.split(b"=", 1) for line in variables if b"=" in line)
        if (run_id := values.get(RUN_ID.encode())) is not None:
            owner = values.get(OWNER.encode(), b"")
            found[pid] = os.fsdecode(run_id), os.fsdecode(owner)
    return found


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    """The environment variables of each process but this one, as far as they are shown."""
    with contextlib.suppress(FileNotFoundError), os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            # A process that ends while it is looked at, or is somebody else's.
            with contextlib.suppress(OSError):
                variables = Path(entry.path, "environ").read_bytes().split(b"\0")
                yield int(entry.name), variables


def end_all(run_id: str, program: str | None = None) -> list[int]:
    """Kill the processes that carry a run id. Returns those that were there."""
    found = carriers(run_id, program)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _listen(stream: int, harness: int) -> tuple[list[list[str]], Engine | None]:
    """
    Read orders until the harness ends: those of the runs that it did not put away itself, and
    the container engine where one was ever needed.
    """
    text = b""
    engine: Engine | None = None
    while True:
        ready, _, _ = select.select([stream], [], [], _PARENT_CHECK_S)
        if ready:
            data = os.read(stream, 4096)
            if not data:
                break
            text += data
            if engine is None and b" contain\n" in text:
                # Now, while there is time: its packages take a quarter of a second to import.
                engine = _engine()
        # A fork of the harness may hold the pipe open: once nothing comes, its end counts too.
        elif os.getppid() != harness:
            break
    # What was cut off in the middle names nothing.
    orders = [line.split(" ", 2) for line in os.fsdecode(text).split("\n")[:-1]]
    done = {run_id for run_id, *order in orders if order == ["done"]}
    # What could not be removed from somebody else's server is still there.
    return [order for order in orders if order[0] not in done or order[1] in _ELSEWHERE], engine


def _engine() -> Engine | None:
    # Whatever it is: what is there of processes and folders must still be put away.
    with contextlib.suppress(Exception):
        from harness.environment.containers import Engine

        return Engine()
    return None


def _sweep_containers(engine: Engine | None, run_ids: set[str]) -> None:
    if engine is None or not run_ids:
        return
    deadline = now() + _CONTAINERS_WITHIN_S
    # One that was being made when the harness died may come late: look until there is none.
    while now() < deadline:
        with contextlib.suppress(Exception):
            if not engine.left.sweep(*run_ids) and not engine.left.remains(*run_ids):
                break
        select.select([], [], [], _SCAN_PAUSE_S)


def _sweep(run_ids: set[str]) -> None:
    clean = 0
    for _ in range(_MOST_SCANS):
        found = [pid for run_id in run_ids for pid in end_all(run_id)]
        clean = 0 if found else clean + 1
        if clean == _CLEAN_SCANS:
            return
        select.select([], [], [], _SCAN_PAUSE_S)


def _delete_all(urls: set[str]) -> None:
    if not urls:
        return
    # Imported here: hardly any run makes anything on somebody else's server. And not a client
    # for HTTP, which takes a good part of the second that people wait for us.
    import socket

    for url in urls:
        server, _, path = url.removeprefix("http://").partition("/")
        host, _, port = server.rpartition(":")
        request = f"DELETE /{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"
        where = host.strip("[]"), int(port)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(where, _DELETE_TIMEOUT_S) as connection,
        ):
            connection.sendall(request.encode())
            # Before it answers it may not have seen it.
            connection.recv(1)


def main() -> None:
    """Wait, then sweep."""
    # Ctrl-C is for the harness; it closes the pipe when it has put things away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orders, engine = _listen(0, int(sys.argv[1]))
    contained = {run_id for run_id, what, *_ in orders if what == "contain"}
    run_ids = {run_id for run_id, what, *_ in orders if what not in _ELSEWHERE}
    for run_id in run_ids:
        end_all(run_id)
    urls = _to_delete(orders)
    if not run_ids and not urls:
        return
    _delete_all(urls)
    # One that was too busy to answer when it was asked for may answer now.
    engine = engine or (_engine() if contained else None)
    _sweep_containers(engine, contained)
    _sweep(run_ids)
    # What the engine was asked for in the harness's last moment may have come meanwhile.
    _sweep_containers(engine, contained)
    # Once more: a request that was under way when the harness died may have been late.
    _delete_all(urls)
    for _, what, *path in orders:
        if what == "remove":
            shutil.rmtree(path[0], ignore_errors=True)


def _to_delete(orders: list[list[str]]) -> set[str]:
    urls: set[str] = set()
    for _, what, *url in orders:
        if what == "delete":
            urls.update(url)
        elif what == "leave":
            urls.difference_update(url)
    return urls


if __name__ == "__main__":
    main()
