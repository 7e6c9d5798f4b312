"""`harness clean`: what dead runs left."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.errors import EXIT_FAILED, EXIT_VALID

if TYPE_CHECKING:
    from harness.cli.arguments import Commands
    from harness.environment.containers import Engine

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    clean = commands.add_parser(
        "clean",
        help="remove what runs left that were killed together with their cleaner",
        description=(
            "Remove processes, temporary folders, containers, networks and volumes of runs whose\n"
            "harness is dead. A run cleans up after itself, killed or not; this is for when even\n"
            "that could not be, or for somebody else's machine. What carries no run id of ours\n"
            "is never touched; run directories stay."
        ),
        epilog="exit codes: 0 done, 3 something could not be removed",
    )
    clean.add_argument(
        "--all",
        action="store_true",
        help="also what runs have that are alive, or that nobody can tell of (another machine's)",
    )
    clean.add_argument("--dry-run", action="store_true", help="say what would be removed")
    clean.set_defaults(command=_clean)


def _clean(args: argparse.Namespace) -> int:
    from harness.environment.remains import spared, sweeping

    engine, why = _engine()
    found, resists = False, False
    for each in sweeping(engine, all_runs=args.all, remove=not args.dry_run):
        found, resists = True, resists or bool(each.stays)
        if each.stays:
            print(f"could not remove  {each.name}: {each.stays}", flush=True)
        else:
            print(f"{'would remove' if args.dry_run else 'removed'}  {each.name}", flush=True)
    if why:
        print(f"not looked at  containers: {why}")
    if not found:
        print("nothing of ours was left")
    if not args.all and (others := len(spared(engine))):
        runs = "1 run that lives" if others == 1 else f"{others} runs that live"
        print(f"left alone  {runs}, or may: nobody can tell; --all removes what is there of it")
    return EXIT_FAILED if resists else EXIT_VALID


def _engine() -> tuple[Engine | None, str]:
    """The engine as it is, with what dead runs left in it; None, and why, where there is none."""
    from harness.errors import EnvironmentFailed

    try:
        from harness.environment.containers import Engine

        return Engine(), ""
    except EnvironmentFailed as error:
        return None, error.headline
