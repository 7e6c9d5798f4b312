"""
The whole path: client, proxy, daemon and tool; and through a second proxy to a provider.

    python -m tests.benchmarks.system [--rounds N]

The daemon with all of it on and its effect log, our proxy without toxics, the provider with its
log, each a process, all on one core; the clients on the other. 100 connections call `echo` in a
closed loop, directly and through the proxy, then 10 call `chat`, whose answer comes from the
provider through the proxy. Shown are calls a second by the wall clock, the CPU that each program
takes for one, and how long a call took. There is no must: it is what the figures of single classes
say nothing about.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from harness import program
from harness.address import address_of_url
from harness.clock import now
from harness.proxy.control import Control
from harness.resilience.histogram import Histogram
from tests.benchmarks.servers import cpu_s, pin, serving, spread

CONNECTIONS: Final = {"echo": 100, "chat": 10}
SECONDS: Final = 1.0
_HELLO: Final = b'{"op":"hello"}'
_CALLS: Final = {
    "echo": b'{"op":"call_tool","request_id":"%d","name":"echo","arguments":{"text":"hi there"}}',
    "chat": b'{"op":"call_tool","request_id":"%d","name":"chat","arguments":{"prompt":"hi there"}}',
}


class _Caller(WSListener):
    """The next call leaves when the answer is here."""

    def __init__(self) -> None:
        self.call = b""
        self.calls = 0
        self.calling = False
        self.sent_s = 0.0
        self.idle = asyncio.Event()
        self.times = Histogram()

    def begin(self, transport: WSTransport) -> None:
        self.calling = True
        self.idle.clear()
        self._next(transport)

    def _next(self, transport: WSTransport) -> None:
        self.calls += 1
        self.sent_s = now()
        transport.send(WSMsgType.TEXT, self.call % self.calls)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        assert b'"ok":true' in payload, payload
        if self.sent_s:
            self.times.record(int((now() - self.sent_s) * 1e9))
        if self.calling:
            self._next(transport)
        else:
            self.idle.set()


@dataclass
class _Way:
    """A way to call, and what was found of it."""

    callers: list[tuple[WSTransport, _Caller]]
    rates: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    times: Histogram = field(default_factory=Histogram)

    async def measure(self, programs: Mapping[str, int]) -> None:
        """One stretch of the closed loop."""
        cpu_before = {name: cpu_s(pid) for name, pid in programs.items()}
        before = sum(caller.calls for _, caller in self.callers)
        began = now()
        for transport, caller in self.callers:
            caller.times = Histogram()
            caller.begin(transport)
        await asyncio.sleep(SECONDS)
        for _, caller in self.callers:
            caller.calling = False
        async with asyncio.timeout(20):
            for _, caller in self.callers:
                await caller.idle.wait()
        calls = sum(caller.calls for _, caller in self.callers) - before
        self.rates.append(calls / (now() - began))
        for name, pid in programs.items():
            spent = cpu_s(pid) - cpu_before[name]
            self.cpu_us.setdefault(name, []).append(1e6 * spent / calls)
        for _, caller in self.callers:
            self.times.merge(caller.times)


async def _way(url: str, tool: str) -> _Way:
    callers: list[tuple[WSTransport, _Caller]] = []
    for _ in range(CONNECTIONS[tool]):
        transport, caller = await ws_connect(_Caller, url)
        assert isinstance(caller, _Caller)
        caller.call = _CALLS[tool]
        transport.send(WSMsgType.TEXT, _HELLO)
        async with asyncio.timeout(10):
            await caller.idle.wait()
        callers.append((transport, caller))
    return _Way(callers)


async def _measure(rounds: int, folder: Path) -> dict[str, _Way]:
    os.environ.pop("EXAI_WS_TOKEN", None)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        proxy, api = await enter(serving("harness", "proxy", "--port", "0"))
        control = Control(api)
        log = str(folder / "executions.jsonl")
        behind, where = await enter(
            serving("harness.refdaemon.provider", "--port", "0", "--executions", log)
        )
        hop = await control.create(
            "provider", upstream=str(address_of_url(where, schemes=("http",)))
        )
        options = ["--port", "0", "--effects", str(folder / "effects.jsonl")]
        options += ["--provider", f"http://{hop.listen}"]
        daemon, direct = await enter(serving("harness.refdaemon", *options))
        edge = await control.create("edge", upstream=str(address_of_url(direct, schemes=("ws",))))
        through = f"ws://{edge.listen}"
        ways = {
            "echo, directly": await _way(direct, "echo"),
            "echo, through the proxy": await _way(through, "echo"),
            "chat, through both": await _way(through, "chat"),
        }
        programs = {"daemon": daemon, "proxy": proxy, "provider": behind}
        cores = os.sched_getaffinity(0)
        pin(0, first=False)
        order = list(ways)
        for n in range(rounds):
            random.Random(n).shuffle(order)
            for name in order:
                await ways[name].measure(programs)
        os.sched_setaffinity(0, cores)
        return ways


def _tell(ways: Mapping[str, _Way], rounds: int) -> None:
    print(f"{rounds} rounds of {SECONDS:g} s; median (min..max)")
    for name, way in ways.items():
        print(f"\n{name}, {len(way.callers)} connections, one call in flight each")
        print(f"  calls a second      {spread(way.rates, ',.0f')}")
        for each, values in way.cpu_us.items():
            print(f"  CPU us, {each:10} {spread(values, '.1f')}")
        p50, p95, p99 = ((way.times.percentile(at) or 0) / 1e6 for at in (50, 95, 99))
        print(f"  took                p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms")


async def _main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        _tell(await _measure(rounds, Path(folder)), rounds)
    return 0


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.system", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=5,
        help="measure each way N times (default: %(default)s)",
    )
    return program.run(_main(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
