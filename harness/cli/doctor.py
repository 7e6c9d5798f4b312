"""`harness doctor`: what this machine can do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.errors import EXIT_VALID

if TYPE_CHECKING:
    from harness.cli.arguments import Commands

__all__ = ["add"]

_WIDTH = 22


def add(commands: Commands) -> None:
    """Add the command."""
    doctor = commands.add_parser(
        "doctor",
        help="what this machine can do, and the remedy for what it cannot",
        description=(
            "Try one thing after the other: processes, container engine, images, what a client\n"
            "meets behind the real Toxiproxy, namespaces, kernel, browser, limits. Nothing is\n"
            "changed, and nothing left behind; what others left stays, too."
        ),
        epilog='exit code 0: it looked; "no" is no error, most of it is optional',
    )
    doctor.add_argument("--json", action="store_true", help="a line of JSON for each finding")
    doctor.set_defaults(command=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from harness.environment.doctor import examine

    for each in examine():
        if args.json:
            print(json.dumps(asdict(each)), flush=True)
            continue
        lines = [*each.found.splitlines(), *([f"-> {each.remedy}"] if each.remedy else [])]
        for number, line in enumerate(lines):
            good = "" if number else "yes" if each.good else "no"
            print(f"{good:4} {'' if number else each.what:{_WIDTH}} {line}", flush=True)
    return EXIT_VALID
