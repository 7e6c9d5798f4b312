"""
The legs of the way from a client to a daemon: of each, whether a reset gets over it, and how long
a byte takes. A forwarder of ports may stand on any of them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from harness.address import Address
from harness.clock import now
from harness.environment.stand_in import ANSWER, QUESTION, RESET, serve

__all__ = ["Leg", "StandIn", "here", "nobody", "try_leg"]

_ROUND_TRIPS: Final = 5
_WAIT_S: Final = 1.0
_LISTENS_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.02

StandIn = AbstractAsyncContextManager[Address | str]
"""A tiny server that stands where a daemon stands; or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Leg:
    """
    One stretch between two programs.

    Attributes:
        begins: Who connects: "client", "embedded", "toxiproxy", "tap", "harness".
        ends: To whom.
        reset: Whether a reset gets over it; None where that was not tried.
        seen: What was seen, or why it was not tried, in words.
        round_trip_ms: How long a byte took there and back, in milliseconds, the least of
            several; None where none did.
    """

    begins: str
    ends: str
    reset: bool | None
    seen: str
    round_trip_ms: float | None = None

    def __str__(self) -> str:
        trip = "" if self.round_trip_ms is None else f", round trip {self.round_trip_ms:.2f} ms"
        return f"{self.begins} to {self.ends}: {self.seen}{trip}"


@asynccontextmanager
async def here() -> AsyncIterator[Address | str]:
    """A stand-in of this process, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), name="stand-in", daemon=True)
        thread.start()
        try:
            yield Address(*listener.getsockname()[:2])
        finally:
            # Closing alone wakes nobody who waits in `accept`.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_WAIT_S)


@asynccontextmanager
async def nobody(why: str) -> AsyncIterator[Address | str]:
    """No stand-in."""
    yield why


async def try_leg(begins: str, ends: str, stand_in: StandIn) -> Leg:
    """Have a stand-in reset a connection to it, as whoever dials the daemon would have one."""
    async with stand_in as where:
        if isinstance(where, str):
            return Leg(begins=begins, ends=ends, reset=None, seen=f"not tried: {where}")
        deadline = now() + _LISTENS_WITHIN_S
        while True:
            try:
                reset, trip_ms = await asyncio.wait_for(_reset(where), _WAIT_S)
                break
            except (OSError, TimeoutError, EOFError) as error:
                # It has just been started, and a forwarder accepts for who does not listen yet.
                if now() >= deadline:
                    why = f"not tried: no byte came back from {where}: {error}"
                    return Leg(begins=begins, ends=ends, reset=None, seen=why)
                await asyncio.sleep(_POLL_S)
    seen = f"a reset arrived as {'RST' if reset else 'FIN'}"
    return Leg(begins=begins, ends=ends, reset=reset, seen=seen, round_trip_ms=trip_ms)


async def _reset(where: Address) -> tuple[bool, float]:
    """Whether a reset arrived as one, and how long a byte took before."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.settimeout(0)
        await loop.sock_connect(client, (where.host, where.port))
        took = []
        for _ in range(_ROUND_TRIPS):
            began = now()
            await loop.sock_sendall(client, QUESTION)
            if await loop.sock_recv(client, 1) != ANSWER:
                raise EOFError("it ended")
            took.append(now() - began)
        await loop.sock_sendall(client, RESET)
        try:
            reset = bool(await loop.sock_recv(client, 1))
        except ConnectionResetError:
            reset = True
    return reset, round(min(took) * 1000, 3)
