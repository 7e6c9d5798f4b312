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
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

from harness.clock import now
from harness.environment.owner import is_dead, own_name
from harness.environment.reaper import runs_of_processes
from harness.environment.temporary import FOLDER, OWNER_FILE, temporary_place
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["Swept", "left_of", "spared", "sweep", "sweeping"]

_ENDS_WITHIN_S: Final = 2.0
_PAUSE_S: Final = 0.02


@dataclass(frozen=True)
class Swept:
    """
    Something that a run left.

    Attributes:
        name: Its kind and name.
        stays: Why it is still there although it was to be removed; "" where it is not.
    """

    name: str
    stays: str = ""


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


def sweep(engine: Engine | None) -> list[Swept]:
    """Remove what dead runs left; what resists is left to others."""
    return list(sweeping(engine))


def sweeping(
    engine: Engine | None, *, all_runs: bool = False, remove: bool = True
) -> Iterator[Swept]:
    """
    Remove what dead runs left, one thing after the other; each is told once it was looked after.

    Args:
        engine: The container engine, where there is one.
        all_runs: Also what runs that live, or may live, have.
        remove: Whether it is removed, or only told.

    Raises:
        EnvironmentFailed: If the engine cannot be asked.
    """
    for pid, (run_id, owner) in runs_of_processes().items():
        if all_runs or is_dead(owner):
            yield Swept(f"process {pid}", _end(pid, run_id) if remove else "")
    for folder, _, owner in _folders():
        if all_runs or is_dead(owner):
            yield Swept(f"folder {folder}", _remove(folder) if remove else "")
    if engine is not None and (run_ids := engine.left.runs(dead=not all_runs)):
        there = engine.left.remains(*run_ids)
        stays = _clear(engine, run_ids) if remove else {}
        yield from (Swept(name, stays.get(name, "")) for name in there)


def spared(engine: Engine | None) -> set[str]:
    """The runs that something is there of and that live, or may live."""
    owned = [*runs_of_processes().values(), *((run_id, owner) for _, run_id, owner in _folders())]
    found = {run_id for run_id, owner in owned if not is_dead(owner)}
    if engine is not None:
        found |= set(engine.left.runs(dead=False)) - set(engine.left.runs(dead=True))
    return found


def _end(pid: int, run_id: str) -> str:
    """Kill a process and see that it is gone; why it is not."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "it is somebody else's"
    deadline = now() + _ENDS_WITHIN_S
    while runs_of_processes().get(pid, ("", ""))[0] == run_id:
        if now() > deadline:
            return f"it was killed, and is there after {_ENDS_WITHIN_S:g} s"
        Event().wait(_PAUSE_S)
    return ""


def _remove(folder: Path) -> str:
    """Remove a folder and see that it is gone; why it is not."""
    why = "it is there all the same"
    try:
        shutil.rmtree(folder)
    except OSError as error:
        why = str(error)
        # What can go, goes.
        shutil.rmtree(folder, ignore_errors=True)
    return why if os.path.lexists(folder) else ""


def _clear(engine: Engine, run_ids: Collection[str]) -> dict[str, str]:
    """Remove what runs have on the engine: what is there all the same, and why."""
    why, reasons = "", dict[str, str]()
    try:
        engine.left.sweep(*run_ids)
    except EnvironmentFailed as error:
        why, reasons = error.headline, dict(error.details)
    deadline = now() + _ENDS_WITHIN_S
    # What somebody else is removing is still there for a moment.
    while (there := engine.left.remains(*run_ids)) and not why and now() < deadline:
        Event().wait(_PAUSE_S)
    return {name: reasons.get(name, why or "it is there all the same") for name in there}


def _folders() -> Iterator[tuple[Path, str, str]]:
    """Each temporary folder of ours, its run and who made it."""
    for folder in temporary_place().glob(f"{FOLDER}*"):
        # One without a name in it is not ours, or is just being made or removed.
        with contextlib.suppress(OSError):
            owner = Path(folder, OWNER_FILE).read_text("ascii")
            yield folder, folder.name.removeprefix(FOLDER), owner
