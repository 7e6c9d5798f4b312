"""A transport that told of a peer which reads too slowly tells when it no longer does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from random import Random

import pytest

from harness.refdaemon.transport.base import Cause, ListenOptions, Wire
from tests.integration.echo_server import TRANSPORTS
from tests.integration.wire import BOUND_S

KIB = 1 << 10
HIGH_WATER = 64 * KIB
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Watched:
    """The handler of the one connection."""

    def __init__(self) -> None:
        self.wire: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self.has_room = asyncio.Event()
        self.has_room.set()

    def opened(self, wire: Wire) -> None:
        self.wire.set_result(wire)

    def messages(self, frames: Sequence[bytes | str]) -> None:
        """None comes."""

    def binary(self, frame: bytes) -> None:
        """None comes."""

    def wants(self, size: int) -> bool:
        return True

    def unwanted(self, head: bytes | str, size: int) -> None:
        """There is none."""

    def pong(self) -> None:
        """Nobody pings."""

    def crowded(self) -> None:
        self.has_room.clear()

    def writable(self) -> None:
        self.has_room.set()

    def closing(self) -> None:
        """Nobody closes."""

    def lost(self, cause: Cause) -> None:
        """The test is over."""


async def crowd(wire: Wire, handler: Watched, sizes: Random) -> int:
    """Send until it is told that this is too much; how many bytes that were."""
    sent = 0
    while handler.has_room.is_set():
        size = sizes.randrange(1 * KIB, 32 * KIB)
        wire.send(bytes(size))
        sent += size
        # The kernel takes what it can.
        await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_room_is_told_of_whatever_a_peer_left_last(transport: str) -> None:
    """
    However much was left when the last of it was written, once all is read there is room.
    """
    handler, sizes = Watched(), Random(7)
    options = ListenOptions(
        host="127.0.0.1",
        port=0,
        max_bytes=1 << 20,
        upgrade_timeout_s=BOUND_S,
        high_water_bytes=HIGH_WATER,
    )
    listener = await TRANSPORTS[transport](lambda: handler, options)
    # What it accepts inherits this: a kernel that holds much takes all at once as soon as it can.
    for listening in listener._server.sockets:  # type: ignore[attr-defined]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", listener.port))
    reader, writer = await asyncio.open_connection(sock=peer, limit=4 * KIB)
    try:
        async with asyncio.timeout(6 * BOUND_S):
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            wire = await handler.wire
            for _ in range(50):
                sent = await crowd(wire, handler, sizes)
                # Frame headers come on top; they are read with what follows.
                await reader.readexactly(sent)
                await handler.has_room.wait()
    finally:
        writer.transport.abort()
        listener.stop()
