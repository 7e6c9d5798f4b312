"""
The reference daemon as a real process, or in a container behind the real Toxiproxy, and peers to
speak to it: a proper client and a raw one.

Every wait is bounded by `PATIENCE_S`. `UNIT_S` is the one unit short time-outs are made of.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness.clock import fresh_id, now
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.environment.backends import DOCKER, LOCAL, stack_of
from harness.environment.base import Environment
from harness.pytest_plugin.servants import Servants
from harness.records import Effect, read_lines
from tests.backends import CHOICES
from tests.grounds import ALONE, stands_on
from tests.held import HELD, Conversation, Held, HeldExai
from tests.integration.peers import prove_effects, prove_peers

UNIT_S = 0.25
PATIENCE_S = 10.0
TOKEN = "sesame-4711-öffne"

on_both_transports = pytest.mark.parametrize("transport", ["picows", "websockets"])

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class Peer:
    """
    A client of the daemon that speaks its dialect by hand. What passes is held against the schema,
    except for what is sent on `connection` itself.
    """

    def __init__(self, connection: ClientConnection, conversation: Conversation) -> None:
        self.connection = connection
        self._conversation = conversation

    async def send(self, **frame: Any) -> None:
        text = json.dumps(frame)
        self._conversation.sent(text)
        await self.connection.send(text)

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            text = await self.connection.recv()
        self._conversation.received(text)
        frame: dict[str, Any] = json.loads(text)
        return frame

    async def ask(self, **frame: Any) -> dict[str, Any]:
        await self.send(**frame)
        return await self.receive()

    async def call(self, request_id: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.ask(op="call_tool", request_id=request_id, name=tool, arguments=arguments)

    async def health(self) -> dict[str, Any]:
        report: dict[str, Any] = (await self.ask(op="health", request_id="h"))["health"]
        return report

    async def health_when(self, key: str, value: int) -> dict[str, Any]:
        """The first report in which a figure has a value; the daemon is asked until it has."""
        deadline = now() + PATIENCE_S
        while now() < deadline:
            report = await self.health()
            if {**report, **report["counters"]}[key] == value:
                return report
        pytest.fail(f"{key} was not {value} within {PATIENCE_S:g} s; last: {report}")

    async def close_code(self) -> int:
        """How the daemon closes this connection, past whatever it still sends."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    self._conversation.received(await self.connection.recv())
        except ConnectionClosed as error:
            return -1 if error.rcvd is None else error.rcvd.code


