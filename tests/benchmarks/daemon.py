"""
Calls a CPU-second of the reference daemon, against a bare `websockets` server.

    python -m tests.benchmarks.daemon [--rounds N]

100 connections with one call in flight each, in a closed loop. All servers are up at
once, pinned to one core, with the generator on another; every round goes through all of
them in shuffled order, so that a noisy neighbour harms all alike. Compared is the CPU of
the server a call, from the kernel's nanosecond accounting: rates by the wall clock move
with the neighbours. Ratios are taken within a round.

The must: the daemon does at least 1.5 times the calls in a CPU-second of the bare server,
which writes nothing; without its effect log and with it. A bare server that writes the same
line is shown beside. Ends with 1 if it does not.
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
MUST: Final = 1.5

_BARE: Final = "tests.benchmarks.bare_websockets"
_DAEMON: Final = ("harness.refdaemon", "--port", "0", "--ping-interval", "3600")
_HELLO: Final = b'{"op":"hello"}'
_BARE_NAME: Final = "bare websockets"
_MUSTS: Final = ("daemon", "daemon, effect log")
_CALL: Final = json.dumps(
    {
        "op": "call_tool",
        "request_id": "00000001",
        "name": "echo",
        "arguments": {"text": "The quick brown fox jumps over the lazy dog, 150 bytes in all."},
    }
).encode()


class _Caller(WSListener):
    """One connection of the closed loop: the next call leaves when the answer is here."""

    def __init__(self) -> None:
        self.calling = False
        self.calls = 0
        self.idle = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        assert b'"ok":true' in payload, payload
        self.calls += 1
        if self.calling:
            transport.send(WSMsgType.TEXT, _CALL)
        else:
            self.idle.set()


@dataclass
class _Candidate:
    """A running server and the connections to it."""

    pid: int
    callers: list[tuple[WSTransport, _Caller]]
    calls_per_cpu_s: list[float] = field(default_factory=list)

    async def measure(self) -> None:
        """One stretch of the closed loop."""
        cpu_before = cpu_s(self.pid)
        calls_before = sum(caller.calls for _, caller in self.callers)
        for transport, caller in self.callers:
            caller.calling = True
            caller.idle.clear()
            transport.send(WSMsgType.TEXT, _CALL)
        await asyncio.sleep(SECONDS)
        for _, caller in self.callers:
            caller.calling = False
        async with asyncio.timeout(10):
            for _, caller in self.callers:
                await caller.idle.wait()
        calls = sum(caller.calls for _, caller in self.callers) - calls_before
        self.calls_per_cpu_s.append(calls / (cpu_s(self.pid) - cpu_before))


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
    # A token of the caller's own would turn the generator away.
    os.environ.pop("EXAI_WS_TOKEN", None)
    async with AsyncExitStack() as stack:
        running = {
            name: await stack.enter_async_context(_running(*command))
            for name, command in commands.items()
        }
        cores = os.sched_getaffinity(0)
        pin(0, first=False)
        for candidate in running.values():
            await candidate.measure()
            candidate.calls_per_cpu_s.clear()
        order = list(running)
        for n in range(rounds):
            random.Random(n).shuffle(order)
            for name in order:
                await running[name].measure()
        os.sched_setaffinity(0, cores)
        return running


def _tell(running: Mapping[str, _Candidate], rounds: int) -> int:
    print(f"{CONNECTIONS} connections, one call in flight each, {rounds} rounds of {SECONDS:g} s")
    print(f"{'median (min..max)':22} {'calls a CPU-second':26} {'us/call':>8}   x bare websockets")
    reached: dict[str, float] = {}
    for name, candidate in running.items():
        values = candidate.calls_per_cpu_s
        peer = running[_BARE_NAME].calls_per_cpu_s
        ratios = [one / other for one, other in zip(values, peer, strict=True)]
        reached[name] = statistics.median(ratios)
        cost_us = 1e6 / statistics.median(values)
        print(f"{name:22} {spread(values, ',.0f'):26} {cost_us:8.1f}   {spread(ratios, '.2f')}")
    for name in _MUSTS:
        met = "met" if reached[name] >= MUST else "MISSED"
        print(f"must: {name} >= {MUST:g} x {_BARE_NAME}; found {reached[name]:.2f}: {met}")
    return 0 if all(reached[name] >= MUST for name in _MUSTS) else 1


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
