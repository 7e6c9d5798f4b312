"""Plain TCP ends for tests of the proxy: a server that shows what reached it, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

MS = 0.001
BOUND_S = 10.0
END_BOUND_S = 3.0


class End:
    """One end of a TCP connection; keeps what it received and how it ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, size: int) -> bytes:
        """Exactly so many bytes."""
        async with asyncio.timeout(BOUND_S):
            return await self.reader.readexactly(size)

    async def ending(self) -> str:
        """Read to the end: "fin" or "reset", "none" where none comes."""
        try:
            async with asyncio.timeout(END_BOUND_S):
                while await self.reader.read(1 << 16):
                    pass
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "none"
        return "fin"

    async def silent_for(self, seconds: float) -> bool:
        """Whether nothing, not even the end, arrives in so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        return False

    def reset(self) -> None:
        """Break the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


async def is_reset(source: End, sink: End) -> bool:
    """Whether a byte breaks the connection instead of arriving."""
    await source.send(b"x")
    try:
        assert await sink.receive(1) == b"x"
    except ConnectionResetError:
        return True
    return False


class Upstream:
    """Accepts connections and hands their ends to the test."""

    async def __aenter__(self) -> Self:
        self._ends: asyncio.Queue[End] = asyncio.Queue()
        self._all: list[End] = []
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for end in self._all:
            end.writer.transport.abort()
        for end in self._all:
            with contextlib.suppress(OSError):
                await end.writer.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.put_nowait(self._keep(End(reader, writer)))

    def _keep(self, end: End) -> End:
        self._all.append(end)
        return end

    async def dial(self, address: str) -> End:
        """Connect to "host:port"; closed with this server at the latest."""
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(BOUND_S):
            return self._keep(End(*await asyncio.open_connection(host, int(port))))

    async def accepted(self) -> End:
        """The next connection that arrived."""
        async with asyncio.timeout(BOUND_S):
            return await self._ends.get()

    @property
    def waiting(self) -> int:
        """Connections that arrived and nobody asked for."""
        return self._ends.qsize()
