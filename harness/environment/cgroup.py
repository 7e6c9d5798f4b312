"""
What a container has used and been refused, as its control group counts it.

Read from the kernel's files where the engine runs on this machine: an engine takes a second to
answer the same question. Both versions of control groups. Linux: admin-guide/cgroup-v2, v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["CPU_PERIOD_US", "Use", "read_use"]

CPU_PERIOD_US: Final = 100_000
"""CPU time is given out anew this often, in microseconds."""

_MOUNTED: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Use:
    """
    Counts since a container was started; 0 where nobody knows.

    Attributes:
        processes: Processes and threads at this moment.
        processes_refused: How often it was refused one more.
        memory_refused: How often it was at its limit.
        periods: Stretches of time in which it wanted CPU time.
        held_back: Those in which it wanted more than it may have.
    """

    processes: int = 0
    processes_refused: int = 0
    memory_refused: int = 0
    periods: int = 0
    held_back: int = 0

    def since(self, before: Self) -> Self:
        """What was counted after another look; all, where it was started again meanwhile."""
        counts = ("processes_refused", "memory_refused", "periods", "held_back")
        more = {name: getattr(self, name) - getattr(before, name) for name in counts}
        if min(more.values()) < 0:
            return self
        return type(self)(processes=self.processes, **more)

    @classmethod
    def of_engine(cls, told: Mapping[str, Any]) -> Self:
        """The same from an engine's answer (`GET /containers/ID/stats`), as far as it has it."""
        held = told.get("cpu_stats", {}).get("throttling_data", {})
        return cls(
            processes=told.get("pids_stats", {}).get("current", 0),
            memory_refused=told.get("memory_stats", {}).get("failcnt", 0),
            periods=held.get("periods", 0),
            held_back=held.get("throttled_periods", 0),
        )


def read_use(pid: int, container_id: str) -> Use | None:
    """
    Read the counts of a running container.

    Args:
        pid: Its first process, as its engine counts.
        container_id: The engine's id of it. On another machine that number is somebody else.

    Returns:
        None where it cannot be read here.
    """
    folders = _folders(pid, container_id)
    if not folders:
        return None
    rows: dict[str, int] = {}
    for folder in folders:
        for file in ("pids.current", "pids.events", "memory.failcnt", "memory.events", "cpu.stat"):
            try:
                text = (folder / file).read_text("ascii")
            except OSError:
                continue
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                rows[f"{file} {name}".rstrip()] = int(value)
    return Use(
        processes=rows.get("pids.current", 0),
        processes_refused=rows.get("pids.events max", 0),
        memory_refused=rows.get("memory.failcnt", 0) + rows.get("memory.events max", 0),
        periods=rows.get("cpu.stat nr_periods", 0),
        held_back=rows.get("cpu.stat nr_throttled", 0),
    )


def _folders(pid: int, container_id: str) -> list[Path]:
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for row in rows:
        _, controllers, path = row.split(":", 2)
        folder = _MOUNTED / controllers / path.lstrip("/")
        if container_id in path and folder.is_dir():
            found.append(folder)
    return found
