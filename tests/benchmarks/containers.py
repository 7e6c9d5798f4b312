"""
What isolation costs in containers, behind the real Toxiproxy.

    python -m tests.benchmarks.containers [--rounds N] [--many N]

Medians of N with their spread: a fresh proxy on shared containers, a fresh daemon behind the
shared proxy server, and what the engine alone takes for it, and a bare echo server in its place; a
fresh environment with its network; the end of a harness that is killed.
As a peer: a container of the same image started as Testcontainers does by itself, with its own
wait. With --many so many environments are made one after the other, and nothing may be left.
Ends with 1 if a must is missed, with 0 and a word where there are no containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness import program
from harness.clock import now
from harness.daemons.reference import Reference
from harness.environment import images
from harness.environment.backends import (
    DOCKER,
    TOXIPROXY,
    Choice,
    engine,
    network_of,
    server_of,
    stack_of,
)
from harness.environment.base import Environment
from harness.environment.clean_up import put_away
from harness.environment.containers import Order
from harness.environment.household import Household
from harness.environment.networks import Network
from harness.environment.processes import Reaper
from harness.environment.reaper import carriers
from harness.environment.stack import Stack
from harness.environment.threads import in_thread
from harness.errors import EnvironmentFailed
from tests.talker import talking

PROXY_MUST_MS: Final = 5.0
DAEMON_UP_MUST_MS: Final = 350.0
DAEMON_DOWN_MUST_MS: Final = 200.0
UP_MUST_MS: Final = 800.0
DOWN_MUST_MS: Final = 600.0
KILLED_MUST_MS: Final = 2000.0
BARE: Final = Choice(backend=DOCKER, proxy=TOXIPROXY, tap=False)
TAPPED: Final = Choice(backend=DOCKER, proxy=TOXIPROXY)


def _ms(since: float) -> float:
    return (now() - since) * 1000


async def _environments(rounds: int, choice: Choice) -> tuple[list[float], list[float]]:
    """With one cleaner for all, as in a session of pytest."""
    up, down = [], []
    reaper = Reaper()
    try:
        for _ in range(rounds + 1):
            stack = stack_of(Reference(), choice=choice, reaper=reaper)
            began = now()
            async with Environment(stack, owns=True):
                up.append(_ms(began))
                ended = now()
            down.append(_ms(ended))
    finally:
        reaper.dismiss()
    # The first one imports what it needs.
    return up[1:], down[1:]


async def _shared(rounds: int) -> dict[str, list[float]]:
    """On one network, behind one Toxiproxy: fresh daemons, and fresh proxies before one."""
    took: dict[str, list[float]] = {"up": [], "down": [], "echo up": [], "echo down": []}
    household = Household()
    network = network_of(household)
    plain = server_of(TOXIPROXY, household, network=network)
    household.open()
    try:
        await in_thread(network.open)
        await plain.start()
        await plain.ready()
        for _ in range(rounds + 1):
            for which, daemon in (("", Reference()), ("echo ", talking())):
                stack = stack_of(
                    daemon, choice=BARE, server=plain, network=network, reaper=household.reaper
                )
                began = now()
                async with stack:
                    took[f"{which}up"].append(_ms(began))
                    ended = now()
                took[f"{which}down"].append(_ms(ended))
        async with stack_of(Reference(), choice=BARE, server=plain, network=network) as stack:
            took["proxy"] = await _proxies(stack, rounds, use=False)
            took["used"] = await _proxies(stack, rounds)
        took["engine"] = await in_thread(_bare, network, rounds)
    finally:
        await put_away(None, plain.end(), in_thread(network.close), household.close())
    async with stack_of(Reference(), choice=TAPPED) as stack:
        took["tapped"] = await _proxies(stack, rounds)
    # The first of each imports what it needs.
    return {name: times[1:] if len(times) > rounds else times for name, times in took.items()}


def _bare(network: Network, rounds: int) -> list[float]:
    """What the engine alone takes to make and start a container there, ready or not."""
    took = []
    for _ in range(rounds):
        order = Order(
            name=f"{network.name}-bare",
            image=images.own_image(),
            run_id="bare",
            command=["sleep", "60"],
            network=network.name,
        )
        began = now()
        box = network.engine.run(order)
        took.append(_ms(began))
        box.remove()
    return took


async def _proxies(stack: Stack, rounds: int, *, use: bool = True) -> list[float]:
    """A fresh proxy, if it is to be used a session through it and a call, and all away again."""
    took = []
    for n in range(rounds):
        began = now()
        async with Environment(stack, name=f"fresh-{n}") as fresh:
            if use:
                async with fresh.client() as client:
                    await client.call("echo", {"text": "hi"})
        took.append(_ms(began))
    return took


def _killed(rounds: int) -> list[float]:
    took = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ids = Path(folder, "ids")
            command = [sys.executable, "-m", "tests.e2e.victim", str(ids), DOCKER]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
                assert victim.stdout is not None
                victim.stdout.readline()
                victim.stdout.readline()
                victim.send_signal(signal.SIGKILL)
                began = now()
            run_id = ids.read_text().split("\n")[0]
            while carriers(run_id) or engine().left.remains(run_id):
                os.sched_yield()
            took.append(_ms(began))
    return took


def _testcontainers(rounds: int) -> list[float]:
    """The daemon's container as Testcontainers starts it by itself: default wait, default poll."""
    code = (
        "import time\n"
        "from testcontainers.core.container import DockerContainer\n"
        "from testcontainers.core.wait_strategies import LogMessageWaitStrategy\n"
        "for _ in range(%d):\n"
        "    began = time.monotonic()\n"
        "    made = DockerContainer(%r).with_command(%r).with_exposed_ports(8079)\n"
        "    made.waiting_for(LogMessageWaitStrategy('listening'))\n"
        "    with made:\n"
        "        print((time.monotonic() - began) * 1000, flush=True)\n"
    )
    words = "python3 -P -m harness.refdaemon --host 0.0.0.0 --port 8079 --allow-remote"
    done = subprocess.run(
        [sys.executable, "-c", code % (rounds, images.own_image(), words)],
        env={**os.environ, "TESTCONTAINERS_RYUK_DISABLED": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return [float(line) for line in done.stdout.split()]


def _tell(what: str, took: Sequence[float], must: float | None = None) -> bool:
    median = statistics.median(took)
    met = must is None or median <= must
    verdict = "" if must is None else f"   must {must:g}: {'met' if met else 'MISSED'}"
    spread = f"({min(took):.1f}..{max(took):.1f})"
    print(f"{what:52} {median:7.1f} ms {spread:19}{verdict}", flush=True)
    return met


def _main(rounds: int, many: int) -> int:
    shared = asyncio.run(_shared(rounds))
    up, down = asyncio.run(_environments(rounds, BARE))
    tapped_up, tapped_down = asyncio.run(_environments(rounds, TAPPED))
    few = max(3, rounds // 4)
    print(f"containers, medians of {rounds} (min..max); a killed harness, Testcontainers: {few}")
    met = [
        _tell("fresh proxy on shared containers, up and down", shared["proxy"], PROXY_MUST_MS),
        _tell("  with a session through it and a call", shared["used"]),
        _tell("  and with a relay of ours behind it", shared["tapped"]),
        _tell("fresh daemon behind the shared Toxiproxy, up", shared["up"], DAEMON_UP_MUST_MS),
        _tell("  of that the engine's, to make and start a container", shared["engine"]),
        _tell("  the same with a bare echo server on websockets", shared["echo up"]),
        _tell("  down", shared["down"], DAEMON_DOWN_MUST_MS),
        _tell("fresh environment with its network, up", up, UP_MUST_MS),
        _tell("  down", down, DOWN_MUST_MS),
        _tell("  the same with a relay of ours behind it, up", tapped_up, UP_MUST_MS),
        _tell("  down", tapped_down, DOWN_MUST_MS),
        _tell("all gone after SIGKILL, network included", _killed(few), KILLED_MUST_MS),
    ]
    _tell("one container by Testcontainers' own wait, up", _testcontainers(few))
    if many:
        asyncio.run(_environments(many, TAPPED))
        left = engine().left.runs(dead=False)
        print(f"{many + 1} environments one after the other: {len(left)} runs left {left or ''}")
        met.append(not left)
    return 0 if all(met) else 1


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.containers", description=__doc__)
    for name, default, what in (
        ("--rounds", 20, "how many of each"),
        ("--many", 0, "how many environments one after the other, to see that nothing is left"),
    ):
        parser.add_argument(
            name, metavar="N", type=int, default=default, help=f"{what} (default: {default})"
        )
    args = parser.parse_args()
    with contextlib.suppress(EnvironmentFailed):
        if not images.missing(engine()):
            return _main(args.rounds, args.many)
    print("no containers here: no engine, or no images; `make images`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
