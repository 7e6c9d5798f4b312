"""
A client that counts for itself what it says and is told: calls, frames, and every byte, HTTP's too.

Nothing of the harness counts for it. One `Tally` is shared by all clients of a workload.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.held import Conversation
from tests.integration.refdaemon_process import CLOSE, PATIENCE_S, PING, PONG, TEXT, TOKEN, masked

__all__ = ["Client", "Line", "Tally", "outcome_of", "put_away", "soon"]

T = TypeVar("T")

_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_ENDS: Final = {"TOOL_EXECUTION_ERROR": "failed", "CANCELLED": "cancelled", "TIMEOUT": "timed_out"}


@dataclass
class Tally:
    """
    What clients counted.

    Attributes:
        calls: By how they ended.
        codes: Errors, by code.
        limits: What was refused, by the limit met.
        refused_frames: Frames that no call could be read from.
        replays: Answers that were remembered.
        said: Messages sent after a hello.
        heard: Messages received after a welcome.
        connections: Hellos that were welcomed.
        back: Of these, by sessions that had had a connection.
        turned_away: Hellos that were not.
        waited_ns: From reading a call to its tool's start, as the answers say.
        worked_ns: From there to the answer.
        lines: Every connection.
    """

    calls: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    refused_frames: int = 0
    replays: int = 0
    said: int = 0
    heard: int = 0
    connections: int = 0
    back: int = 0
    turned_away: int = 0
    waited_ns: list[int] = field(default_factory=list)
    worked_ns: list[int] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def outcome_of(answer: dict[str, Any]) -> str:
    """How a call ended, in the word that metrics have for it."""
    if answer.get("replayed"):
        return "replayed"
    return "executed" if answer["ok"] else _ENDS.get(answer["error"]["code"], "refused")


@dataclass
class Line:
    """
    One connection, and its bytes by kind: HTTP's upgrade, and frames with their headers.

    Attributes:
        closed: Whether close frames went both ways.
        over: Set when nothing more comes.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http_sent: int = 0
    http_received: int = 0
    sent: int = 0
    received: int = 0
    closing: bool = False
    closed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def dial(cls, port: int) -> Line:
        """Connect, and upgrade."""
        async with asyncio.timeout(PATIENCE_S):
            line = cls(*await asyncio.open_connection("127.0.0.1", port))
            line.writer.write(_UPGRADE)
            head = await line.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        line.http_sent, line.http_received = len(_UPGRADE), len(head)
        return line

    def send(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        frame = masked(opcode, payload, fin=fin)
        self.sent += len(frame)
        self.writer.write(frame)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        first, size = await self.reader.readexactly(2)
        head = 2
        if size >= 126:
            more = 2 if size == 126 else 8
            size = int.from_bytes(await self.reader.readexactly(more), "big")
            head += more
        payload = await self.reader.readexactly(size)
        self.received += head + size
        return first & 0x0F, payload

    def reset(self) -> None:
        """End with RST."""
        linger = struct.pack("ii", 1, 0)
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Client:
    """
    One session over any number of connections, one after the other.

    Args:
        port: Where to connect.
        session: Its id.
        tally: Where all is counted.

    Attributes:
        session: As given.
        line: Its connection of the moment.
        others: Answers to what is no call, in order.
    """

    def __init__(self, port: int, session: str, tally: Tally) -> None:
        self._port = port
        self.session = session
        self._tally = tally
        self._calls = 0
        self._conversation = Conversation()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.others: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.line: Line

    async def connect(self) -> dict[str, Any]:
        """A connection and its hello; the daemon's welcome."""
        self.line = line = await Line.dial(self._port)
        hello = {"op": "hello", "token": TOKEN, "session_id": self.session}
        self._send(json.dumps(hello).encode())
        async with asyncio.timeout(PATIENCE_S):
            _, payload = await line.frame()
        self._conversation.received(payload)
        ack: dict[str, Any] = json.loads(payload)
        self._tally.lines.append(line)
        task = asyncio.create_task(self._listen(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        assert ack["ok"], ack
        self._tally.connections += 1
        self._tally.back += ack["resumed"]
        return ack

    async def be_turned_away(self) -> None:
        """A connection of its own whose hello has a wrong token."""
        line = await Line.dial(self._port)
        self._tally.lines.append(line)
        line.send(TEXT, b'{"op": "hello", "token": "wrong"}')
        _, payload = await soon(line.frame())
        assert json.loads(payload)["error"] == "unauthorized"
        await soon(self._listen(line))
        assert line.closed
        self._tally.turned_away += 1

    # What it does.

    def say(self, frame: dict[str, Any] | bytes) -> None:
        """Send a message."""
        self._tally.said += 1
        self._send(frame if isinstance(frame, bytes) else json.dumps(frame).encode())

    def _send(self, message: bytes) -> None:
        self._conversation.sent(message)
        self.line.send(TEXT, message)

    def begin(self, tool: str, arguments: Any, **more: Any) -> asyncio.Future[dict[str, Any]]:
        """Send a call; what comes of it, on whichever connection."""
        self._calls += 1
        request_id = f"{self.session}-{self._calls}"
        self._waiting[request_id] = future = asyncio.get_running_loop().create_future()
        frame = {"op": "call_tool", "request_id": request_id, "name": tool, "arguments": arguments}
        self.say({**frame, **more})
        return future

    @property
    def last_id(self) -> str:
        """The request id of the call sent last."""
        return f"{self.session}-{self._calls}"

    async def call(self, tool: str, arguments: Any, **more: Any) -> dict[str, Any]:
        """A call and its answer."""
        return await soon(self.begin(tool, arguments, **more))

    async def ask(self, frame: dict[str, Any] | bytes) -> dict[str, Any]:
        """Anything that is no call, and the next answer to such a thing."""
        self.say(frame)
        return await soon(self.others.get())

    async def ping(self) -> None:
        """A ping of WebSocket's own, and its pong."""
        self.line.send(PING, b"there?")
        assert await soon(self._pongs.get()) == b"there?"

    # How it leaves.

    async def close(self) -> None:
        """With a close frame, and wait for the end."""
        self.line.closing = True
        self.line.send(CLOSE, b"\x03\xe8")
        await soon(self.line.over.wait())
        assert self.line.closed

    async def leave(self) -> None:
        """With FIN and without a word."""
        self.line.writer.write_eof()
        await soon(self.line.over.wait())

    async def break_off(self) -> None:
        """With RST."""
        self.line.reset()
        await soon(self.line.over.wait())

    async def _listen(self, line: Line) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await line.frame()
                if opcode == TEXT:
                    self._conversation.received(payload)
                    self._heard(json.loads(payload))
                elif opcode == PING:
                    line.send(PONG, payload)
                elif opcode == PONG:
                    self._pongs.put_nowait(payload)
                elif opcode == CLOSE:
                    if not line.closing:
                        line.send(CLOSE, payload)
                    line.closed = True
        line.writer.transport.abort()
        line.over.set()

    def _heard(self, frame: dict[str, Any]) -> None:
        tally = self._tally
        tally.heard += 1
        error = frame.get("error")
        if error is not None:
            tally.codes[error["code"]] += 1
            if error["code"] == "OVER_CAPACITY":
                tally.limits[error["details"]["limit"]] += 1
        if frame["op"] == "call_tool_res" and frame["request_id"] in self._waiting:
            self._ended(frame)
            waiting = self._waiting.pop(frame["request_id"])
            if not waiting.done():
                waiting.set_result(frame)
        elif frame["op"] not in ("progress", "stream_chunk"):
            self.others.put_nowait(frame)

    def _ended(self, answer: dict[str, Any]) -> None:
        outcome = outcome_of(answer)
        self._tally.calls[outcome] += 1
        if outcome == "replayed" and "began_ns" not in answer:
            self._tally.replays += 1
        if outcome in ("executed", "failed"):
            received, began, answered = (
                answer[f"{what}_ns"] for what in ("received", "began", "answered")
            )
            self._tally.waited_ns.append(began - received)
            self._tally.worked_ns.append(answered - began)


@asynccontextmanager
async def put_away(tally: Tally) -> AsyncIterator[Tally]:
    """Whatever connections clients made inside are gone afterwards."""
    try:
        yield tally
    finally:
        for line in tally.lines:
            line.writer.transport.abort()
            if not line.over.is_set():
                await soon(line.over.wait())


async def soon(awaitable: Awaitable[T]) -> T:
    """Bounded."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable
