"""
Everyone's latency while some misbehave, against their latency in quiet.

    python -m tests.benchmarks.daemon_fairness [--rounds N]

Twenty clients call in an open loop, a thousand calls a second in all, each timed from when it was
due. In turns they are alone, and beside three that a process of its own plays: one asks for large
answers and reads nothing, one sends frames of 32 MiB one after the other, one opens connections and
drops them as fast as it can. The daemon has a core, the clients the other, which the three have
what is left of. The must: their 99th percentile is at most 3 x that in quiet, by the median of the
rounds. Ends with 1 where it is missed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from harness import program
from harness.address import address_of_url
from harness.clock import now
from harness.resilience.histogram import Histogram
from tests.benchmarks.servers import pin, serving, spread

MUST: Final = 3.0
CLIENTS: Final = 20
EVERY_S: Final = 0.001
PHASE_S: Final = 4.0
FRAME_BYTES: Final = 32 * 1024 * 1024 - 1024

_HELLO: Final = b'{"op":"hello"}'
_CALL: Final = b'{"op":"call_tool","request_id":"%d","name":"echo","arguments":{"text":"hi"}}'
_UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class _Client(WSListener):
    """One that behaves: each answer is timed from when its call was due."""

    def __init__(self) -> None:
        self.welcome = asyncio.Event()
        self.due: dict[bytes, float] = {}
        self.times = Histogram()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if not self.welcome.is_set():
            self.welcome.set()
            return
        assert b'"ok":true' in payload, payload
        request_id = payload.split(b'"request_id":"', 1)[1].split(b'"', 1)[0]
        self.times.record(int((now() - self.due.pop(request_id)) * 1e9))


async def _p99_ms(clients: list[tuple[WSTransport, _Client]], first: int) -> tuple[float, int]:
    """One phase of the open loop; calls are numbered from there. Returns the next number too."""
    for _, client in clients:
        client.times = Histogram()
    began, number = now(), first
    while (due := began + (number - first) * EVERY_S) < began + PHASE_S:
        if (wait_s := due - now()) > 0:
            await asyncio.sleep(wait_s)
        transport, client = clients[number % CLIENTS]
        client.due[b"%d" % number] = due
        transport.send(WSMsgType.TEXT, _CALL % number)
        number += 1
    deadline = now() + 20
    while any(client.due for _, client in clients):
        assert now() < deadline, "calls were not answered"
        await asyncio.sleep(0.005)
    every = Histogram()
    for _, client in clients:
        every.merge(client.times)
    return (every.percentile(99) or 0) / 1e6, number


# The three, in a process of their own, blocking and simple.


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2, "big")
        if size < 1 << 16
        else b"\xff" + size.to_bytes(8, "big")
    )
    return b"\x81" + length + bytes(4) + payload


async def _welcomed(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, (host, port))
    await loop.sock_sendall(connection, _UPGRADE)
    await loop.sock_recv(connection, 4096)
    await loop.sock_sendall(connection, _frame(_HELLO))
    return connection


async def _reads_nothing(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    call = b'{"op":"call_tool","request_id":"%d","name":"blob","arguments":{"size_bytes":100000}}'
    while True:
        connection = await _welcomed(host, port)
        number = 0
        try:
            while True:
                number += 1
                await loop.sock_sendall(connection, _frame(call % number))
        except OSError:
            connection.close()


async def _sends_large_frames(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    frame = _frame(b'{"op":"call_tool","request_id":"1","name":"' + b"x" * FRAME_BYTES + b'"}')
    while True:
        connection = await _welcomed(host, port)
        try:
            while True:
                await loop.sock_sendall(connection, frame)
        except OSError:
            connection.close()


async def _opens_and_drops(host: str, port: int) -> None:
    while True:
        connection = await _welcomed(host, port)
        connection.close()


async def _misbehave(url: str) -> None:
    where = address_of_url(url, schemes=("ws",))
    pin(0, first=False)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print("there", flush=True)
    kinds = (_reads_nothing, _sends_large_frames, _opens_and_drops)
    await asyncio.gather(*(kind(where.host, where.port) for kind in kinds))


@asynccontextmanager
async def _misbehaving(url: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.daemon_fairness", "--misbehave", url),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            await process.stdout.readline()
        yield
    finally:
        process.kill()
        await process.wait()


async def _main(rounds: int) -> int:
    os.environ.pop("EXAI_WS_TOKEN", None)
    async with serving("harness.refdaemon", "--port", "0", "--ping-interval", "3600") as (_, url):
        clients: list[tuple[WSTransport, _Client]] = []
        for _ in range(CLIENTS):
            transport, client = await ws_connect(_Client, url)
            assert isinstance(client, _Client)
            transport.send(WSMsgType.TEXT, _HELLO)
            async with asyncio.timeout(10):
                await client.welcome.wait()
            clients.append((transport, client))
        cores = os.sched_getaffinity(0)
        pin(0, first=False)
        _, number = await _p99_ms(clients, 0)
        quiet_ms, beside_ms = [], []
        for _ in range(rounds):
            found, number = await _p99_ms(clients, number)
            quiet_ms.append(found)
            async with _misbehaving(url):
                found, number = await _p99_ms(clients, number)
            beside_ms.append(found)
        os.sched_setaffinity(0, cores)
    ratios = [one / other for one, other in zip(beside_ms, quiet_ms, strict=True)]
    print(f"{CLIENTS} clients, {1 / EVERY_S:.0f} calls a second; {rounds} rounds")
    print(f"99th percentile, quiet             {spread(quiet_ms, '.2f')} ms")
    print(f"beside three that misbehave        {spread(beside_ms, '.2f')} ms")
    found = statistics.median(ratios)
    met = "met" if found <= MUST else "MISSED"
    print(f"must: <= {MUST:g} x; found {found:.2f} x ({spread(ratios, '.2f')}): {met}")
    return 0 if found <= MUST else 1


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.daemon_fairness", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=5,
        help="measure N times in quiet and N times not (default: %(default)s)",
    )
    parser.add_argument("--misbehave", metavar="URL", help="play the three, and do nothing else")
    options = parser.parse_args()
    if options.misbehave:
        asyncio.run(_misbehave(options.misbehave))
    return program.run(_main(options.rounds))


if __name__ == "__main__":
    sys.exit(main())
