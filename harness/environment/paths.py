"""How a daemon in a container is reached."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["PATHS", "NetworkPath"]

NetworkPath = Literal["bridge", "loopback", "published"]
PATHS: Final[tuple[NetworkPath, ...]] = ("bridge", "loopback", "published")
"""
At its own address on its network; at a port published on loopback, by a proxy server on this
machine; at its own address, by a proxy server that stands on its network and is published.
"""
