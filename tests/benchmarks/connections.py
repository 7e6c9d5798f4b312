"""
What sessions that outlive their connections cost on a wire that breaks.

    python -m tests.benchmarks.connections [--rounds N]

100 clients, each with 4 messages of 150 bytes under way to it, over real sockets; each second
one client, as a seed says, breaks its connection and comes back. The server sends through
`resilience.connections`, or barely through the same transport, which keeps nothing. Both are up
at once, on one core, with the clients on another; each round goes through both in turn.

In the measurement: the server's CPU a message from `send` to its acknowledgement, read from the
kernel, and the time between the two; the clients' breaking and coming back with it.

The must: of the messages that were accepted, none is lost. The aim: 0.8 of the bare server's
messages a CPU-second.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from harness import program
from harness.clock import now
from tests.benchmarks.servers import cpu_s, pin, serving, spread

CLIENTS: Final = 100
SECONDS: Final = 2.0
CUT_EACH_S: Final = 1.0
AIM: Final = 0.8
_MODES: Final = ("bare", "resilient")


class _Client(WSListener):
    """One connection of a client: it takes what comes, writes it down, and acknowledges it."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        name, _, _ = frame.get_payload_as_bytes().partition(b" ")
        self._taken.add(name.decode())
        transport.send(WSMsgType.TEXT, name)


class _Orders(WSListener):
    """The connection that gives orders, and the answer to the last one."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.answers.put_nowait(json.loads(frame.get_payload_as_bytes()))


@dataclass
class _Server:
    """A running server, its clients, and what was found."""

    pid: int
    url: str
    orders: WSTransport
    answers: asyncio.Queue[Any]
    chance: random.Random
    taken: dict[str, set[str]] = field(default_factory=dict)
    connections: dict[str, WSTransport] = field(default_factory=dict)
    cuts: int = 0
    a_cpu_s: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)

    async def connect(self, name: str) -> None:
        taken = self.taken.setdefault(name, set())
        transport, _ = await ws_connect(lambda: _Client(taken), self.url)
        transport.send(WSMsgType.TEXT, name.encode())
        self.connections[name] = transport

    async def cut_one(self) -> None:
        name = self.chance.choice(sorted(self.connections))
        self.connections[name].underlying_transport.abort()
        self.cuts += 1
        await self.connect(name)

    async def stop(self) -> dict[str, Any]:
        self.orders.send(WSMsgType.TEXT, b"stop")
        async with asyncio.timeout(10):
            said: dict[str, Any] = await self.answers.get()
            return said

    async def measure(self) -> None:
        """One stretch, with its cuts."""
        before_s = cpu_s(self.pid)
        self.orders.send(WSMsgType.TEXT, b"go")
        until_s = now() + SECONDS
        while (left_s := until_s - now()) > 0:
            await asyncio.sleep(min(left_s, CUT_EACH_S / 2))
            if now() < until_s:
                await self.cut_one()
                await asyncio.sleep(min(max(0, until_s - now()), CUT_EACH_S / 2))
        said = await self.stop()
        self.a_cpu_s.append(said["acknowledged"] / (cpu_s(self.pid) - before_s))
        self.p95_ms.append(said["p95_ms"])

    async def lost(self) -> int:
        """Messages that were sent and never arrived, once nothing is under way any more."""
        async with asyncio.timeout(30):
            while True:
                said = await self.stop()
                sent: dict[str, int] = said["sent"]
                missing = sum(sent[name] - len(taken) for name, taken in self.taken.items())
                if not said["kept"] or not missing:
                    return missing
                await asyncio.sleep(0.05)


async def _measure(rounds: int) -> int:
    async with AsyncExitStack() as stack:
        servers = {}
        for mode in _MODES:
            pid, url = await stack.enter_async_context(serving("tests.benchmarks.sending", mode))
            orders, listener = await ws_connect(_Orders, url)
            assert isinstance(listener, _Orders)
            server = _Server(pid, url, orders, listener.answers, random.Random(7))
            for n in range(CLIENTS):
                await server.connect(f"client-{n}")
            servers[mode] = server
        cores = os.sched_getaffinity(0)
        pin(0, first=False)
        order = list(_MODES)
        for n in range(rounds):
            random.Random(n).shuffle(order)
            for mode in order:
                await servers[mode].measure()
        os.sched_setaffinity(0, cores)
        lost = {mode: await servers[mode].lost() for mode in _MODES}
        return _tell(servers, rounds, lost)


def _tell(servers: Mapping[str, _Server], rounds: int, lost: Mapping[str, int]) -> int:
    print(f"{CLIENTS} clients, a cut each {CUT_EACH_S:g} s, {rounds} rounds of {SECONDS:g} s")
    print(f"{'median (min..max)':12} {'messages a CPU-second':28} {'p95 ms':24} cuts   lost")
    for mode, server in servers.items():
        rate, p95 = spread(server.a_cpu_s, ",.0f"), spread(server.p95_ms, ".2f")
        print(f"{mode:12} {rate:28} {p95:24} {server.cuts:4} {lost[mode]:6}")
    bare, ours = servers["bare"], servers["resilient"]
    ratio = statistics.median(a / b for a, b in zip(ours.a_cpu_s, bare.a_cpu_s, strict=True))
    late = statistics.median(a / b for a, b in zip(ours.p95_ms, bare.p95_ms, strict=True))
    reached = "reached" if ratio >= AIM else "not reached"
    print(f"messages a CPU-second, x bare: {ratio:.2f}; aim {AIM:g}: {reached}")
    print(f"p95, x bare: {late:.2f}")
    met = "met" if not lost["resilient"] else "MISSED"
    print(f"must: messages lost = 0; found {lost['resilient']}: {met}")
    return int(lost["resilient"] > 0)


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.connections", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=15,
        help="measure both N times; 5 or more for a figure to be told (default: 15)",
    )
    return program.run(_measure(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
