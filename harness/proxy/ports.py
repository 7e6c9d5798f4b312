"""
A port that stays ours while nobody listens on it.

Between a listener's end and its next start the kernel may give its port to
anybody's outgoing connection, even to a connection that dials that very port and
so meets itself. A bound socket that never listens prevents it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from harness.address import Address

__all__ = ["Reservation", "reason", "resolved"]

_RESOLVE_TIMEOUT_S = 5.0


async def resolved(address: Address) -> Address:
    """
    The address with numbers for its host name; IPv4 where a name has both, as Toxiproxy has it.

    Raises:
        OSError: If there is no such host, or nobody said so in time.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(
                # No host at all means every address of this machine.
                address.host or None,
                address.port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
    except (ValueError, TimeoutError):
        raise OSError(f"no such host: {address.host}") from None
    first = min(found, key=lambda info: info[0] != socket.AF_INET)
    return Address(str(first[4][0]), address.port)


def reason(failure: OSError) -> str:
    """Why an address could not be had, in the system's words: asyncio's are long."""
    # Below 0 are the resolver's numbers, which the system does not know.
    if failure.errno is None or failure.errno < 0:
        return str(failure)
    return os.strerror(failure.errno).lower()


class Reservation:
    """
    A port of one host, kept until closed.

    Listeners that set SO_REUSEADDR (asyncio's do) can bind it meanwhile. Only Linux
    allows that; elsewhere the port is chosen but not kept.

    Args:
        host: A host name or address of this machine.
        port: The port, or 0 for one that the system chooses.

    Raises:
        OSError: If the port is in use or the host is not of this machine.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        family, kind, proto, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._socket = socket.socket(family, kind, proto)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(target)
        except OSError:
            self._socket.close()
            raise
        bound = self._socket.getsockname()
        self.address = Address(bound[0], bound[1])
        if sys.platform != "linux":
            self._socket.close()

    def close(self) -> None:
        """Give the port back."""
        with contextlib.suppress(OSError):
            self._socket.close()
