"""`harness up`: a daemon behind a proxy, by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import add_backend, add_runs, add_seed
from harness.clock import fresh_seed
from harness.program import port

if TYPE_CHECKING:
    from harness.cli.arguments import Commands
    from harness.daemons.base import Daemon
    from harness.environment.backends import Choice

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    up = commands.add_parser(
        "up",
        help="bring a daemon and a proxy up, and stay until Ctrl-C",
        description=(
            "Bring a daemon and a proxy before it up, say where they are and how to harm the\n"
            "wire, stay until Ctrl-C or SIGTERM, and leave nothing behind. What ran already is\n"
            "left as it was found."
        ),
        epilog=(
            "examples:\n"
            "  harness up                                  the daemon of ./pyproject.toml, table\n"
            "                                              [tool.harness.daemon]; else reference\n"
            "  harness up --port 9079 --api-port 8474      at addresses that stay the same\n"
            "  harness up --daemon ws://localhost:8079     one that runs already; left as it is\n"
            "  harness up --proxy http://localhost:8474    behind a Toxiproxy that runs already\n"
            "  harness up --backend docker --proxy toxiproxy\n"
            "                                              both in containers\n"
            "exit codes: 0 asked to end, 3 daemon or proxy did not come up, or ended by itself"
        ),
    )
    up.add_argument(
        "--daemon",
        metavar="DAEMON",
        help=(
            "reference, ws://host:port/path, or a TOML file with a [daemon] table "
            "(default: that of ./pyproject.toml, else reference)"
        ),
    )
    up.add_argument(
        "--proxy",
        default="embedded",
        metavar="PROXY",
        help=(
            "embedded (our own), toxiproxy (the real one, in a container), or the API of one that "
            "runs already, http://host:port (default: embedded)"
        ),
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
    add_backend(up)
    add_seed(up)
    add_runs(up)
    up.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a daemon, or a Toxiproxy, that is not on this machine",
    )
    up.set_defaults(command=_up)


def _up(args: argparse.Namespace) -> int:
    import asyncio
    from dataclasses import replace

    from harness.project import choose_daemon
    from harness.up import up

    daemon = choose_daemon(args.daemon, folder=Path.cwd())
    return asyncio.run(
        up(
            replace(daemon, allow_remote=True) if args.allow_remote else daemon,
            choice=_choice(args, daemon),
            seed=fresh_seed() if args.seed is None else args.seed,
            runs=args.runs,
            api_port=args.api_port,
            port=args.port,
        )
    )


def _choice(args: argparse.Namespace, daemon: Daemon) -> Choice:
    from harness.environment.automatic import backend_for
    from harness.environment.backends import Choice

    chosen = backend_for(args.backend, daemon, args.proxy)
    if args.backend == "auto":
        print(f"backend {chosen.backend}: {chosen.why}")
    path = None if args.path == "auto" else args.path
    return Choice(backend=chosen.backend, proxy=args.proxy, path=path)
