"""
Time and chance. The only importer of `time` and `random` below `run`.

Whoever needs the time or a draw is given it from here, so that tests can hand in
their own. All stamps are nanoseconds of the monotonic clock: wall clocks jump.
A stamp is worth something only beside the name of its clock (`clock_id`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Draws", "clock_id", "fresh_id", "fresh_seed", "now", "now_ns", "stamp", "wall_ns"]

now = time.monotonic
"""Seconds of the monotonic clock."""

now_ns = time.monotonic_ns
"""Nanoseconds of the monotonic clock."""

wall_ns = time.time_ns
"""Nanoseconds since 1970, for people; no judgement hangs on them."""


def stamp() -> str:
    """Local wall time as a folder name: 20261122-191500."""
    return time.strftime("%Y%m%d-%H%M%S")


@cache
def clock_id() -> str:
    """
    The name of the monotonic clock that `now_ns` reads.

    Programs that give the same name read the same clock: same boot, same time
    namespace. Where the system cannot tell, the name holds for this process only.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = Path("/proc/self/ns/time").stat().st_ino
    except OSError:
        return f"monotonic:{sys.platform}:process-{os.getpid()}"
    return f"monotonic:{boot[:13]}:{namespace}"


def fresh_seed() -> int:
    """A root seed for a run that was given none; printed, so that it can be given next time."""
    return secrets.randbelow(1_000_000)


def fresh_id() -> str:
    """
    Eight hex digits that nobody else was given.

    Always eight, so that two runs put the same number of bytes on the wire.
    """
    return secrets.token_hex(4)


@dataclass(frozen=True)
class Draws:
    """
    One consumer's stream of chance.

    A draw is a function of the root seed, the consumer's path and the place drawn
    at, never of how many draws came before: adding a fault shifts no other.

    Args:
        seed: The run's root seed.
        path: Who draws: for a toxic, proxy, toxic, connection and direction.
    """

    seed: int
    path: str

    def at(self, place: object) -> float:
        """A number in [0, 1) that belongs to this place, for instance a byte offset."""
        text = f"{self.seed}|{self.path}|{place}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / (1 << 56)
