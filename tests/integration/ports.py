"""Ports for programs that are told theirs."""

from __future__ import annotations

import secrets
import socket

__all__ = ["spare_ports"]

# Below where Linux and macOS begin to give ports away, to a listener on port 0 or to a connection:
# what is free now is free when the program comes to it.
_SPARE = range(20_000, 30_000)
_TRIES = 100


def spare_ports(count: int) -> list[int]:
    """
    Ports of loopback on which nobody listens, no two of them the same.

    Raises:
        OSError: If the machine has next to none.
    """
    found: list[int] = []
    # Not the usual draws: those are the same in each process that runs these tests.
    for port in secrets.SystemRandom().sample(_SPARE, _TRIES):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{_TRIES} tries found {len(found)} of {count} free ports in {_SPARE}")
