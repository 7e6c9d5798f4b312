"""
What the kernel tells of this machine's TCP sockets and processes. Linux only; elsewhere nothing
is told.
"""

from __future__ import annotations

import ipaddress
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = [
    "connections",
    "hears",
    "held_open",
    "is_dying",
    "is_readable",
    "listeners",
    "listens",
]

_TABLES: Final = ("tcp", "tcp6")
_ESTABLISHED: Final = "01"
_LISTENS: Final = "0A"
# PF_EXITING of linux/sched.h.
_EXITING: Final = 0x4


def is_readable() -> bool:
    """Whether this system's kernel shows its table of sockets."""
    return _table(_TABLES[0], None).exists()


def connections(port: int, *, of: int | None = None) -> int:
    """
    How many connections that port has.

    Args:
        port: Where.
        of: A process on whose network to look, on which there are none once it is gone; None:
            this one's.
    """
    return sum(_port(local) == port and state == _ESTABLISHED for local, _, state in _sockets(of))


def held_open(port: int) -> int:
    """How many sockets are connected to that port, and were not closed."""
    return sum(_port(remote) == port and state == _ESTABLISHED for _, remote, state in _sockets())


def listens(port: int, *, of: int | None = None) -> bool:
    """
    Whether somebody listens there.

    Args:
        port: Where.
        of: As above.
    """
    return any(found == port for _, found in listeners(of=of))


def listeners(*, of: int | None = None) -> list[tuple[str, int]]:
    """
    Where anybody listens: addresses and ports.

    Args:
        of: As above.
    """
    return [(_ip(local), _port(local)) for local, _, state in _sockets(of) if state == _LISTENS]


def hears(pid: int, number: int) -> bool:
    """
    Whether a process has a handler for a signal, or holds it back to fetch it, as tini does;
    none does that is gone. proc(5), SigCgt and SigBlk.
    """
    try:
        return _is_among(number, pid, ("SigCgt:", "SigBlk:"))
    except OSError:
        return False


def is_dying(pid: int) -> bool:
    """
    Whether a process ends, whatever is still open of it: it was sent SIGKILL, is in the middle of
    its exit, or is gone. proc(5), SigPnd, ShdPnd, and the flags in stat; False where there is
    no /proc.
    """
    if not is_readable():
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        killed = _is_among(signal.SIGKILL, pid, ("SigPnd:", "ShdPnd:"))
    except OSError:
        return True
    # Its name, in parentheses, may hold anything.
    flags = int(stat.rpartition(")")[2].split()[6])
    return killed or bool(flags & _EXITING)


def _is_among(number: int, pid: int, masks: tuple[str, ...]) -> bool:
    rows = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    found = (int(row.split()[1], 16) for row in rows if row.startswith(masks))
    return any(mask >> (number - 1) & 1 for mask in found)


def _table(name: str, pid: int | None) -> Path:
    return Path(f"/proc/{pid or 'self'}/net/{name}")


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)


def _ip(end: str) -> str:
    raw = bytes.fromhex(end.rpartition(":")[0])
    # In words of four bytes, each as this machine has them.
    words = [int.from_bytes(raw[n : n + 4], sys.byteorder) for n in range(0, len(raw), 4)]
    packed = b"".join(word.to_bytes(4, "big") for word in words)
    return str(ipaddress.ip_address(packed))


def _sockets(pid: int | None = None) -> Iterator[tuple[str, str, str]]:
    """Both ends of each, as "address:port" in hexadecimal, and its state. proc(5), net/tcp."""
    for name in _TABLES:
        try:
            lines = _table(name, pid).read_text("ascii").splitlines()[1:]
        except OSError:
            lines = []
        for line in lines:
            _, local, remote, state, *_ = line.split()
            yield local, remote, state
