"""
Whether a TCP reset reaches a client through a proxy server: tried, not assumed.

A container's port forwarding can turn RST into FIN, and Toxiproxy 2.12 resets only
connections that meet the toxic when they open.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from harness.address import Address
from harness.clock import fresh_id, now
from harness.environment.clean_up import put_away
from harness.environment.legs import Leg
from harness.environment.making import remove_proxy
from harness.errors import EnvironmentFailed, InvalidValue
from harness.faults.reset_peer import ResetPeer
from harness.proxy.control import Control, ProxyState
from harness.proxy.ports import reason, resolved

__all__ = ["ResetPath", "probe_reset"]

_WAIT_S: Final = 1.0
_ROUND_TRIPS: Final = 5
_RST: Final = "arrived as RST"


@dataclass(frozen=True)
class ResetPath:
    """
    What became of resets on their way to a client.

    Attributes:
        live: A connection that was open before `reset_peer` came was reset.
        armed: A connection that was opened after it was reset.
        reason: What was seen, in words.
        round_trip_ms: How long a byte took through the server and back, in milliseconds, the
            least of several; None where none came back.
        legs: Each stretch of the way to the daemon, once they were tried.
    """

    live: bool
    armed: bool
    reason: str
    round_trip_ms: float | None = field(default=None, compare=False)
    legs: tuple[Leg, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        took = self.round_trip_ms
        trip = "nothing came back" if took is None else f"round trip {took:.2f} ms"
        # The first is what has just been said.
        return "; ".join([trip, self.reason, *map(str, self.legs[1:])])


class Maker(Protocol):
    """Who makes a proxy and removes it, where that takes more than the server's API."""

    @property
    def host_of_harness(self) -> tuple[str, str]:
        """An address of this machine to listen on, and what the server calls it."""

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """Make it."""

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""


async def probe_reset(
    control: Control,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    maker: Maker | None = None,
) -> ResetPath:
    """
    Reset a live connection and a new one through a proxy server, and see what arrives.

    Makes a proxy of its own before a listener of its own and removes it again; other
    proxies are not touched. No single wait takes longer than 1 s.

    Args:
        control: The server's API.
        name: What its proxy is called there meanwhile; None: a name that nobody else has.
        host: An address of this machine that the proxy can connect to: its listener is
            in this process. For a proxy in a container 127.0.0.1 is the container.
        maker: Who makes the proxy, and knows that address better; None: the API.

    Raises:
        EnvironmentFailed: If nothing can listen on `host`.
        ProxyError: If the server refuses the proxy or the toxic, or does not answer.
    """
    name = name or f"harness-probe-{fresh_id()}"
    control = replace(control, timeout_s=min(control.timeout_s, _WAIT_S))
    here, called = (host, None) if maker is None else maker.host_of_harness
    with ExitStack() as sockets:
        listener = await _listener(here, sockets)
        address = Address(*listener.getsockname()[:2])
        upstream = Address(called or address.host, address.port)
        error: BaseException | None = None
        try:
            if maker is None:
                state = await control.create(name, upstream=str(upstream))
            else:
                state = await maker.make(name, upstream=upstream, listen=None, seed=None)
            return await _try(control, name, state.listen, listener, sockets)
        except BaseException as failure:
            error = failure
            raise
        finally:
            # Also where making it failed: a server that answered too late has made it.
            gone = remove_proxy(control, name) if maker is None else maker.remove(name)
            await put_away(error, gone)


async def _try(
    control: Control, name: str, listen: str, listener: socket.socket, sockets: ExitStack
) -> ResetPath:
    try:
        live = await _connection(listen, sockets)
        round_trip_ms = await _passage(live, listener, sockets)
    except (OSError, InvalidValue) as error:
        to = Address(*listener.getsockname()[:2])
        why = f"no byte came through {listen} to {to}: {_why(error)}"
        return ResetPath(live=False, armed=False, reason=why)
    # Upstream: the client's own byte sets it off.
    await control.add_toxic(name, ResetPeer(stream="upstream", timeout_ms=0), name="reset")
    first = await _ending(live)
    try:
        second = await _ending(await _connection(listen, sockets))
    except OSError as error:
        second = f"found no connection: {_why(error)}"
    return ResetPath(
        live=first == _RST,
        armed=second == _RST,
        round_trip_ms=round_trip_ms,
        reason=f"a reset of a live connection {first}; one armed before it opened {second}",
    )


async def _listener(host: str, sockets: ExitStack) -> socket.socket:
    """A listener on a port of the system's choice."""
    try:
        where = await resolved(Address(host, 0))
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        listener = sockets.enter_context(socket.create_server((where.host, 0), family=family))
    except OSError as failure:
        raise EnvironmentFailed(
            f"the probe for resets cannot listen on {host}: {reason(failure)}",
            [("next", "give an address of this machine that the proxy can connect to")],
        ) from None
    listener.settimeout(0)
    return listener


async def _connection(listen: str, sockets: ExitStack) -> socket.socket:
    """A client's connection to the proxy."""
    address = Address.parse(listen)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    client = sockets.enter_context(socket.socket(family))
    client.settimeout(0)
    async with asyncio.timeout(_WAIT_S):
        await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
    return client


async def _passage(client: socket.socket, listener: socket.socket, sockets: ExitStack) -> float:
    """
    Send bytes through and back; how long that took, in milliseconds.

    Where it arrives the proxy's link runs: a toxic that is added now meets a live connection.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_WAIT_S):
        await loop.sock_sendall(client, b"?")
        accepted, _ = await loop.sock_accept(listener)
        sockets.enter_context(accepted)
        if not await loop.sock_recv(accepted, 1):
            raise ConnectionError("the proxy closed it")
        took = []
        for _ in range(_ROUND_TRIPS):
            began = now()
            await loop.sock_sendall(accepted, b"!")
            if not await loop.sock_recv(client, 1):
                raise ConnectionError("the proxy closed it")
            await loop.sock_sendall(client, b"?")
            await loop.sock_recv(accepted, 1)
            took.append(now() - began)
    return round(min(took) * 1000, 3)


async def _ending(client: socket.socket) -> str:
    """Send a byte, read to the end, and say how that came."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_WAIT_S):
            await loop.sock_sendall(client, b"!")
            while await loop.sock_recv(client, 1024):
                pass
    except ConnectionResetError:
        return _RST
    except OSError as error:
        return f"did not arrive: {_why(error)}"
    return "arrived as FIN"


def _why(error: OSError | InvalidValue) -> str:
    return f"nothing within {_WAIT_S:g} s" if isinstance(error, TimeoutError) else str(error)
