"""
What is left: of this process when it is done, which is a mistake of ours, and of others that
are dead, which `harness clean` removes.

Rule: nothing is touched that carries no run id of ours.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.environment.household import FOLDER, OWNER_FILE
from harness.environment.owner import is_dead, own_name
from harness.environment.reaper import runs_of_processes

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["left_of", "sweep"]


def left_of(run_ids: Collection[str], engine: Engine | None) -> list[str]:
    """
    What is still there of runs of this process, each as a kind and a name.

    Args:
        run_ids: Which runs.
        engine: The container engine, where one was used.
    """
    found = [
        f"process {pid}" for pid, (run_id, _) in runs_of_processes().items() if run_id in run_ids
    ]
    found += [f"folder {folder}" for folder, run_id, _ in _folders() if run_id in run_ids]
    there = [] if engine is None else engine.left.owned(own_name())
    return found + [name for run_id, name in there if run_id in run_ids]


def sweep(engine: Engine | None, *, all_runs: bool = False, remove: bool = True) -> list[str]:
    """
    Remove what dead runs left.

    Args:
        engine: The container engine, where there is one.
        all_runs: Also what runs that live, or may live, have.
        remove: Whether it is removed, or only told.

    Returns:
        What was there, each as a kind and a name.
    """
    found = []
    for pid, (_, owner) in runs_of_processes().items():
        if all_runs or is_dead(owner):
            found.append(f"process {pid}")
            if remove:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
    for folder, _, owner in _folders():
        if all_runs or is_dead(owner):
            found.append(f"folder {folder}")
            if remove:
                shutil.rmtree(folder, ignore_errors=True)
    if engine is not None:
        run_ids = engine.left.runs(dead=not all_runs)
        found += engine.left.sweep(*run_ids) if remove else engine.left.remains(*run_ids)
    return found


def _folders() -> Iterator[tuple[Path, str, str]]:
    """Each temporary folder of ours, its run and who made it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        # One without a name in it is not ours, or is just being made or removed.
        with contextlib.suppress(OSError):
            owner = Path(folder, OWNER_FILE).read_text("ascii")
            yield folder, folder.name.removeprefix(FOLDER), owner
