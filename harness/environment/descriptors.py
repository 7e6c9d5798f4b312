"""The open files of a container's processes, limited while they run: an engine cannot do that."""

from __future__ import annotations

from typing import Final

from harness.clock import fresh_id
from harness.environment.boxed import Boxed
from harness.environment.containers import Engine, Order
from harness.errors import EnvironmentFailed

__all__ = ["limit_descriptors"]

# Whoever has a process's user and group may limit it; that takes no capability an engine may lack.
_LIMIT: Final = """
import os, resource, sys
most = int(sys.argv[1])
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if pid == os.getpid() or os.fork():
        continue
    rows = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    os.setgroups([])
    os.setresgid(*map(int, rows["Gid"].split()[:3]))
    os.setresuid(*map(int, rows["Uid"].split()[:3]))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(most or hard, hard), hard))
    os._exit(0)
failed = False
try:
    while True:
        failed = bool(os.wait()[1]) or failed
except ChildProcessError:
    sys.exit(failed)
"""


def limit_descriptors(engine: Engine, program: Boxed, most: int | None, *, image: str) -> None:
    """
    Limit them, from a second container that sees its processes: its image may have no program
    for it.

    Args:
        program: Whose.
        most: How many; None: as many as the hard limit allows.
        image: One with Python in it.

    Raises:
        EnvironmentFailed: If it cannot be done.
    """
    order = Order(
        name=f"{program.order.name}-limits-{fresh_id()}",
        image=image,
        run_id=program.order.run_id,
        command=["python3", "-c", _LIMIT, str(most or 0)],
        network="none",
        user="0",
        pids_of=program.box.id,
    )
    box = engine.run(order)
    try:
        if box.wait():
            raise EnvironmentFailed(
                f"the descriptors of {program.order.name} cannot be limited",
                [("it said", box.output())],
            )
    finally:
        box.remove()
