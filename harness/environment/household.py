"""
What belongs to one run on this machine: an id, a folder, and who puts both away.

Every process of the run carries the id. Whatever happens to the harness, the reaper
finds them by it.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from harness.clock import stamp
from harness.environment.clean_up import put_away
from harness.environment.owner import own_name
from harness.environment.processes import Reaper
from harness.environment.reaper import end_all
from harness.environment.temporary import FOLDER, OWNER_FILE, temporary_place

__all__ = ["Household"]

_MOST_SWEEPS: Final = 400
_SWEEP_PAUSE_S: Final = 0.005


class Household:
    """
    The id, the folder and the reaper of one run.

    Args:
        directory: Where logs and effects go; None: a folder that is removed at the end.
        reaper: Who cleans up if the harness dies; None: one of its own.

    Attributes:
        run_id: Names everything that belongs to the run.
        kept: Whether the folder stays.
    """

    def __init__(self, *, directory: Path | None = None, reaper: Reaper | None = None) -> None:
        self.run_id = f"{stamp()}-{secrets.token_hex(6)}"
        self.kept = directory is not None
        self._directory = directory
        self._given = reaper
        self._reaper: Reaper | None = None

    @property
    def directory(self) -> Path:
        """Where logs and effects go."""
        assert self._directory is not None
        return self._directory

    @property
    def reaper(self) -> Reaper:
        """Who cleans up if the harness dies. There is one from `open` to `close`."""
        assert self._reaper is not None
        return self._reaper

    def logs(self) -> dict[str, str]:
        """What its programs wrote so far, by the name of the file."""
        files = () if self._directory is None else self._directory.glob("*.log")
        return {file.name: file.read_text("utf-8", "replace") for file in files}

    def open(self) -> None:
        """Before all else, so that there is no moment without somebody to clean up."""
        self._reaper = Reaper() if self._given is None else self._given
        self._reaper.watch(self.run_id)
        if self._directory is None:
            # Before it is there, for the same reason. The run's id makes the name nobody else's.
            self._directory = temporary_place() / f"{FOLDER}{self.run_id}"
            self._reaper.remove(self.run_id, self._directory)
            self._directory.mkdir(mode=0o700)
            Path(self._directory, OWNER_FILE).write_text(own_name(), "ascii")
        self._directory.mkdir(parents=True, exist_ok=True)

    async def close(self, *steps: Awaitable[object]) -> None:
        """
        Put away what it has, by these steps; then look that no process is left, and let go of
        the folder. Where a step fails the reaper is left to try again, at its end.

        Raises:
            BaseException: The error of the first step that failed.
        """
        try:
            await put_away(None, *steps)
        except BaseException as error:
            await put_away(error, self._let_go(settled=False))
            raise
        await put_away(None, self._let_go(settled=True))

    async def _let_go(self, *, settled: bool) -> None:
        if self._reaper is None:
            return
        for _ in range(_MOST_SWEEPS):
            if not end_all(self.run_id):
                break
            await asyncio.sleep(_SWEEP_PAUSE_S)
        else:
            # The reaper tries again, at its end.
            settled = False
        if not self.kept and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if settled:
            self._reaper.settle(self.run_id)
        if self._given is None:
            self._reaper.dismiss()
        self._reaper = None
