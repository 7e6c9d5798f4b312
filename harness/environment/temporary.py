"""Where temporary folders of ours are, and how they are known."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "OWNER_FILE", "temporary_place"]

FOLDER: Final = "harness-"
"""What the names of temporary folders begin with; the run id follows."""

OWNER_FILE: Final = ".owner"
"""Who made one stands in it."""


def temporary_place() -> Path:
    """
    Where temporary folders are made and looked for: the place that `tempfile` would name.

    Asked first, `tempfile` writes a file there to see whether it can: one that is killed in
    that moment leaves it for ever, and nobody could tell whose it is. So it is not asked.
    """
    if tempfile.tempdir is not None:
        return Path(os.fsdecode(tempfile.tempdir))
    named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    places = map(Path, (*filter(None, named), "/tmp", "/var/tmp", "/usr/tmp"))  # noqa: S108
    usable = (at for at in places if at.is_dir() and os.access(at, os.W_OK | os.X_OK))
    return next(usable, Path()).absolute()
