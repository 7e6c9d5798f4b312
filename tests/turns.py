"""
While a test of the whole machine runs, no test of another worker does.

Most tests mind what they made themselves and bear any company. Those marked `whole_machine` count
or put away all that dead runs left, whosesoever.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["Turns"]

_TURNS: Final = pytest.StashKey["Turns"]()


class Turns:
    """
    Who runs beside whom, between processes that are given the same folder.

    Args:
        folder: For two files that are locked.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = (folder / "gate.lock").open("w")
        self._door = (folder / "door.lock").open("w")

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Wait until that is possible; it holds to the end of the block."""
        # One after the other through the gate: whoever waits to be alone keeps later ones waiting.
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._door, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def close(self) -> None:
        """Take no more."""
        self._gate.close()
        self._door.close()


# Outermost, so that no time limit runs while a test waits for its turn.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    turns = _of(item.config)
    if turns is None:
        return (yield)
    with turns.taken(alone=item.get_closest_marker("whole_machine") is not None):
        return (yield)


def _of(config: pytest.Config) -> Turns | None:
    """Those of a worker; who runs all tests alone needs none."""
    if not hasattr(config, "workerinput"):
        return None
    if _TURNS not in config.stash:
        # The workers' folders lie in one of their session.
        own: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        turns = config.stash[_TURNS] = Turns(own.parent)
        config.add_cleanup(turns.close)
    return config.stash[_TURNS]
