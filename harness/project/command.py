"""A program that a table says how to start: its words, its folder and its environment."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.complaints import found
from harness.project.table import Table

__all__ = ["Words", "read_command"]


@dataclass(frozen=True)
class Words:
    """
    How a program is started.

    Attributes:
        template: The program and its arguments; None where there are none, or wrong ones.
        directory: Where it is started.
        environment: Environment variables; None where there are none.
    """

    template: tuple[str, ...] | None
    directory: Path
    environment: dict[str, str] | None


def read_command(table: Table, *, folder: Path) -> Words:
    """
    What the keys command, environment and directory of a table say; what is wrong with them is
    noted there.

    Args:
        table: Which.
        folder: What paths are relative to.
    """
    directory = table.path("directory", under=folder) or folder
    environment = table.named_texts("environment")
    words = _words(table)
    if not directory.is_dir():
        table.complain("directory", f"there is no folder {directory}")
    elif words and words[0]:
        search = (environment or {}).get("PATH")
        trouble = _why_not_run(words[0], directory, search=search)
        if trouble is not None:
            table.complain("command", trouble)
    return Words(words, directory, environment)


def _words(table: Table) -> tuple[str, ...] | None:
    """The command, as a list or split as a shell would."""
    value = table.values.get("command")
    if value is None or type(value) is list:
        return table.texts("command")
    if type(value) is not str:
        table.complain("command", f"expected text or a list of texts, found {found(value)}")
        return None
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        table.complain("command", f"cannot be split into words: {error}")
        return None


def _why_not_run(program: str, directory: Path, *, search: str | None) -> str | None:
    """What is wrong with a program, found as its start would find it; None: nothing."""
    if "{" in program:
        return None
    if "/" not in program:
        if shutil.which(program, path=search):
            return None
        here = shutil.which(str(directory / program))
        return f'there is no program "{program}" on PATH' + (
            f'; for the one in {directory}, write "./{program}"' if here else ""
        )
    path = directory / program
    if shutil.which(str(path)):
        return None
    if path.is_file():
        return f"{path} may not be executed; `chmod +x` it, or name what runs it first"
    return f"there is no program {path}"
