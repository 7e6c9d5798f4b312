"""`harness up`: a daemon behind a proxy, by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import add_runs, add_seed
from harness.clock import fresh_seed
from harness.program import port

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    up = commands.add_parser(
        "up",
        help="bring a daemon and a proxy up, and stay until Ctrl-C",
        description=(
            "Bring a daemon and a proxy before it up, say where they are and how to harm the\n"
            "wire, stay until Ctrl-C or SIGTERM, and leave nothing behind."
        ),
        epilog=(
            "examples:\n"
            "  harness up                                  the daemon of ./pyproject.toml, table\n"
            "                                              [tool.harness.daemon]; else reference\n"
            "  harness up --daemon ws://localhost:8079     one that runs already; left as it is\n"
            "  harness up --proxy http://localhost:8474    behind a Toxiproxy that runs already"
        ),
    )
    up.add_argument(
        "--daemon",
        metavar="DAEMON",
        help="reference, ws://host:port/path, or a TOML file with a [daemon] table",
    )
    up.add_argument(
        "--proxy",
        default="embedded",
        metavar="PROXY",
        help="embedded (our own), or the API of a Toxiproxy, http://host:port (default: embedded)",
    )
    up.add_argument(
        "--port",
        type=port,
        default=0,
        metavar="N",
        help="the port that clients connect to (default: one that the system chooses)",
    )
    up.add_argument(
        "--api-port",
        type=port,
        default=0,
        metavar="N",
        help="the port of our proxy's API (default: one that the system chooses)",
    )
    add_seed(up)
    add_runs(up)
    up.set_defaults(command=_up)


def _up(args: argparse.Namespace) -> int:
    import asyncio

    from harness.project import choose_daemon
    from harness.up import up

    return asyncio.run(
        up(
            choose_daemon(args.daemon, folder=Path.cwd()),
            proxy=args.proxy,
            seed=fresh_seed() if args.seed is None else args.seed,
            runs=args.runs,
            api_port=args.api_port,
            port=args.port,
        )
    )
