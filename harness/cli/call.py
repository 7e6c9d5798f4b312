"""`harness call`: one call by hand."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from harness.program import positive

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    call = commands.add_parser(
        "call",
        help="say hello to a daemon and call one tool",
        description="Connect, say hello, call one tool, print its reply and how long it took.",
        epilog=(
            "examples:\n"
            '  harness call ws://127.0.0.1:8079 echo \'{"text": "hi"}\'\n'
            "  harness call --dialect plain ws://127.0.0.1:8080 hi\n"
            "The daemon's token is read from the environment variable EXAI_WS_TOKEN.\n"
            "exit codes: 0 answered, 1 certainly did not happen, 2 may have happened"
        ),
    )
    call.add_argument("url", metavar="URL", help="the daemon's address, ws://host:port/path")
    call.add_argument("tool", metavar="TOOL", help="the tool's name; with plain, the message")
    call.add_argument(
        "arguments", metavar="JSON", nargs="?", default="{}", help="its arguments (default: {})"
    )
    call.add_argument(
        "--dialect",
        choices=("exai", "plain"),
        default="exai",
        help="its language; plain: one message, and the next one is the reply (default: exai)",
    )
    call.add_argument(
        "--call-timeout",
        type=positive(int),
        default=2000,
        metavar="MS",
        help=(
            "give up on the call after MS milliseconds; it is then unknown, since the daemon "
            "may still have run it (default: 2000)"
        ),
    )
    call.add_argument(
        "--allow-remote", action="store_true", help="allow a daemon that is not on this machine"
    )
    call.set_defaults(command=_call)


def _call(args: argparse.Namespace) -> int:
    import asyncio

    from harness.call import call_once

    return asyncio.run(
        call_once(
            args.url,
            args.tool,
            args.arguments,
            dialect=args.dialect,
            timeout_s=args.call_timeout / 1000,
            token=os.environ.get("EXAI_WS_TOKEN"),
            allow_remote=args.allow_remote,
        )
    )
