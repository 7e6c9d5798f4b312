"""
A daemon that is sent what nobody should send, and what must hold of it after each example.

It lives; its log tells of no exception; a bystander that was there before is answered at once, and
correctly; and what the sender gets are frames of the protocol, errors with all their fields, for
requests of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.held import Held
from tests.integration.fuzz_input import Message
from tests.integration.refdaemon_process import CLOSE, PING, PONG, TEXT, TOKEN, Process, masked

__all__ = ["Heard", "Target"]

_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_WITH_ERRORS: Final = ("error", "call_tool_res", "cancelled", "reconfigured")
_FIRST: Final = "the first request of an example"
_LAST: Final = "the last request of an example"
_LATER: Final = ("call_tool_res", "progress", "stream_chunk")


@dataclass
class Heard:
    """
    What the daemon said on one connection.

    Attributes:
        frames: Its messages, each a JSON object with an op.
        code: The code in its close frame; None: there was none.
        reset: Whether an RST ended it, which may have taken the rest with it.
    """

    frames: list[dict[str, Any]]
    code: int | None = None
    reset: bool = False

    def ends_with_pong(self, request_id: str) -> bool:
        """Whether the pong of that id is the last that came."""
        last = self.frames[-1] if self.frames else {}
        return last.get("op") == "pong" and last["request_id"] == request_id

    def at_once(self) -> int:
        """How many answers are of those that no tool has to work for."""
        return sum(frame["op"] not in _LATER for frame in self.frames)

    def ended(self) -> Counter[str]:
        """How often a call of that id was answered."""
        ended = (frame["request_id"] for frame in self.frames if frame["op"] == "call_tool_res")
        return Counter(request_id for request_id in ended if request_id is not None)


class _Stranger:
    """A connection to the daemon for one example."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: Held
    ) -> None:
        self._held = held
        self._reader = reader
        self._writer = writer
        self._ended = False
        self.heard = Heard([])

    def send(self, data: bytes) -> None:
        if not self._ended:
            self._writer.write(data)

    def send_end(self) -> None:
        self._ended = True
        # The daemon may have reset the connection already.
        with suppress(OSError):
            self._writer.write_eof()

    async def head(self) -> bytes:
        """The head of the answer to an HTTP request; what there is of it if the end comes first."""
        try:
            return await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as end:
            return end.partial
        except ConnectionError:
            self.heard.reset = True
            return b""

    async def hear(self, *, until: Callable[[Heard], bool] = lambda heard: False) -> bool:
        """Frames until it is enough, or to the end; whether it was enough."""
        while not until(self.heard):
            frame = await self._frame()
            if frame is None:
                return False
            opcode, payload = frame
            assert self.heard.code is None, f"after its close frame came {frame}"
            if opcode == CLOSE:
                self.heard.code = int.from_bytes(payload[:2], "big")
                self.send(masked(CLOSE, payload))
            elif opcode == TEXT:
                said = self._held.reply(payload)
                assert isinstance(said.get("op"), str), f"no object with an op: {payload!r}"
                self.heard.frames.append(said)
            else:
                assert opcode in (PING, PONG), f"a frame of kind {opcode}"
        return True

    async def _frame(self) -> tuple[int, bytes] | None:
        try:
            first = await self._reader.read(1)
            if not first:
                return None
            (size,) = await self._reader.readexactly(1)
            assert size < 128, "a server's frame is masked"
            if size > 125:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
            payload = await self._reader.readexactly(size)
        except ConnectionError:
            self.heard.reset = True
            return None
        except asyncio.IncompleteReadError as end:
            raise AssertionError(f"the end came within a frame, after {end.partial!r}") from None
        # Neither fragments nor extensions are of this protocol.
        assert first[0] & 0xF0 == 0x80, f"a frame that begins with {first.hex()}"
        return first[0] & 0x0F, payload

    def close(self) -> None:
        self._writer.transport.abort()


