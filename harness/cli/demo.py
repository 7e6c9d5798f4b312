"""`harness demo`: the story a newcomer sees first."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli.arguments import add_backend, add_runs, add_seed
from harness.clock import fresh_seed

if TYPE_CHECKING:
    from harness.cli.arguments import Commands
    from harness.environment.backends import Choice

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="bring up a daemon and a proxy, harm the wire in five ways, tell what was seen",
        description="The story in six steps, each with what was expected, measured and proven.",
    )
    add_backend(demo)
    demo.add_argument(
        "--proxy",
        choices=("embedded", "toxiproxy"),
        metavar="PROXY",
        help=(
            "what stands before it: embedded (our own) or toxiproxy (the real one, in a "
            "container) (default: toxiproxy with the backend docker, else embedded)"
        ),
    )
    add_seed(demo)
    add_runs(demo)
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace) -> int:
    import asyncio

    from harness.demo import demo

    seed = fresh_seed() if args.seed is None else args.seed
    # Plain asyncio: what the client measures must not depend on which loop is installed.
    return asyncio.run(demo(seed=seed, runs=args.runs, choice=_choice(args)))


def _choice(args: argparse.Namespace) -> Choice:
    from harness.daemons.reference import Reference
    from harness.environment.automatic import backend_for
    from harness.environment.backends import Choice

    chosen = backend_for(args.backend, Reference(), args.proxy or "toxiproxy")
    if args.backend == "auto":
        print(f"backend {chosen.backend}: {chosen.why}")
    proxy = args.proxy or ("toxiproxy" if chosen.backend == "docker" else "embedded")
    path = None if args.path == "auto" else args.path
    return Choice(backend=chosen.backend, proxy=proxy, path=path)
