"""Servers that benchmarks measure: started, pinned to a core, their CPU time read."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["cpu_s", "pin", "serving", "spread"]


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, by the kernel's nanosecond accounting."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


def pin(pid: int, *, first: bool) -> None:
    """Keep a process to the first of our cores, or to the last; 0 is ourselves."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {cores[0] if first else cores[-1]})


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[tuple[int, str]]:
    """
    Start a Python module as a server on the first core; it is killed afterwards.

    Yields:
        Its process and its URL.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            url = json.loads(await process.stdout.readline())["listening"]
        pin(process.pid, first=True)
        yield process.pid, url
    finally:
        process.kill()
        await process.wait()


def spread(values: Sequence[float], form: str) -> str:
    """The median, and least and most behind it."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}}..{high:{form}})"
