"""
The default transport: picows, whose core hands over frames.

Joined here: fragments to messages, and what is sent at once to one write, since the write is what a
small message costs.

picows itself answers a frame it cannot parse or that is too large (1002, 1009) and
disconnects 10 ms later, without telling its listener; `ping` bounds that disconnect
where the peer takes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

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

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_CLOSE: Final = WSMsgType.CLOSE
_TCP_CLOSE: Final = 7
# What picows lets pass although no close frame may carry it; the rest it refuses itself.
_NO_CODES: Final = frozenset({0, 1006})
_NO_CODES_FROM: Final = 5000
_READ_BUFFER_BYTES: Final = 4096


class _Wire(WSListener):
    """One connection: picows' listener below, `Wire` above."""

    # There are thousands of them.
    __slots__ = (
        "_came",
        "_closing",
        "_deadline",
        "_handler",
        "_high_water",
        "_max_bytes",
        "_parts",
        "_parts_are_text",
        "_socket",
        "_transport",
        "address",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self, handler: Handler, options: ListenOptions) -> None:
        self._handler = handler
        self._max_bytes = options.max_bytes
        self._high_water = options.high_water_bytes
        # A message whose last fragment is not here yet.
        self._parts: bytearray | None = None
        self._parts_are_text = False
        # Texts of the read under way.
        self._came: list[bytes] = []
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None
        self.address = ""
        self.received_bytes = self.sent_bytes = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._socket = transport.underlying_transport
        self._socket.set_write_buffer_limits(high=self._high_water, low=self._high_water // 4)
        self.address = self._socket.get_extra_info("peername")[0]
        self._handler.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        size = frame.payload_size
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and size < LARGE_BYTES
            and self._parts is None
            and not (self._closing or frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            # Most are such: a whole text, handed over with the others of the same read.
            message = frame.get_payload_as_bytes()
            if message.isascii() or _is_utf8(message):
                self.received_bytes += size + (6 if size < 126 else 8 if size < 65_536 else 14)
                self._came.append(message)
                if frame.last_in_buffer:
                    self._hand_over()
                return
        self._hand_over()
        self._take(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._handler.lost(self._cause())

    def pause_writing(self) -> None:
        self._handler.crowded()

    def resume_writing(self) -> None:
        self._handler.writable()

    def send(self, data: bytes) -> None:
        if self._closing:
            return
        size = len(data)
        self.sent_bytes += size + (2 if size < 126 else 4 if size < 65_536 else 10)
        self._transport.send(_TEXT, data)

    def send_all(self, messages: Sequence[bytes]) -> None:
        # These bytes go past picows, so it cannot keep them from following a close frame.
        gone = self._transport.is_close_frame_sent or self._transport.is_disconnected
        if self._closing or gone:
            return
        parts: list[bytes] = []
        for data in messages:
            parts += (_header(len(data)), data)
        joined = b"".join(parts)
        self.sent_bytes += len(joined)
        self._socket.write(joined)

    def send_binary(self, data: bytes) -> None:
        if self._closing:
            return
        self.sent_bytes += framed_bytes(len(data), masked=False)
        self._transport.send(_BINARY, data)

    def ping(self) -> None:
        if self._transport.is_close_frame_sent and not self._closing:
            self.abort()
        else:
            self.sent_bytes += framed_bytes(0, masked=False)
            self._transport.send_ping()

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        if self._closing or self._transport.is_disconnected:
            return
        self._closing = True
        self._handler.closing()
        self.sent_bytes += framed_bytes(2 + len(reason.encode()), masked=False)
        # The annotation says enum; the extension takes any integer.
        self._transport.send_close(code, reason.encode())  # type: ignore[arg-type]
        # The peer's close frame cannot be seen while reading is paused.
        self._socket.resume_reading()
        self._deadline = asyncio.get_running_loop().call_later(within_s, self.abort)

    def abort(self) -> None:
        self._closing = True
        self._socket.abort()

    def buffered(self) -> int:
        return self._socket.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._socket.resume_reading()

    def _hand_over(self) -> None:
        """What came so far."""
        if self._came:
            came, self._came = self._came, []
            self._handler.messages(came)

    def _take(self, frame: WSFrame) -> None:
        """Any other frame."""
        kind = frame.msg_type
        size = frame.payload_size
        self.received_bytes += size + (6 if size < 126 else 8 if size < 65_536 else 14)
        if self._closing and kind is not _CLOSE:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(1002, "reserved bit set without an extension", within_s=CLOSE_WITHIN_S)
        elif kind is _TEXT or kind is _BINARY:
            self._begin(frame, is_text=kind is _TEXT)
        elif kind is _CONTINUATION:
            self._continue(frame)
        else:
            self._control(kind, frame.get_payload_as_bytes())

    def _begin(self, frame: WSFrame, *, is_text: bool) -> None:
        if self._parts is not None:
            self.close(1002, "a message began inside another", within_s=CLOSE_WITHIN_S)
        elif not frame.fin:
            self._parts = bytearray(frame.get_payload_as_bytes())
            self._parts_are_text = is_text
        elif self._wants(frame.get_payload_as_memoryview()):
            self._deliver(frame.get_payload_as_bytes(), is_text=is_text)

    def _wants(self, payload: bytearray | memoryview) -> bool:
        """Whether the handler reads it; if not, it was told."""
        size = len(payload)
        if size < LARGE_BYTES or self._handler.wants(size):
            return True
        self._handler.unwanted(bytes(payload[:HEAD_BYTES]), size)
        return False

    def _deliver(self, message: bytes, *, is_text: bool) -> None:
        if not is_text:
            self._handler.binary(message)
        elif message.isascii() or _is_utf8(message):
            self._handler.messages((message,))
        else:
            self.close(1007, "a text message is not UTF-8", within_s=CLOSE_WITHIN_S)

    def _continue(self, frame: WSFrame) -> None:
        if self._parts is None:
            self.close(1002, "a continuation of no message", within_s=CLOSE_WITHIN_S)
            return
        self._parts += frame.get_payload_as_bytes()
        if len(self._parts) > self._max_bytes:
            self.close(1009, f"message above {self._max_bytes} bytes", within_s=CLOSE_WITHIN_S)
        elif frame.fin:
            parts, self._parts = self._parts, None
            if self._wants(parts):
                self._deliver(bytes(parts), is_text=self._parts_are_text)

    def _control(self, kind: WSMsgType, payload: bytes) -> None:
        if kind is WSMsgType.PING:
            self.sent_bytes += framed_bytes(len(payload), masked=False)
            self._transport.send_pong(payload)
        elif kind is WSMsgType.PONG:
            self._handler.pong()
        elif kind is _CLOSE:
            # An empty close frame has no code to give back.
            code = int.from_bytes(payload[:2], "big") if payload else 1000
            legal = code not in _NO_CODES and code < _NO_CODES_FROM
            self.close(code if legal else 1002, "", within_s=CLOSE_WITHIN_S)
            self._transport.disconnect()

    def _cause(self) -> Cause:
        """Ask the kernel: picows hands on no exception."""
        if self._closing or self._transport.close_handshake is not None:
            return "closed"
        if not hasattr(socket, "TCP_INFO"):
            return "eof"
        connection = self._socket.get_extra_info("socket")
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return "reset" if state == _TCP_CLOSE else "eof"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def _header(size: int) -> bytes:
    """What stands before a payload of that length in a server's whole text frame."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


class _Listener:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.close()


async def listen(new_handler: Callable[[], Handler], options: ListenOptions) -> Listener:
    """
    Serve WebSocket connections with picows.

    Raises:
        OSError: If it cannot listen there.
    """

    def new_wire(_request: WSUpgradeRequest) -> WSListener:
        return _Wire(new_handler(), options)

    server = await ws_create_server(
        new_wire,
        options.host,
        options.port,
        websocket_handshake_timeout=options.upgrade_timeout_s,
        logger_name=library_log(),
        # A pong picows sends by itself is a frame this listener does not see, and the
        # last frame of a read is what ends a joined write.
        enable_auto_pong=False,
        max_frame_size=options.max_bytes,
        read_buffer_init_size=_READ_BUFFER_BYTES,
        backlog=1024,
    )
    return _Listener(server)
