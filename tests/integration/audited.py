"""A program of its own whose every opening of a file is seen, however short the file lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["told_of_files_in"]

_BOUND_S = 120

_SEEN = """
import os, sys
folder = sys.argv.pop(1)

def see(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(folder):
        print(os.path.relpath(arguments[0], folder))

sys.addaudithook(see)
"""


def told_of_files_in(folder: Path, code: str, *arguments: str) -> list[str]:
    """
    Run that code, with this folder for its temporary files.

    Returns:
        What it opened in the folder, by its name there; "." is a file without a name.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{_SEEN}\n{code}", str(folder), *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=_BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