class Target:
    """
    A daemon with a bystander. After an example that failed both are had anew.

    Args:
        start: Brings up a daemon.
        within_s: How long an example may take.
    """

    def __init__(
        self, start: Callable[[], AbstractAsyncContextManager[Process]], *, within_s: float = 10.0
    ) -> None:
        self._start = start
        self._within_s = within_s
        # One of its own: what does not fit must be told with the example that brought it.
        self._held = Held()
        self._stack: AsyncExitStack | None = None
        # What was ever asked for in a session: results are kept until somebody comes for them.
        self._asked: dict[str, set[str | None]] = {}
        self._count = 0

    async def close(self) -> None:
        """End the daemon as one should; all that was sent to it has left no connection."""
        if self._stack is None:
            return
        async with self._stack:
            await self._bystander.health_when("connections", 1)
            assert await self._daemon.stop() == 0

    async def upgrade(self, data: bytes) -> None:
        """Bytes instead of an HTTP request, then the end."""
        async with self._example() as stranger:
            stranger.send(data)
            stranger.send_end()
            head = await stranger.head()
            if head.startswith(b"HTTP/1.1 101 "):
                await stranger.hear()
            else:
                assert not head or head.startswith(b"HTTP/1."), head

    async def frames(self, data: bytes, *, welcomed: bool) -> None:
        """Bytes instead of frames, perhaps after a hello, then the end."""
        async with self._example() as stranger:
            await self._upgraded(stranger)
            if welcomed:
                await self._greet(stranger)
            stranger.send(data)
            stranger.send_end()
            await stranger.hear()
            _check(stranger.heard)

    async def hello(self, message: Message) -> None:
        """A first message."""
        async with self._example() as stranger:
            await self._upgraded(stranger)
            lives = await self._ask(stranger, [message])
            heard = stranger.heard
            _check(heard, {message.refused_with()})
            if message.refused_with() is None:
                ack = heard.frames[0]
                assert ack["op"] == "hello_ack", ack
                assert ack["ok"] is lives, ack
                assert lives or (ack["error"] and heard.code in {1008, 4000, 4001, 4003}), heard

    async def messages(self, messages: list[Message], session: str | None) -> None:
        """Messages after a hello; each is answered, and none but the unbearable ends it."""
        async with self._example() as stranger:
            await self._upgraded(stranger)
            asked = await self._greet(stranger, session)
            for message in messages:
                asked |= message.request_ids()
            lives = await self._ask(stranger, messages)
            codes = {message.refused_with() for message in messages}
            heard = stranger.heard
            _check(heard, codes, asked)
            if codes == {None}:
                assert lives, heard
                at_once = [message for message in messages if not message.may_be_call()]
                assert heard.at_once() >= len(at_once) + 2, heard

    # The parts of an example.

    @asynccontextmanager
    async def _example(self) -> AsyncIterator[_Stranger]:
        """A new connection to a daemon that was well, and is afterwards."""
        stranger = await self._begin()
        try:
            async with asyncio.timeout(self._within_s):
                yield stranger
                await self._end()
        except BaseException as error:
            await self.give_up()
            if isinstance(error, TimeoutError):
                raise AssertionError(
                    f"not over within {self._within_s:g} s: {stranger.heard}"
                ) from None
            raise
        finally:
            stranger.close()

    async def _begin(self) -> _Stranger:
        if self._stack is None:
            stack = AsyncExitStack()
            self._asked.clear()
            self._daemon = await stack.enter_async_context(self._start())
            self._stack = stack
            self._daemon.held = self._held
            self._bystander = await self._stack.enter_async_context(self._daemon.peer())
            self._log = self._stack.enter_context(self._daemon.log.open("rb"))
        async with asyncio.timeout(self._within_s):
            streams = await asyncio.open_connection("127.0.0.1", self._daemon.port)
        return _Stranger(*streams, self._held)

    async def _end(self) -> None:
        """What must hold after each example."""
        assert self._daemon.process.returncode is None, "the daemon ended"
        n = self._count = self._count + 1
        pong = await self._bystander.ask(op="ping", request_id=f"ping-{n}")
        assert (pong["op"], pong["request_id"]) == ("pong", f"ping-{n}"), pong
        reply = await self._bystander.call(f"call-{n}", "echo", text=f"says {n}")
        assert (reply["op"], reply["request_id"]) == ("call_tool_res", f"call-{n}"), reply
        assert reply["outputs"] == [{"type": "text", "text": f"says {n}"}], reply
        self._held.judge()
        said = self._log.read()
        assert b"Traceback" not in said, said.decode()

    async def give_up(self) -> None:
        """Put away a daemon that is not to be trusted any more."""
        stack, self._stack = self._stack, None
        if stack is not None:
            # It may answer nothing any more, no close frame either.
            with suppress(ProcessLookupError):
                self._daemon.process.kill()
            await stack.aclose()

    async def _upgraded(self, stranger: _Stranger) -> None:
        stranger.send(_UPGRADE)
        head = await stranger.head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def _greet(self, stranger: _Stranger, session: str | None = None) -> set[str | None]:
        """Say hello; the ids of all that was asked for in that session."""
        hello = {"op": "hello", "token": TOKEN, "session_id": session}
        stranger.send(masked(TEXT, json.dumps(hello).encode()))
        assert await self._pong(stranger, _FIRST), stranger.heard
        ack = stranger.heard.frames[0]
        assert ack["ok"], ack
        return self._asked.setdefault(ack["session_id"], {None})

    async def _ask(self, stranger: _Stranger, messages: list[Message]) -> bool:
        """Send messages; whether the connection outlives them. It is closed in any case."""
        for message in messages:
            stranger.send(message.on_the_wire())
        # Calls of one id and one key are one call.
        distinct = {call for message in messages if (call := message.call()) is not None}
        calls = Counter(request_id for request_id, _ in distinct)
        lives = await self._pong(stranger, _LAST) and await stranger.hear(
            until=lambda heard: calls <= heard.ended()
        )
        stranger.send(masked(CLOSE, b"\x03\xe8"))
        await stranger.hear()
        assert not lives or stranger.heard.code == 1000, stranger.heard
        return lives

    async def _pong(self, stranger: _Stranger, request_id: str) -> bool:
        """Ask for a pong; whether it came."""
        stranger.send(masked(TEXT, json.dumps({"op": "ping", "request_id": request_id}).encode()))
        return await stranger.hear(until=lambda heard: heard.ends_with_pong(request_id))


def _check(
    heard: Heard, codes: set[int | None] | None = None, asked: set[str | None] | None = None
) -> None:
    """
    Hold what was heard against the protocol.

    Args:
        heard: All of one connection.
        codes: What it may be closed with, if something must end it.
        asked: The ids of all requests that may be answered there.
    """
    for frame in heard.frames:
        error = frame.get("error")
        if frame["op"] in _WITH_ERRORS and (error is not None or frame["op"] == "error"):
            assert isinstance(error, dict), frame
            assert "request_id" in frame, frame
            assert error.get("code"), frame
            # It may be empty: one tool fails with the words that it is told.
            assert isinstance(error.get("message"), str), frame
            assert isinstance(error.get("details"), dict), frame
        elif "ok" in frame and not frame["ok"]:
            assert error, f"refused without a reason: {frame}"
        if asked is not None:
            assert frame.get("request_id") in asked | {_FIRST, _LAST}, frame
    expected = (codes or set()) - {None}
    if expected:
        assert heard.code in expected or (heard.reset and heard.code is None), heard
