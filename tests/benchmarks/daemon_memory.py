"""
What a connection with a session costs the reference daemon in memory.

    python -m tests.benchmarks.daemon_memory [--connections N]

The daemon with all of it on. So many peers connect, say hello and make one call each; then the
process' private memory, as the kernel tells it, is held against what it was before the first.
The must: 40 KiB for each; shown beside are half as many, so that what grows can be told from what
is there once. Ends with 1 where it is missed.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from harness import program
from tests.benchmarks.servers import serving

MUST_KIB: Final = 40.0
CONNECTIONS: Final = 9_000

_AT_ONCE: Final = 200
_HELLO: Final = b'{"op":"hello"}'
_CALL: Final = b'{"op":"call_tool","request_id":"1","name":"echo","arguments":{"text":"hi"}}'


class _Peer(WSListener):
    """Says hello and calls once."""

    def __init__(self) -> None:
        self.answers = 0
        self.done = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, _HELLO)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.answers += 1
        if self.answers == 1:
            transport.send(WSMsgType.TEXT, _CALL)
        elif frame.msg_type is WSMsgType.TEXT:
            self.done.set()


def private_kib(pid: int) -> int:
    """The private memory of a process, by the kernel's account."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


async def _connect(url: str, many: int) -> list[WSTransport]:
    made: list[WSTransport] = []
    while len(made) < many:
        wave = [ws_connect(_Peer, url) for _ in range(min(_AT_ONCE, many - len(made)))]
        for transport, peer in await asyncio.gather(*wave):
            assert isinstance(peer, _Peer)
            async with asyncio.timeout(20):
                await peer.done.wait()
            made.append(transport)
    return made


async def _main(many: int) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.environ.pop("EXAI_WS_TOKEN", None)
    room = many + 100
    limits = [
        *("connections.max_sessions", "admission.max_connections", "admission.max_sessions"),
        "admission.max_connections_per_address",
    ]
    options = [f"--set={name}={room}" for name in limits]
    options += ["--ping-interval", "3600", "--set=alerts.interval_s=3600"]
    async with serving("harness.refdaemon", "--port", "0", *options) as (pid, url):
        # Once, for what is there once.
        kept = await _connect(url, 10)
        before = private_kib(pid)
        found: dict[int, float] = {}
        for share in (many // 2, many):
            kept += await _connect(url, share - len(kept) + 10)
            found[share] = (private_kib(pid) - before) / share
            print(f"{share:6} connections with a session: {found[share]:.1f} KiB each")
    return 0 if _judged(found[many]) else 1


def _judged(found_kib: float) -> bool:
    met = found_kib <= MUST_KIB
    print(f"must: <= {MUST_KIB:g} KiB; found {found_kib:.1f}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.daemon_memory", description=__doc__)
    parser.add_argument(
        "--connections",
        metavar="N",
        type=program.positive(int),
        default=CONNECTIONS,
        help="how many (default: %(default)s)",
    )
    return program.run(_main(parser.parse_args().connections))


if __name__ == "__main__":
    sys.exit(main())
