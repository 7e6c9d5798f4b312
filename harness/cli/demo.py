"""`harness demo`: the story a newcomer sees first."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli.arguments import add_runs, add_seed
from harness.clock import fresh_seed

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="bring up a daemon and a proxy, harm the wire in five ways, tell what was seen",
        description="The story in six steps, each with what was expected, measured and proven.",
    )
    add_seed(demo)
    add_runs(demo)
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace) -> int:
    import asyncio

    from harness.demo import demo

    seed = fresh_seed() if args.seed is None else args.seed
    # Plain asyncio: what the client measures must not depend on which loop is installed.
    return asyncio.run(demo(seed=seed, runs=args.runs))
