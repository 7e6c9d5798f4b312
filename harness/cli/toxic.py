"""`harness toxic`: toxics on any Toxiproxy, by hand."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from harness.errors import EXIT_VALID
from harness.program import Parser

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]

_USUAL = "the only one there is, but for one called provider"


def add(commands: Commands) -> None:
    """Add the command."""
    toxic = commands.add_parser(
        "toxic",
        help="put a toxic on any Toxiproxy's wire, take it off, list what is there",
        description="Put a toxic on the wire, take it off, list what is there: on any Toxiproxy.",
        epilog=(
            "example:\n"
            "  harness toxic add latency latency_ms=200\n"
            "  harness toxic list\n"
            "  harness toxic remove latency_downstream"
        ),
    )
    toxic.set_defaults(command=_toxic)
    actions = toxic.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    _add_toxic_add(actions)
    remove = actions.add_parser(
        "remove", help="take it off", description="Take a toxic off, and show what is left."
    )
    remove.add_argument("name", metavar="NAME", help="the toxic's name")
    _add_server(remove, proxy=_USUAL)
    show = actions.add_parser(
        "list", help="show what is there", description="Show the toxics of each proxy."
    )
    _add_server(show, proxy="all")


def _add_toxic_add(actions: Commands) -> None:
    add = actions.add_parser(
        "add",
        help="put it on",
        description="Put a toxic on, and show what is on the wire now.",
        late_epilog=_toxics_help,
    )
    add.add_argument("type", metavar="TYPE", help="which toxic; they are listed below")
    add.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*", help="its settings, right after TYPE"
    )
    add.add_argument(
        "--stream",
        metavar="WAY",
        help="upstream: client to daemon; downstream: replies (default: downstream)",
    )
    add.add_argument(
        "--toxicity", metavar="F", help="the share of connections it affects, 0 to 1 (default: 1)"
    )
    add.add_argument("--name", help="its name (default: TYPE_WAY)")
    _add_server(add, proxy=_USUAL)


def _add_server(action: Parser, *, proxy: str) -> None:
    action.add_argument("--proxy", metavar="NAME", help=f"the name of the proxy (default: {proxy})")
    action.add_argument(
        "--api",
        metavar="URL",
        help="the server's API (default: $HARNESS_API, else http://127.0.0.1:8474)",
    )
    action.add_argument(
        "--allow-remote", action="store_true", help="allow a server that is not on this machine"
    )


def _toxics_help() -> str:
    from harness.toxic import describe_toxics

    return describe_toxics()


def _toxic(args: argparse.Namespace) -> int:
    import asyncio

    from harness.toxic import DEFAULT_API, add_toxic, list_toxics, remove_toxic

    server = {
        "proxy": args.proxy,
        "api": args.api or os.environ.get("HARNESS_API") or DEFAULT_API,
        "allow_remote": args.allow_remote,
    }
    if args.action == "add":
        shared = {"stream": args.stream, "toxicity": args.toxicity}
        options = [f"{key}={value}" for key, value in shared.items() if value is not None]
        work = add_toxic(args.type, [*args.settings, *options], name=args.name, **server)
    elif args.action == "remove":
        work = remove_toxic(args.name, **server)
    else:
        work = list_toxics(**server)
    print(asyncio.run(work))
    return EXIT_VALID
