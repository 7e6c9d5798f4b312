"""
A bare `websockets` server that does the reference daemon's JSON and nothing else.

The yardstick of `tests.benchmarks.daemon`: the library as a careful user would run it,
on uvloop, without compression and keepalive, with the daemon's own message structs.
No seam, no admission, no counters, no time-outs: whatever it does more slowly is the library's.
Given a file, it writes the daemon's effect line before each answer, with the daemon's own code.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection, serve

from harness import program
from harness.clock import now_ns
from harness.dialects.exai import CallTool, CallToolRes, HelloAck, Output, decode_request, encode
from harness.refdaemon.effects import EffectLog

_read = msgspec.json.Decoder(dict[str, str]).decode


async def _carry(effects: EffectLog | None, connection: ServerConnection) -> None:
    await connection.recv(decode=False)
    await connection.send(encode(HelloAck(ok=True, session_id="bare")), text=True)
    while True:
        # As bytes: the decoder checks UTF-8 itself, so the library need not.
        frame = await connection.recv(decode=False)
        received_ns = now_ns()
        call = decode_request(frame)
        assert type(call) is CallTool
        if effects is not None:
            effects.write("echo", call, "bare", None)
        arguments = _read(call.arguments)
        outputs = [Output("text", arguments["text"])]
        began_ns = answered_ns = now_ns()
        reply = CallToolRes(
            call.request_id, True, outputs, None, received_ns, began_ns, answered_ns
        )
        await connection.send(encode(reply), text=True)


async def _main(effects: EffectLog | None) -> int:
    carry = partial(_carry, effects)
    async with serve(carry, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        program.announce(f"ws://127.0.0.1:{port}")
        # Ended by its parent, with a signal.
        await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    program.run(_main(EffectLog(Path(sys.argv[1])) if len(sys.argv) > 1 else None))
