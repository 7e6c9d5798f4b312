"""`harness proxy`: a Toxiproxy without Docker."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from harness.address import Address
from harness.clock import fresh_seed
from harness.program import log_to_stderr, port, run

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    proxy = commands.add_parser(
        "proxy",
        help="a Toxiproxy without Docker: its HTTP API, its toxics, and more",
        description=(
            "Serve Toxiproxy's HTTP API; its clients drive this one too. There so far: proxies,\n"
            "reset, and the toxics latency, bandwidth, timeout, limit_data and reset_peer.\n"
            'Prints one JSON line {"listening": "http://…"} when it listens; ends on SIGTERM.'
        ),
        epilog=(
            "try it:\n"
            '  curl -d \'{"name": "edge", "upstream": "127.0.0.1:8079", '
            '"listen": "127.0.0.1:9079"}\' http://127.0.0.1:8474/proxies\n'
            "  harness toxic add latency latency_ms=200\n"
            "  curl http://127.0.0.1:8474/harness/events"
        ),
    )
    proxy.add_argument(
        "--host", default="127.0.0.1", help="where the API listens (default: 127.0.0.1)"
    )
    proxy.add_argument(
        "--port",
        type=port,
        default=8474,
        metavar="N",
        help="its port; 0 lets the system choose (default: 8474)",
    )
    proxy.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="root seed of jitter and toxicity: the same seed, the same draws (default: fresh)",
    )
    proxy.add_argument(
        "--allow-remote",
        action="store_true",
        help="let the API, proxies and upstreams be on other machines than this one",
    )
    proxy.set_defaults(command=_proxy)


def _proxy(args: argparse.Namespace) -> int:
    from harness.proxy.server import serve

    log_to_stderr(os.environ.get("LOG_LEVEL", "info"))
    seed = fresh_seed() if args.seed is None else args.seed
    address = Address(args.host, args.port)
    return run(serve(address, seed=seed, allow_remote=args.allow_remote))
