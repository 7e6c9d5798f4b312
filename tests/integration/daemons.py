"""
Small daemons that do exactly what a test tells them, on real sockets.

`speaking` is a WebSocket server that has read hello, `bare` one that knows of none; `raw`
is handed the bare TCP connection, for what no WebSocket library would do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = [
    "QUIET",
    "WELCOME",
    "Frame",
    "answer",
    "bare",
    "end_with_fin",
    "end_with_rst",
    "raw",
    "say",
    "speaking",
]

WELCOME = {"op": "hello_ack", "ok": True, "session_id": "s1"}

Frame = dict[str, Any]
Behaviour = Callable[[ServerConnection, Frame], Awaitable[None]]

# The server's own log would show tokens, and a test looks whether the client's does.
QUIET = logging.Logger("quiet")  # noqa: LOG001
QUIET.disabled = True


async def say(connection: ServerConnection, frame: Frame | str) -> None:
    """Send a frame."""
    await connection.send(frame if isinstance(frame, str) else json.dumps(frame))


async def answer(connection: ServerConnection, call: Frame, text: str = "hi", **more: Any) -> None:
    """Answer a call with one output."""
    outputs = [{"type": "text", "text": text}]
    frame = {"op": "call_tool_res", "request_id": call["request_id"], "ok": True}
    await say(connection, frame | {"outputs": outputs} | more)


def _linger_zero(connection: ServerConnection | asyncio.StreamWriter) -> asyncio.WriteTransport:
    transport = connection.transport
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return transport


def end_with_rst(connection: ServerConnection | asyncio.StreamWriter) -> None:
    """Break the connection with a TCP reset."""
    _linger_zero(connection).abort()


def end_with_fin(connection: ServerConnection | asyncio.StreamWriter) -> None:
    """End the connection without a close frame."""
    connection.transport.abort()


@asynccontextmanager
async def speaking(
    behave: Behaviour, *, hello: Behaviour | None = None, **options: Any
) -> AsyncIterator[str]:
    """
    A daemon that takes everyone in (or does `hello`) and then does `behave` with each frame.

    Yields:
        Its URL.
    """

    async def greet(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, WELCOME)

    async def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await (hello or greet)(connection, json.loads(await connection.recv()))
            async for message in connection:
                await behave(connection, json.loads(message))

    async with serve(handle, "127.0.0.1", 0, logger=QUIET, close_timeout=0.2, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def bare(
    behave: Callable[[ServerConnection, str | bytes], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """
    A daemon that does `behave` with each message, the first one included.

    Yields:
        Its URL.
    """

    async def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in connection:
                await behave(connection, message)

    async with serve(handle, "127.0.0.1", 0, logger=QUIET, close_timeout=0.2, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def raw(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """
    A daemon of bare TCP.

    Yields:
        A URL of its port.
    """
    writers: list[asyncio.StreamWriter] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handle(reader, writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
