"""`harness images`: the images that containers of ours are made of."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.errors import EXIT_FAILED, EXIT_VALID

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    images = commands.add_parser(
        "images",
        help="bring the images that the backend docker needs: pull them, else make them",
        description=(
            "Bring the images that the backend docker needs: the reference daemon's, and the real\n"
            "Toxiproxy's. One that is here is kept, unless what it is made of has changed; else\n"
            "it is pulled; else it is made, without any registry: then our own stands on Debian\n"
            "(debootstrap, as root), and Toxiproxy is built from its source (Go)."
        ),
        epilog="exit codes: 0 all are here, 3 not all, 64 usage",
    )
    what = images.add_mutually_exclusive_group()
    what.add_argument("--no-pull", action="store_true", help="ask no registry: make them")
    what.add_argument(
        "--list", action="store_true", help="say what is here: id, size, how it was made"
    )
    what.add_argument(
        "--remove", action="store_true", help="remove them; what was fetched stays in the cache"
    )
    images.set_defaults(command=_images)


def _images(args: argparse.Namespace) -> int:
    from harness.environment.containers import Engine
    from harness.environment.images import ensure, listed, remove

    engine = Engine()
    try:
        if args.list:
            states = listed(engine)
            for state in states:
                print(state)
            return EXIT_VALID if all(state.id for state in states) else EXIT_FAILED
        if args.remove:
            for name in remove(engine) or ["nothing of ours was here"]:
                print(f"removed  {name}" if ":" in name else name)
            return EXIT_VALID
        ensure(engine, pull=not args.no_pull, tell=_tell)
    finally:
        engine.close()
    return EXIT_VALID


def _tell(line: str) -> None:
    print(line, flush=True)
