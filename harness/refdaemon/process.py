"""What the kernel says of this process; None where it does not."""

from __future__ import annotations

import os
import resource
from pathlib import Path

__all__ = ["descriptor_limit", "descriptors", "memory_bytes"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_bytes() -> int | None:
    """What of it is in memory, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def descriptors() -> int | None:
    """How many descriptors are open."""
    try:
        # The listing has one of its own.
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - names are not needed
    except OSError:
        return None


def descriptor_limit() -> int:
    """How many may be."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
