"""What the daemon was told on its command line and in its environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from harness.address import Address

__all__ = ["DRAIN_S", "Settings", "Transport"]

DRAIN_S: Final = 5.0
"""How long running calls may go on after the daemon was asked to end."""

Transport = Literal["picows", "websockets"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    One daemon's settings.

    Attributes:
        listen: Where to listen; port 0 lets the system choose.
        transport: Which library speaks WebSocket.
        token: What a hello must carry; "" asks for none.
        effects: The effect log; None keeps none.
        hello_timeout_s: How long a peer may take over its HTTP request, and then over its hello.
        max_bytes: The largest message.
        max_connections: How many connections are served at a time.
        ping_interval_s: Seconds from a pong to the next ping.
        ping_timeout_s: Seconds a pong may take.
    """

    listen: Address
    transport: Transport
    token: str = field(repr=False)
    effects: Path | None
    hello_timeout_s: float
    max_bytes: int
    max_connections: int
    ping_interval_s: float
    ping_timeout_s: float
