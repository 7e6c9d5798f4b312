"""Ports for programs that are told theirs."""

from __future__ import annotations

import secrets
import socket

__all__ = ["spare_ports"]

# No system gives these away by itself, neither to a listener on port 0 nor to a connection, so
# a port that is free now is free when the program comes to it.
_SPARE = range(20_000, 30_000)
_TRIES = 100


def spare_ports(count: int) -> list[int]:
    """
    Ports of loopback on which nobody listens, no two of them the same.

    Raises:
        OSError: If the machine has next to none.
    """
    found: set[int] = set()
    for _ in range(_TRIES):
        if len(found) == count:
            return list(found)
        # Not `random`, whose draws are the same in each process that runs these tests.
        port = secrets.choice(_SPARE)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.add(port)
    raise OSError(f"{_TRIES} tries found {len(found)} of {count} free ports in {_SPARE}")
