"""`harness images`: what containers are made from."""

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
        help="have the container images: present, pulled, or made without a registry",
        description=(
            "For every image that the backend docker needs: it is there already, or it is pulled,\n"
            "or it is made without an image registry (a base by debootstrap, Toxiproxy from its\n"
            "source). A line says which, and why."
        ),
        epilog="exit codes: 0 all are there, 3 one cannot be had",
    )
    what = images.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="only say what is there")
    what.add_argument("--remove", action="store_true", help="remove ours")
    images.add_argument("--no-pull", action="store_true", help="ask no registry")
    images.set_defaults(command=_images)


def _images(args: argparse.Namespace) -> int:
    from harness.environment.backends import engine
    from harness.environment.images import ensure, missing, state

    asked = engine()
    if args.list:
        for each in state(asked):
            found = "missing" if each.id is None else each.id[7:19]
            print(f"{each.name:34} {found} {each.how}".rstrip())
        return EXIT_FAILED if missing(asked) else EXIT_VALID
    if args.remove:
        for each in state(asked):
            for name in {each.name, each.tag, *asked.images.tags(each.name)}:
                if asked.images.id(name) is not None:
                    asked.images.remove(name)
                    print(f"{name:34} removed")
        return EXIT_VALID
    ensure(asked, pull=not args.no_pull, tell=lambda line: print(line, flush=True))
    return EXIT_VALID
