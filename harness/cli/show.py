"""`harness show`: the timeline of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli.arguments import add_runs
from harness.errors import EXIT_VALID

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command."""
    show = commands.add_parser(
        "show",
        help="print the timeline of a run",
        description="Print what client, proxy and daemon saw, in order.",
        epilog=(
            "example: harness show demo      the newest run of that name; so does its path,\n"
            "                                and demo/20261122-191500 is that very run"
        ),
    )
    show.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help="a run directory, or the name of a run (default: the latest)",
    )
    add_runs(show)
    show.add_argument(
        "--all", action="store_true", help="every line; do not fold those that look alike"
    )
    show.set_defaults(command=_show)


def _show(args: argparse.Namespace) -> int:
    import shutil

    from harness.records import Effect, read_lines
    from harness.report.timeline import timeline
    from harness.run.find import find_run
    from harness.run.store import load_history

    run = find_run(args.run, runs=args.runs)
    effects_file = run / "effects.jsonl"
    effects = read_lines(effects_file.read_bytes(), Effect)[0] if effects_file.exists() else []
    width = shutil.get_terminal_size((140, 24)).columns
    print(timeline(load_history(run), effects=effects, width=width, fold=not args.all))
    return EXIT_VALID
