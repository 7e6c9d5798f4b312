"""
What the harness itself uses of its machine.

A suite that leaks descriptors would fail somewhere, with an OSError that names a file and
not the reason. So that is looked at before anything is begun.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentFailed

try:
    import resource
except ImportError:  # pragma: no cover - Windows has none
    resource = None  # type: ignore[assignment]

__all__ = ["own_use", "refuse_when_full"]

_OPEN: Final = Path("/proc/self/fd")
_NEARLY: Final = 0.9
_KIB: Final = 1024


def own_use() -> dict[str, int]:
    """
    Open descriptors, the limit on them, and peak memory in bytes; {} where nobody tells.
    """
    if resource is None or not _OPEN.exists():
        return {}
    used = _descriptors()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **({} if used is None else {"descriptors": used}),
        "descriptors_limit": limit,
        "peak_memory_bytes": peak_kib * _KIB,
    }


def refuse_when_full() -> None:
    """
    Look that there are descriptors left.

    Raises:
        EnvironmentFailed: If nearly all of them are in use.
    """
    if resource is None or not _OPEN.exists():
        return
    used = _descriptors()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Looking takes one itself: where there is none, none is left.
    if used is None or used >= _NEARLY * limit:
        raise EnvironmentFailed(
            f"the harness has {limit if used is None else used} of {limit} descriptors open",
            [
                ("reason", "what is begun now would fail for want of one, somewhere"),
                ("next", "raise the limit (`ulimit -n 65536`), or close what is not needed"),
            ],
        )


def _descriptors() -> int | None:
    with suppress(OSError):
        return sum(1 for _ in _OPEN.iterdir())
    return None
