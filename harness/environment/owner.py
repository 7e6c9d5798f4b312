"""
Who made something that outlives a process: told by a name, so that others can see whether
that process still lives.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["is_dead", "own_name"]

_STAT: Final = "/proc/{pid}/stat"
# The 22nd field of that file, counted after the name in brackets, which may have spaces.
_STARTED: Final = 19


@cache
def own_name() -> str:
    """
    This process: boot, pid namespace, pid and when it was started, in one word.

    Elsewhere than on Linux only the pid is known, and nobody is ever called dead.
    """
    pid = os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return f"unknown_{pid}"
    return f"{boot}_{namespace}_{pid}_{_started(pid)}"


def is_dead(name: str) -> bool:
    """
    Whether the process of that name is certainly gone.

    Of another boot or another pid namespace nothing is certain: several machines may use one
    container engine.
    """
    where, _, process = name.rpartition("_")
    where, _, pid = where.rpartition("_")
    ours = own_name().rsplit("_", 2)[0]
    return where == ours and pid.isdigit() and _started(int(pid)) != process


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the machine did; None where there is none."""
    try:
        text = Path(_STAT.format(pid=pid)).read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[_STARTED]
