"""What the kernel tells of this machine's TCP sockets. Linux only; elsewhere nothing is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["connections", "held_open", "is_readable", "listens"]

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"
_LISTENS: Final = "0A"


def is_readable() -> bool:
    """Whether this system's kernel shows its table of sockets."""
    return _TABLES[0].exists()


def connections(port: int) -> int:
    """How many connections that port has."""
    return sum(local == port and state == _ESTABLISHED for local, _, state in _sockets())


def held_open(port: int) -> int:
    """How many sockets are connected to that port, and were not closed."""
    return sum(remote == port and state == _ESTABLISHED for _, remote, state in _sockets())


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    return any(local == port and state == _LISTENS for local, _, state in _sockets())


def _sockets() -> Iterator[tuple[int, int, str]]:
    """Local port, remote port and state of each."""
    for table in _TABLES:
        lines = table.read_text("ascii").splitlines()[1:] if table.exists() else []
        for line in lines:
            _, local, remote, state, *_ = line.split()
            yield int(local[-4:], 16), int(remote[-4:], 16), state
