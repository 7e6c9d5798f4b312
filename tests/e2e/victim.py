"""A harness to be killed: an environment with a daemon that forks, and traffic, until the end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.environment.backends import LOCAL, stack_of
from harness.environment.base import Environment
from harness.faults.latency import Latency
from tests.backends import CHOICES
from tests.integration.stacks import FORKING, Scripted
from tests.projects import as_daemon


async def main(ids: Path, backend: str, *projects: str) -> None:
    # What forks in a container goes with it.
    daemon: Daemon = Scripted(script=FORKING) if backend == LOCAL else Reference()
    for project in projects:
        daemon = as_daemon(Path(project))
    stack = stack_of(daemon, choice=CHOICES[backend])
    environment = Environment(stack, owns=True)
    # Known before the first process starts, so that the test always knows whom to look for.
    ids.write_text(stack.run_id)
    print("begun", flush=True)
    async with environment:
        ports = [environment.address.port, int(environment.control.url.split(":")[-1])]
        # At once and whole: it may be killed at any moment.
        draft = ids.with_suffix(".new")
        draft.write_text("\n".join([stack.run_id, *map(str, ports)]))
        draft.replace(ids)
        async with environment.client() as client, environment.inject(Latency(latency_ms=1)):
            print("at work", flush=True)
            while True:
                await client.call("echo", None if projects else {"text": "alive"})


asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
