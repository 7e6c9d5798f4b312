"""`harness call`: calls by hand."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

from harness.program import positive

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]

_URL: Final = "ws://localhost:8079"


def add(commands: Commands) -> None:
    """Add the command."""
    call = commands.add_parser(
        "call",
        help="say hello to a daemon and call one tool, once or many times",
        description=(
            "Connect, say hello, call one tool, print its reply and how long that took; of many\n"
            "calls the figures, after Ctrl-C those so far. What did not happen for a passing\n"
            "reason is tried again; what may have happened only where the daemon promised to run\n"
            "a key once, or with --may-run-twice."
        ),
        epilog=(
            "examples:\n"
            '  harness call echo \'{"text": "hi"}\'\n'
            '  harness call echo \'{"text": "hi"}\' --url ws://127.0.0.1:9079 --count 1000\n'
            "  harness call --dialect plain --url ws://127.0.0.1:8080 hi\n"
            "The daemon's token is read from the environment variable EXAI_WS_TOKEN.\n"
            "exit codes: 0 answered, 1 certainly did not happen, 2 may have happened"
        ),
    )
    call.add_argument(
        "tool", metavar="TOOL", type=_tool, help="the tool's name; with plain, the message"
    )
    call.add_argument(
        "arguments", metavar="JSON", nargs="?", default="{}", help="its arguments (default: {})"
    )
    call.add_argument(
        "--url",
        metavar="URL",
        default=_URL,
        help=f"the daemon's address, ws://host:port/path (default: {_URL})",
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
            "give up on an attempt after MS milliseconds; it is then unknown, since the daemon "
            "may still have run it (default: 2000)"
        ),
    )
    call.add_argument(
        "--attempts",
        type=positive(int),
        default=3,
        metavar="N",
        help="try a call up to N times in all, with growing waits between (default: 3)",
    )
    call.add_argument(
        "--key",
        metavar="KEY",
        help=(
            "the idempotency key, the same for each attempt, and for all of --count "
            "(default: a fresh one for each call)"
        ),
    )
    call.add_argument(
        "--may-run-twice",
        action="store_true",
        help="try again also where the daemon may have run it, and promised nothing",
    )
    call.add_argument(
        "--count",
        type=positive(int),
        default=1,
        metavar="N",
        help="call N times, one after the other, and print the figures (default: 1)",
    )
    call.add_argument(
        "--allow-remote", action="store_true", help="allow a daemon that is not on this machine"
    )
    call.set_defaults(command=_call)


def _tool(text: str) -> str:
    if text.startswith(("ws://", "wss://")):
        raise argparse.ArgumentTypeError(f'"{text}" is an address; expected --url {text}')
    return text


def _call(args: argparse.Namespace) -> int:
    import asyncio

    from harness.call import Calls, call

    return asyncio.run(
        call(
            Calls(
                url=args.url,
                tool=args.tool,
                arguments=args.arguments,
                dialect=args.dialect,
                timeout_s=args.call_timeout / 1000,
                attempts=args.attempts,
                may_run_twice=args.may_run_twice,
                key=args.key,
                count=args.count,
                token=os.environ.get("EXAI_WS_TOKEN"),
                allow_remote=args.allow_remote,
            )
        )
    )
