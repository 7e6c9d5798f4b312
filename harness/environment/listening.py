"""Where a program in a container listens that nobody reaches at its port."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from harness.address import Address

__all__ = ["elsewhere"]


def elsewhere(
    there: Sequence[tuple[str, int]], port: int, *, key: str = "daemon.container.port"
) -> str:
    """
    Say it in words.

    Args:
        there: Where it listens: addresses and ports.
        port: Where it was expected.
        key: Where a project says which port that is.

    Returns:
        "" where that is not why it is not reached.
    """
    seen = ", ".join(sorted({str(Address(ip, found)) for ip, found in there}))
    at_port = [ip_address(ip) for ip, found in there if found == port]
    if at_port and all(ip.is_loopback for ip in at_port):
        return f"on {seen}: nobody outside its container gets there; let it listen on 0.0.0.0"
    if at_port or not seen:
        return ""
    return f"on {seen}, not on port {port}: see {key}"
