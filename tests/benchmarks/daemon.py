"""
Calls a CPU-second of the reference daemon, against a bare `websockets` server.

    python -m tests.benchmarks.daemon [--rounds N]

100 connections in a closed loop, with one call each, and with eight that are sent together and
answered before the next eight. All servers are up
at once, pinned to one core, with the generator on another; every round goes through all of
them in shuffled order, so that a noisy neighbour harms all alike. Compared is the CPU of
the server a call, from the kernel's nanosecond accounting: rates by the wall clock move
with the neighbours. Ratios are taken within a round.

The daemon has all of it on: a token, limits of connections, calls and rates (wide enough to refuse
nothing), breakers, metrics, keys (each call has one of its own). With its effect log on it stands
beside a bare server that writes the same line. Ends with 1 where a must is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from harness import program
from harness.clock import now
from tests.benchmarks.servers import cpu_s, pin, serving, spread

CONNECTIONS: Final = 100
SECONDS: Final = 0.5
DEPTHS: Final = (1, 8)
MUSTS: Final = {1: 1.3, 8: 2.5}
"""How many calls are in flight on each connection, and what the daemon must reach then."""

MESSAGES_A_S: Final = 140_000
"""Messages both ways that the daemon must bear on one core, one call in flight."""

_BARE: Final = "tests.benchmarks.bare_websockets"
_TOKEN: Final = "bench"
# None of them refuses anything here; all of them are asked.
_LIMITS: Final = [
    f"--set={name}=100000000"
    for whose in ("", "_per_address", "_per_session")
    for name in (
        f"admission.messages_per_s{whose}",
        f"admission.burst_messages{whose}",
    )
]
_DAEMON: Final = ("harness.refdaemon", "--port", "0", "--ping-interval", "3600", *_LIMITS)
_HELLO: Final = json.dumps({"op": "hello", "token": _TOKEN}).encode()
_BARE_NAME: Final = "bare websockets"
_MUST_REACH: Final = "daemon"
_CALL: Final = (
    b'{"op":"call_tool","request_id":"%d","name":"echo","arguments":{"text":'
    b'"The quick brown fox jumps over the lazy dog, 150 bytes in all."}}'
)


class _Caller(WSListener):
    """One connection of the closed loop: the next calls leave when all answers are here."""

    def __init__(self) -> None:
        self.calling = False
        self.calls = 0
        self.depth = 0
        self.in_flight = 0
        self.idle = asyncio.Event()

    def begin(self, transport: WSTransport, depth: int) -> None:
        self.calling, self.depth = True, depth
        self.idle.clear()
        self._call(transport)

    def _call(self, transport: WSTransport) -> None:
        """So many calls, with one write: what costs the clients much would leave servers idle."""
        first = self.calls + 1
        self.in_flight = self.depth
        calls = (_framed(_CALL % number) for number in range(first, first + self.depth))
        transport.underlying_transport.write(b"".join(calls))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        assert b'"ok":true' in payload, payload
        if self.in_flight:
            self.in_flight -= 1
            self.calls += 1
        if self.in_flight:
            return
        if self.calling:
            self._call(transport)
        else:
            # The answer to the hello, or the last one.
            self.idle.set()


def _framed(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = len(payload)
    assert 126 <= size < 1 << 16
    return b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + payload


@dataclass
class _Candidate:
    """A running server and the connections to it; calls a CPU-second, by depth."""

    pid: int
    callers: list[tuple[WSTransport, _Caller]]
    found: dict[int, list[float]] = field(default_factory=lambda: {depth: [] for depth in DEPTHS})

    async def measure(self, depth: int) -> None:
        """One stretch of the closed loop."""
        cpu_before = cpu_s(self.pid)
        calls_before = sum(caller.calls for _, caller in self.callers)
        for transport, caller in self.callers:
            caller.begin(transport, depth)
        await asyncio.sleep(SECONDS)
        for _, caller in self.callers:
            caller.calling = False
        async with asyncio.timeout(10):
            for _, caller in self.callers:
                await caller.idle.wait()
        calls = sum(caller.calls for _, caller in self.callers) - calls_before
        self.found[depth].append(calls / (cpu_s(self.pid) - cpu_before))


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[_Candidate]:
    """Start a server on the first core and connect to it."""
    async with serving(*command) as (pid, url):
        callers: list[tuple[WSTransport, _Caller]] = []
        for _ in range(CONNECTIONS):
            transport, caller = await ws_connect(_Caller, url)
            assert isinstance(caller, _Caller)
            transport.send(WSMsgType.TEXT, _HELLO)
            async with asyncio.timeout(10):
                await caller.idle.wait()
            callers.append((transport, caller))
        yield _Candidate(pid, callers)


async def _measure(rounds: int, folder: Path) -> Mapping[str, _Candidate]:
    commands: dict[str, tuple[str, ...]] = {
        _BARE_NAME: (_BARE,),
        "bare, effect log": (_BARE, str(folder / "bare.jsonl")),
        "daemon": _DAEMON,
        "daemon, effect log": (*_DAEMON, "--effects", str(folder / "daemon.jsonl")),
        "daemon on websockets": (*_DAEMON, "--transport", "websockets"),
    }
    os.environ["EXAI_WS_TOKEN"] = _TOKEN
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(_running(*command))
            for name, command in commands.items()
        }
        cores = os.sched_getaffinity(0)
        pin(0, first=False)
        for candidate in running.values():
            for depth in DEPTHS:
                await candidate.measure(depth)
                candidate.found[depth].clear()
        order = [(name, depth) for name in running for depth in DEPTHS]
        for n in range(rounds):
            random.Random(n).shuffle(order)
            for name, depth in order:
                await running[name].measure(depth)
        os.sched_setaffinity(0, cores)
        return running


def _tell(running: Mapping[str, _Candidate], rounds: int) -> int:
    print(f"{CONNECTIONS} connections, {rounds} rounds of {SECONDS:g} s; median (min..max)")
    met = True
    for depth in DEPTHS:
        print(f"\n{f'{depth} in flight each':22} {'calls a CPU-second':26} {'us/call':>8}   x bare")
        peer = running[_BARE_NAME].found[depth]
        for name, candidate in running.items():
            values = candidate.found[depth]
            ratios = [one / other for one, other in zip(values, peer, strict=True)]
            cost_us = 1e6 / statistics.median(values)
            print(f"{name:22} {spread(values, ',.0f'):26} {cost_us:8.1f}   {spread(ratios, '.2f')}")
            if name == _MUST_REACH:
                met &= _judged(
                    f"{depth} in flight, x bare", statistics.median(ratios), MUSTS[depth]
                )
    messages = 2 * statistics.median(running[_MUST_REACH].found[1])
    met &= _judged("messages both ways a CPU-second, 1 in flight", messages, MESSAGES_A_S)
    return 0 if met else 1


def _judged(what: str, found: float, must: float) -> bool:
    print(f"must: {what} >= {must:,}; found {found:,.6g}: {'met' if found >= must else 'MISSED'}")
    return found >= must


async def _main(rounds: int) -> int:
    began = now()
    with tempfile.TemporaryDirectory() as folder:
        running = await _measure(rounds, Path(folder))
    code = _tell(running, rounds)
    print(f"took {now() - began:.0f} s")
    return code


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.daemon", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=7,
        help="measure every server N times; 5 or more for a figure to be told (default: 7)",
    )
    return program.run(_main(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
