"""
Limits of a daemon: put on its processes, and seen to be hit.

Linux only; elsewhere a process of this machine has none, and environment.json says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Limits
from harness.errors import EnvironmentFailed

try:
    import resource
except ImportError:  # pragma: no cover - Windows has none
    resource = None  # type: ignore[assignment]

__all__ = [
    "NOT_HERE",
    "can_limit",
    "describe_local",
    "full_descriptors",
    "own_use",
    "put_on",
    "words_of",
]

_NO_QUOTA: Final = "a process of this machine has no such quota; the backend docker has"
NOT_HERE: Final = "this system cannot limit a process that runs"
_NEARLY: Final = 0.9

# What programs in most languages say where the kernel refuses them more.
_SAID: Final = {
    "descriptors": r"too many open files|\bEMFILE\b|\bENFILE\b",
    "memory": r"\bMemoryError\b|cannot allocate memory|out of memory|\bENOMEM\b",
    "processes": r"can't start new thread|fork: .*temporarily unavailable",
}
_WORDS: Final = {name: re.compile(words, re.IGNORECASE) for name, words in _SAID.items()}


def can_limit() -> bool:
    """Whether this system can limit a process that runs."""
    return hasattr(resource, "prlimit")


def put_on(pid: int, limits: Limits) -> None:
    """
    Put limits on a process, and on what it starts from now on.

    Only the soft ones: a hard one could not be raised again. One that is above what this
    process may give is left as it is.
    """
    if not can_limit():
        return
    # Not the address space: Go, the JVM and others reserve far more than they ever use.
    wanted = {resource.RLIMIT_NOFILE: limits.descriptors, resource.RLIMIT_DATA: limits.memory_bytes}
    for kind, value in wanted.items():
        with suppress(OSError, ValueError):
            _, hard = resource.prlimit(pid, kind)
            most = hard if value is None else value
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, kind, (soft, hard))


def describe_local(limits: Limits) -> dict[str, Any]:
    """Which limits hold for a process of this machine, and why the others do not."""
    lacking = {"cpus": _NO_QUOTA, "processes": _NO_QUOTA}
    if not can_limit():
        lacking |= {"memory_bytes": NOT_HERE, "descriptors": NOT_HERE}
    values = {
        "memory_bytes": limits.memory_bytes,
        "cpus": limits.cpus,
        "processes": limits.processes,
        "descriptors": limits.descriptors,
    }
    held = {name: None if name in lacking else value for name, value in values.items()}
    return {**held, "not_limited": lacking}


def full_descriptors(pids: list[int]) -> list[str]:
    """Processes that have no descriptor left, in words. Nothing where that cannot be seen."""
    found = []
    for pid in pids:
        with suppress(OSError, AttributeError):
            used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            if used >= soft:
                found.append(f"descriptors: process {pid} has {used} of {soft} open")
    return found


def words_of(log: str) -> list[str]:
    """The limits that a daemon's own log speaks of, each with its words."""
    found = []
    for name, words in _WORDS.items():
        if match := words.search(log):
            found.append(f'{name}: its log says "{match[0]}"')
    return found


def used_up(use: Mapping[str, Any], limits: Limits) -> list[str]:
    """What a container has used up, in words, by what its engine tells of it."""
    found = []
    processes = use.get("pids_stats", {}).get("current", 0)
    if limits.processes is not None and processes >= limits.processes:
        found.append(f"processes: {processes} of {limits.processes}")
    times = use.get("memory_stats", {}).get("failcnt", 0)
    if times:
        found.append(f"memory: refused {times} times")
    held = use.get("cpu_stats", {}).get("throttling_data", {})
    if held.get("throttled_periods"):
        of = f"{held['throttled_periods']} of {held['periods']} periods"
        found.append(f"cpus: held back in {of}")
    return found


def own_use() -> dict[str, Any]:
    """
    What the harness itself uses: open descriptors and their limit, peak memory in bytes.

    Raises:
        EnvironmentFailed: If nearly all descriptors are in use: what is begun now would fail
            somewhere, for that reason and without saying so.
    """
    folder = Path("/proc/self/fd")
    if resource is None or not folder.exists():
        return {}
    used = sum(1 for _ in folder.iterdir())
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if used >= _NEARLY * soft:
        raise EnvironmentFailed(
            f"the harness has {used} of {soft} descriptors open",
            [("next", "raise the limit (`ulimit -n 65536`), or close what is not needed")],
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"descriptors": used, "descriptors_limit": soft, "peak_memory_bytes": peak}
