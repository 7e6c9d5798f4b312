"""
The reference transport: the `websockets` library through its public interface.

Slower than picows and there to check it by: whatever differs on the wire is a bug
of one of the two. `send` fills an outbox that a task empties, since the library's
own `send` awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from harness.refdaemon.transport.base import (
    CLOSE_WITHIN_S,
    HEAD_BYTES,
    LARGE_BYTES,
    Cause,
    Handler,
    Listener,
    ListenOptions,
    framed_bytes,
    library_log,
)

__all__ = ["listen"]

_PING: Final = "ping"
# Where the library begins to wait if nobody says otherwise.
_WRITE_LIMIT: Final = 32 * 1024


class _Binary(bytes):
    """A binary message, among text in an outbox."""


class _Connection(ServerConnection):
    """
    Counts frames; cut off in time also where the peer, or its breach of the protocol, began
    the closing.
    """

    received_bytes = 0
    sent_bytes = 0
    on_closing: Callable[[], None] | None = None
    _cut_off: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # All frames go out by here: ours, and the library's own pongs and close frames.
        send_frame = self.protocol.send_frame

        def counting(frame: Frame) -> None:
            self.sent_bytes += framed_bytes(len(frame.data), masked=False)
            if frame.opcode is Opcode.CLOSE and self.on_closing is not None:
                self.on_closing()
            send_frame(frame)

        self.protocol.send_frame = counting  # type: ignore[method-assign]

    def process_event(self, event: object) -> None:
        if isinstance(event, Frame):
            self.received_bytes += framed_bytes(len(event.data), masked=True)
        super().process_event(event)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.close_deadline is not None and self._cut_off is None:
            within_s = self.close_deadline - self.loop.time()
            self._cut_off = self.loop.call_later(within_s, self.transport.abort)


class _Wire:
    """One connection: the library's object below, `Wire` above."""

    def __init__(self, connection: _Connection, handler: Handler, high_water: int) -> None:
        self._connection = connection
        self._handler = handler
        self._high_water = high_water
        self.address: str = connection.remote_address[0]
        # What is to go out, in order: messages, pings, and at last a close code.
        self._outbox: deque[bytes | str | tuple[int, str]] = deque()
        self._outbox_bytes = 0
        self._something_to_send = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._crowded = False
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Carry the connection from its upgrade to its end."""
        loop = asyncio.get_running_loop()
        writer = loop.create_task(self._write())
        gone = loop.create_task(self._connection.wait_closed())
        # A reader that is paused must learn of the end too.
        gone.add_done_callback(lambda _: self._may_read.set())
        self._connection.on_closing = self._handler.closing
        self._handler.opened(self)
        try:
            await self._read()
        finally:
            writer.cancel()
            # A handler that failed leaves the connection open: end it, or this waits for ever.
            self._connection.transport.abort()
            await gone
            if self._deadline is not None:
                self._deadline.cancel()
            self._handler.lost(self._cause())

    @property
    def received_bytes(self) -> int:
        return self._connection.received_bytes

    @property
    def sent_bytes(self) -> int:
        return self._connection.sent_bytes

    def send(self, data: bytes) -> None:
        if self._closing:
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        self._something_to_send.set()
        if not self._crowded and self.buffered() > self._high_water:
            self._crowded = True
            self._handler.crowded()

    def send_all(self, messages: Sequence[bytes]) -> None:
        for data in messages:
            self.send(data)

    def send_binary(self, data: bytes) -> None:
        self.send(_Binary(data))

    def ping(self) -> None:
        self._outbox.append(_PING)
        self._something_to_send.set()

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        if self._closing:
            return
        self._closing = True
        self._handler.closing()
        self._connection.close_timeout = within_s
        self._outbox.append((code, reason))
        self._something_to_send.set()
        # The peer's close frame cannot be seen while reading is paused.
        self._may_read.set()
        self._deadline = asyncio.get_running_loop().call_later(within_s, self.abort)

    def abort(self) -> None:
        self._closing = True
        self._connection.transport.abort()

    def buffered(self) -> int:
        return self._outbox_bytes + self._connection.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _read(self) -> None:
        while True:
            await self._may_read.wait()
            try:
                message = await self._connection.recv()
            except ConnectionClosed:
                return
            if self._closing:
                continue
            size = len(message)
            if size >= LARGE_BYTES and not self._handler.wants(size):
                self._handler.unwanted(message[:HEAD_BYTES], size)
            elif isinstance(message, str):
                self._handler.messages((message,))
            else:
                self._handler.binary(message)

    async def _write(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            try:
                while self._outbox:
                    await self._write_one(self._outbox.popleft())
            except ConnectionClosed:
                return

    async def _write_one(self, item: bytes | str | tuple[int, str]) -> None:
        if isinstance(item, bytes):
            self._outbox_bytes -= len(item)
            await self._connection.send(item, text=not isinstance(item, _Binary))
            if self._crowded and self.buffered() <= self._high_water // 4:
                self._crowded = False
                self._handler.writable()
        elif isinstance(item, str):
            pong = await self._connection.ping()
            # The library gives a plain future, typed as an awaitable.
            asyncio.ensure_future(pong).add_done_callback(self._ponged)
        else:
            await self._connection.close(*item)

    def _ponged(self, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None and not self._closing:
            self._handler.pong()

    def _cause(self) -> Cause:
        protocol = self._connection.protocol
        if self._closing or protocol.close_rcvd is not None or protocol.close_sent is not None:
            return "closed"
        # A write after the peer's RST may be what meets it first.
        error = self._connection.connection_exc
        return "reset" if isinstance(error, (ConnectionResetError, BrokenPipeError)) else "eof"


class _Listener:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.port: int = next(iter(server.sockets)).getsockname()[1]

    def stop(self) -> None:
        self._server.close(close_connections=False)


def _only_our_failures(record: logging.LogRecord) -> bool:
    """Let through what the daemon did wrong; the library's other errors quote the peer."""
    return record.msg == "connection handler failed"


async def listen(new_handler: Callable[[], Handler], options: ListenOptions) -> Listener:
    """
    Serve WebSocket connections with `websockets`.

    Raises:
        OSError: If it cannot listen there.
    """

    async def carry(connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)
        await _Wire(connection, new_handler(), options.high_water_bytes).serve()

    log = library_log()
    log.addFilter(_only_our_failures)
    server = await serve(
        carry,
        options.host,
        options.port,
        compression=None,
        open_timeout=options.upgrade_timeout_s,
        # Keepalive is the daemon's own, above the seam.
        ping_interval=None,
        close_timeout=CLOSE_WITHIN_S,
        max_size=options.max_bytes,
        # By its end a `send` has left no more than counts as written, so nobody has to look again.
        write_limit=min(_WRITE_LIMIT, options.high_water_bytes // 4),
        logger=log,
        create_connection=_Connection,
        backlog=1024,
    )
    return _Listener(server)
