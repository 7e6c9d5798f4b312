"""How much a daemon may use of its machine."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from harness.errors import InvalidValue

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What a daemon may use. None: no limit.

    They keep a daemon that runs wild from taking the machine with it, and are wide enough
    that no daemon in order meets them. A process of this machine is under those on memory (of
    its data) and descriptors, a container under all.

    Args:
        memory_bytes: Memory, in bytes.
        cpus: CPU time, in CPUs.
        processes: Processes and threads together.
        descriptors: Open files and sockets of each process.

    Raises:
        InvalidValue: If a value is out of range; all complaints at once.
    """

    memory_bytes: int | None = 2 << 30
    cpus: float | None = 2.0
    processes: int | None = 512
    descriptors: int | None = 8192

    def __post_init__(self) -> None:
        complaints = [
            (name, f"{value!r} is not allowed; {expected}, more than 0")
            for name, value, kinds, expected in (
                ("memory_bytes", self.memory_bytes, (int,), "a whole number of bytes"),
                ("cpus", self.cpus, (int, float), "a number of CPUs"),
                ("processes", self.processes, (int,), "a whole number"),
                ("descriptors", self.descriptors, (int,), "a whole number"),
            )
            if value is not None and not (type(value) in kinds and 0 < value < inf)
        ]
        if complaints:
            problems = "1 problem" if len(complaints) == 1 else f"{len(complaints)} problems"
            raise InvalidValue(f"limits: {problems}", complaints)
