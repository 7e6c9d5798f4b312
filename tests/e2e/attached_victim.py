"""A harness to be killed: our proxy on somebody else's server, a fault, traffic, until the end."""

from __future__ import annotations

import asyncio
import sys

from harness.daemons.running import Running
from harness.environment.backends import AttachedEnvironment
from harness.faults.latency import Latency


async def main(daemon: str, proxy: str) -> None:
    print("begun", flush=True)
    async with AttachedEnvironment(Running.at(daemon), proxy=proxy) as environment:
        await environment.stack.probe()
        async with environment.client() as client, environment.inject(Latency(latency_ms=1)):
            print("at work", flush=True)
            while True:
                await client.call("echo", {"text": "alive"})


asyncio.run(main(*sys.argv[1:]))
