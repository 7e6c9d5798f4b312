"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.program import Parser

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[Parser]  # noqa: SLF001

__all__ = ["Commands", "add_backend", "add_runs", "add_seed"]

_RUNS: Final = Path("runs")


def add_runs(command: Parser) -> None:
    """Where run directories are."""
    command.add_argument(
        "--runs",
        type=_folder,
        default=_RUNS,
        metavar="DIR",
        help="where run directories are kept (default: runs)",
    )


def add_backend(command: Parser) -> None:
    """Where a daemon runs, and what stands before it."""
    command.add_argument(
        "--backend",
        choices=("local", "docker", "auto"),
        default="local",
        metavar="BACKEND",
        help=(
            "where a daemon runs that is started here: local (a process), docker (a container), "
            "or auto: docker if the engine answers and the images are there (default: local)"
        ),
    )
    command.add_argument(
        "--path",
        choices=("auto", "bridge", "loopback", "published"),
        default="auto",
        metavar="PATH",
        help=(
            "how a daemon in a container is reached: bridge (its own address), loopback or "
            "published (ports of this machine) (default: auto, as this machine can)"
        ),
    )


def add_seed(command: Parser) -> None:
    """The root seed."""
    command.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="root seed of all draws (default: a fresh one, printed)",
    )


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError('"" is not allowed; expected the path of a folder')
    return Path(text)