class RawPeer:
    """
    A client that has upgraded its connection and then writes frames as it likes. What is answered
    is held against the schema, with what was sent in one frame.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        conversation: Conversation,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._conversation = conversation

    def send(self, opcode: int, payload: bytes, *, fin: bool = True, first_bits: int = 0) -> None:
        if opcode in (TEXT, BINARY) and fin:
            self._conversation.sent(payload)
        self.writer.write(masked(opcode, payload, fin=fin, first_bits=first_bits))

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
        if first & 0x0F in (TEXT, BINARY):
            self._conversation.received(payload)
        return first & 0x0F, payload

    async def close_code(self) -> int:
        """The code of the close frame, past whatever comes before it."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    def reset(self) -> None:
        """End with RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def masked(opcode: int, payload: bytes, *, fin: bool = True, first_bits: int = 0) -> bytes:
    """A client's frame, masked with zeros."""
    head = bytes([(0x80 if fin else 0) | first_bits | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + bytes(4) + payload


class Daemon:
    """
    A running daemon.

    Attributes:
        held: What its frames are held by.
    """

    def __init__(self, log: Path, effects: Path, url: str) -> None:
        self.log = log
        self.effects_file = effects
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.held = HELD

    def started_with(self, arguments: tuple[str, ...]) -> None:
        """Of one with a defect nothing is expected, and its frames are no test's affair."""
        if "--defect" in arguments:
            self.held = Held()

    def running(self, **options: Any) -> Running:
        """It, for whoever attaches to what runs already; frames of such sessions are held, too."""
        return Running.at(self.url, dialect=HeldExai(), **options)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Peer]:
        """A peer that has not said hello."""
        async with connect(
            self.url, compression=None, ping_interval=None, proxy=None, max_size=None
        ) as connection:
            yield Peer(connection, Conversation(self.held))

    @asynccontextmanager
    async def peer(self, **hello: Any) -> AsyncIterator[Peer]:
        """A peer that was welcomed."""
        async with self.connected() as peer:
            ack = await peer.ask(**{"op": "hello", "token": TOKEN, **hello})
            assert ack["ok"], ack
            yield peer

    @asynccontextmanager
    async def raw(
        self, *, hello: bool = True, receive_bytes: int | None = None
    ) -> AsyncIterator[RawPeer]:
        """A raw peer, welcomed or only upgraded, perhaps with a small receive buffer."""
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
        try:
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            async with asyncio.timeout(PATIENCE_S):
                answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in answer, answer
            peer = RawPeer(reader, writer, Conversation(self.held))
            if hello:
                peer.send(TEXT, json.dumps({"op": "hello", "token": TOKEN}).encode())
                assert b'"ok":true' in (await peer.receive())[1]
            yield peer
        finally:
            writer.transport.abort()

    def effects(self) -> list[Effect]:
        """Every effect on file; a torn line fails."""
        records, tail = read_lines(self.effects_file.read_bytes(), Effect)
        assert tail == b""
        return records


class Process(Daemon):
    """One that is a process of this machine."""

    def __init__(
        self, process: asyncio.subprocess.Process, log: Path, effects: Path, url: str
    ) -> None:
        super().__init__(log, effects, url)
        self.process = process

    async def ended(self) -> int:
        """Wait for the daemon's end; its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def stop(self) -> int:
        """Ask the daemon to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()


def environment(token: str | None) -> dict[str, str]:
    """The environment of a daemon with that token."""
    rest = {name: value for name, value in os.environ.items() if name != "EXAI_WS_TOKEN"}
    return rest if token is None else {**rest, "EXAI_WS_TOKEN": token}


@asynccontextmanager
async def started(
    folder: Path,
    *arguments: str,
    transport: str = "picows",
    token: str | None = TOKEN,
    before: tuple[str, ...] = (),
) -> AsyncIterator[Process]:
    """A daemon of one's own with an effect log, killed at the end if it still runs."""
    log, effects = folder / "daemon.log", folder / "effects.jsonl"
    command = [*before, sys.executable, "-m", "harness.refdaemon", "--port", "0"]
    command += ["--transport", transport, "--effects", str(effects), *arguments]
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=stderr, env=environment(token)
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
        assert line, log.read_text()
        daemon = Process(process, log, effects, json.loads(line)["listening"])
        daemon.started_with(arguments)
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Serve:
    """
    Brings up a daemon of one's own with an effect log: a process, or a container behind the real
    Toxiproxy.

    Args:
        servants: The proxy server and the network that containers share; None: no containers.
    """

    def __init__(self, folder: Path, transport: str, servants: Servants | None) -> None:
        self._folder = folder
        self._transport = transport
        self._servants = servants

    @asynccontextmanager
    async def __call__(self, *arguments: str, token: str | None = TOKEN) -> AsyncIterator[Daemon]:
        """A daemon of these options."""
        if self._servants is None:
            how = {"transport": self._transport, "token": token}
            async with started(self._folder, *arguments, **how) as process:  # type: ignore[arg-type]
                stands_on(LOCAL, ALONE)
                yield process
            return
        transport: Any = self._transport
        daemon = Reference(transport=transport, options=arguments, token=token)
        choice = CHOICES[DOCKER]
        stack = stack_of(
            daemon,
            choice=choice,
            directory=self._folder / fresh_id(),
            server=await self._servants.get(choice, allow_remote=False),
            network=await self._servants.network(choice),
        )
        async with Environment(stack, owns=True, name=f"edge-{fresh_id()}") as here:
            self._servants.prove(stack.server)
            stands_on(choice.backend, choice.proxy)
            await asyncio.to_thread(prove_peers, here)
            effects = here.stack.site.effects_file
            assert effects is not None
            found = Daemon(effects.parents[1] / "daemon.log", effects, here.url.rstrip("/"))
            found.started_with(arguments)
            yield found
            prove_effects(here)


async def ran(*arguments: str, token: str | None = None) -> tuple[int, str]:
    """Run a daemon that is expected to end by itself; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness.refdaemon", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(token),
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()
