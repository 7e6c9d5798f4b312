"""
Limits of a daemon: put on its processes, and seen to be hit.

Linux only; elsewhere a process of this machine has none, and environment.json says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Limits
from harness.environment.cgroup import Use

try:
    import resource
except ImportError:  # pragma: no cover - Windows has none
    resource = None  # type: ignore[assignment]

__all__ = [
    "BEGINNING",
    "NOT_HERE",
    "Mark",
    "can_limit",
    "describe_local",
    "exhausted",
    "put_on",
    "used_up",
    "with_words",
    "words_of",
]

_NO_QUOTA: Final = "a process of this machine has no such quota; the backend docker has"
NOT_HERE: Final = "this system cannot limit a process that runs"
_NEARLY: Final = 0.9

# Memory not as the address space: Go, the JVM and others reserve far more than they ever use.
_KINDS: Final = {"memory_bytes": "RLIMIT_DATA", "descriptors": "RLIMIT_NOFILE"}

# What programs in most languages say where the kernel refuses them more.
_SAID: Final = {
    "descriptors": r"too many open files|\bEMFILE\b|\bENFILE\b",
    "memory": (
        r"\bMemoryError\b|\bOutOfMemoryError\b|\bbad_alloc\b|\bENOMEM\b"
        r"|cannot allocate memory|out of memory|memory allocation of \d+ bytes failed"
    ),
    "processes": r"can't start new thread|fork: .*temporarily unavailable",
}
_WORDS: Final = {name: re.compile(words, re.IGNORECASE) for name, words in _SAID.items()}


@dataclass(frozen=True)
class Mark:
    """
    A moment of a daemon that outlives a test; what comes after it is that test's.

    Attributes:
        log_bytes: How long its log was.
        use: What its container had used and been refused.
    """

    log_bytes: int = 0
    use: Use = field(default_factory=Use)


BEGINNING: Final = Mark()
"""When it was started."""


def can_limit() -> bool:
    """Whether this system can limit a process that runs."""
    return hasattr(resource, "prlimit")


def put_on(pids: Iterable[int], limits: Limits) -> dict[str, str]:
    """
    Put limits on processes, and on what they start from now on.

    Only the soft ones: a hard one could not be raised again.

    Returns:
        The limits that do not hold as they were asked for, each with the reason.
    """
    if not can_limit():
        return dict.fromkeys(_KINDS, NOT_HERE)
    lacking = {}
    for pid in pids:
        for name, kind in _KINDS.items():
            wanted = getattr(limits, name)
            try:
                soft, hard = _soft(pid, kind, wanted)
                resource.prlimit(pid, getattr(resource, kind), (soft, hard))
            except ProcessLookupError:
                continue  # It has ended.
            except (OSError, ValueError, OverflowError) as error:
                lacking[name] = f"process {pid} refuses it: {error}"
            else:
                if wanted is not None and soft != wanted:
                    lacking[name] = f"the hard limit here is {hard}, and holds instead of {wanted}"
    return lacking


def _soft(pid: int, kind: str, wanted: int | None) -> tuple[int, int]:
    """The soft limit that a process can have for one that is wanted, and its hard one."""
    _, hard = resource.prlimit(pid, getattr(resource, kind))
    if wanted is None:
        return hard, hard
    return (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)), hard


def describe_local(limits: Limits, lacking: Mapping[str, str]) -> dict[str, Any]:
    """
    Which limits hold for a process of this machine, and why the others do not.

    Args:
        limits: Those asked for.
        lacking: What `put_on` said of them.
    """
    lacking = {"cpus": _NO_QUOTA, "processes": _NO_QUOTA, **lacking}
    values = {
        "memory_bytes": limits.memory_bytes,
        "cpus": limits.cpus,
        "processes": limits.processes,
        "descriptors": limits.descriptors,
    }
    held = {name: None if name in lacking else value for name, value in values.items()}
    return {**held, "not_limited": lacking}


def exhausted(pids: Iterable[int], limits: Limits) -> list[str]:
    """
    Which of these limits processes have used up at this moment, in words.

    Nothing where that cannot be seen. A limit that a process gave itself is not among them.
    """
    found = []
    for pid in pids if can_limit() else ():
        # A process that ends while it is looked at, or is somebody else's.
        with suppress(OSError):
            used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            most = _ours(pid, "RLIMIT_NOFILE", limits.descriptors)
            if most is not None and used >= most:
                found.append(f"descriptors: {used} of {most} open in process {pid}")
            used = _data_bytes(pid)
            most = _ours(pid, "RLIMIT_DATA", limits.memory_bytes)
            # The kernel keeps no count of what it refused.
            if most is not None and used >= _NEARLY * most:
                found.append(
                    f"memory: {used} of {most} bytes of data in process {pid},"
                    " so more was likely refused"
                )
    return found


def _ours(pid: int, kind: str, wanted: int | None) -> int | None:
    now, _ = resource.prlimit(pid, getattr(resource, kind))
    return now if wanted is not None and now == _soft(pid, kind, wanted)[0] else None


def _data_bytes(pid: int) -> int:
    """What counts against its limit on data."""
    rows = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    [size] = [row.split()[1] for row in rows if row.startswith("VmData:")] or ["0"]
    return int(size) * 1024


def with_words(found: Iterable[str], log: str) -> list[str]:
    """What was found, and what a daemon's own log says beside it of each limit."""
    rows = list(found)
    for line in words_of(log):
        name, _, words = line.partition(": ")
        same = [n for n, row in enumerate(rows) if row.startswith(f"{name}:")]
        if same:
            rows[same[0]] += f"; {words}"
        else:
            rows.append(line)
    return rows


def words_of(log: str) -> list[str]:
    """The limits that a daemon's own log speaks of, each with its words."""
    found = []
    for name, words in _WORDS.items():
        if match := words.search(log):
            found.append(f'{name}: its log says "{match[0]}"')
    return found


def used_up(use: Use, limits: Limits) -> list[str]:
    """What a container has used up, in words."""
    found = []
    if limits.processes is not None and use.processes >= limits.processes:
        found.append(f"processes: {use.processes} of {limits.processes}")
    elif use.processes_refused:
        found.append(f"processes: refused one more {use.processes_refused} times")
    if use.memory_refused:
        found.append(f"memory: at its limit {use.memory_refused} times")
    if use.held_back:
        found.append(f"cpus: held back in {use.held_back} of {use.periods} periods")
    return found
