"""
How long an environment takes: up, down, and a fresh proxy on a daemon that runs.

    python -m tests.benchmarks.environment [--rounds N]

The musts are medians: ready, a completed hello on the daemon's own address included, within
0.3 s; a fresh proxy before a running daemon, ready to be connected to, within 5 ms. Beside
them what the machine itself needs: two Python interpreters that only import what daemon and
proxy import, started at once. Ends with 1 if a must is missed.
"""

from __future__ import annotations

import asyncio
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
from harness.environment.base import Environment
from harness.environment.local import LocalEnvironment

READY_MUST_MS: Final = 300.0
PROXY_MUST_MS: Final = 5.0


def _bare_imports_ms() -> float:
    imports = ("harness.refdaemon.__main__", "harness.proxy.server")
    started = now()
    programs = [
        subprocess.Popen([sys.executable, "-c", f"import uvloop, {module}"]) for module in imports
    ]
    for bare in programs:
        bare.wait()
    return (now() - started) * 1000


async def _environments(rounds: int, root: Path) -> tuple[list[float], list[float], list[float]]:
    up, down, bare = [], [], []
    for n in range(rounds + 1):
        bare.append(_bare_imports_ms())
        environment = LocalEnvironment(Reference(), directory=root / str(n))
        started = now()
        async with environment:
            up.append((now() - started) * 1000)
            ended = now()
        down.append((now() - ended) * 1000)
    # The first one imports what the harness itself needs.
    return up[1:], down[1:], bare[1:]


async def _proxies(rounds: int, root: Path) -> list[float]:
    took = []
    async with LocalEnvironment(Reference(), directory=root / "shared") as shared:
        for n in range(rounds):
            fresh = Environment(shared.stack, name=f"fresh-{n}")
            started = now()
            async with fresh:
                took.append((now() - started) * 1000)
    return took


def _tell(what: str, took: Sequence[float], must: float | None = None) -> bool:
    median = statistics.median(took)
    met = must is None or median <= must
    verdict = "" if must is None else f"   must {must:g}: {'met' if met else 'MISSED'}"
    spread = f"({min(took):.1f}..{max(took):.1f})"
    print(f"{what:44} {median:7.1f} ms {spread:18}{verdict}")
    return met


async def _main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        up, down, bare = await _environments(rounds, Path(folder))
        proxies = await _proxies(rounds, Path(folder))
    print(f"local environment, medians of {rounds} (min..max)")
    met = [
        _tell("environment ready", up, READY_MUST_MS),
        _tell("environment put away", down),
        _tell("two bare interpreters with the same imports", bare),
        _tell("fresh proxy on a running daemon", proxies, PROXY_MUST_MS),
    ]
    return 0 if all(met) else 1


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.environment", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=20,
        help="how many environments and how many proxies (default: 20)",
    )
    return asyncio.run(_main(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
