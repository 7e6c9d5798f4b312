"""Finding a run again: by its path, by its name, or the newest of a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from harness.errors import InvalidValue

__all__ = ["find_run"]

_HISTORY: Final = "history.jsonl"
_SHOWN: Final = 5
"""How many of the newest runs are named to somebody who looks for one."""


def find_run(text: str | None, *, runs: Path) -> Path:
    """
    The run directory that somebody means.

    Args:
        text: A run directory, or a folder of runs, whose newest is meant; as a path, or by
            its name within `runs`: "demo/20261122-191500", "demo". None: the latest.
        runs: The folder of all runs.

    Raises:
        InvalidValue: If no run is there. The newest of `runs` are named.
    """
    paths = [runs / "latest"] if text is None else [Path(text), runs / text]
    try:
        # A history means the run that it is of.
        found = _found([path.parent if path.name == _HISTORY else path for path in paths])
        if found is not None:
            return found
        is_file = paths[0].is_file()
        newest = _newest_first(runs.glob("*/*"))[:_SHOWN]
    except OSError as error:
        raise InvalidValue(
            f"{paths[0]}: no run can be read there: {error.strerror}",
            [("path", str(error.filename)), ("next", "give another path or name")],
        ) from None
    rows = [("nor at", str(path)) for path in paths[1:] if path != paths[0]]
    if newest:
        rows.append(("newest", "\n".join(str(path.relative_to(runs)) for path in newest)))
    step = (
        "give one of those; `harness demo` makes another" if newest else "`harness demo` makes one"
    )
    what = "no run there, but a file" if is_file else "no run there"
    raise InvalidValue(f"{paths[0]}: {what}", [*rows, ("next", step)])


def _found(paths: list[Path]) -> Path | None:
    for path in paths:
        if _is_run(path):
            return path
    for path in paths:
        if newest := _newest_first(path.glob("*")):
            return newest[0]
    return None


def _is_run(path: Path) -> bool:
    return (path / _HISTORY).is_file()


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    # The folders are named for when they began; "-10" comes after "-9".
    return sorted(filter(_is_run, paths), key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]
