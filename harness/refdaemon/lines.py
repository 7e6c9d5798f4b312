"""
A file of records, one line each, that grows by whole lines only.

One record is one `write` to a file opened for appending, so that a SIGKILL leaves whole
lines: what was handed to the kernel outlives the process. A crash of the machine is outside
this promise; nothing is synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from harness.records import write_line

__all__ = ["LineFile"]


class LineFile:
    """
    An open file of records.

    Args:
        path: The file; made if absent, appended to if there.

    Raises:
        OSError: If it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)

    def close(self) -> None:
        """Write no more to it."""
        os.close(self._file)

    def append(self, record: Any) -> None:
        """
        Put a record on file.

        Raises:
            OSError: If not all of the line could be written; then none of it is there.
        """
        line = write_line(record)
        written = os.write(self._file, line)
        if written < len(line):
            self._take_back(written)
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")

    def _take_back(self, written: int) -> None:
        """Remove a torn line, unless another process has appended behind it."""
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size == end:
            os.ftruncate(self._file, end - written)
