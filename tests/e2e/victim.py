"""A harness to be killed: an environment with a daemon that forks, and traffic, until the end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from harness.environment.local import LocalEnvironment
from harness.faults.latency import Latency
from tests.integration.stacks import FORKING, Scripted


async def main(ids: Path) -> None:
    environment = LocalEnvironment(Scripted(script=FORKING))
    # Known before the first process starts, so that the test always knows whom to look for.
    ids.write_text(environment.stack.run_id)
    print("begun", flush=True)
    async with environment:
        ports = [environment.stack.site.address.port, int(environment.control.url.split(":")[-1])]
        ids.write_text("\n".join([environment.stack.run_id, *map(str, ports)]))
        async with environment.client() as client, environment.inject(Latency(latency_ms=1)):
            while True:
                await client.call("echo", {"text": "alive"})


asyncio.run(main(Path(sys.argv[1])))
