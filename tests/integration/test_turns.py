"""Tests of the whole machine have it to themselves."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from tests.turns import Turns

BOUND_S = 10
MOMENT_S = 0.1


class Taker:
    """A worker with a test that goes on until it is told to end."""

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        self.runs, self._ends, self._turns, self._alone = Event(), Event(), Turns(folder), alone
        self._thread = Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        with self._turns.taken(alone=self._alone):
            self.runs.set()
            self._ends.wait(BOUND_S)
        self._turns.close()

    def end(self) -> None:
        self._ends.set()
        self._thread.join(BOUND_S)


def test_others_run_side_by_side(tmp_path: Path):
    """Nobody waits where nobody wants to be alone."""
    takers = [Taker(tmp_path) for _ in range(3)]

    assert all(taker.runs.wait(BOUND_S) for taker in takers)
    for taker in takers:
        taker.end()


def test_one_that_is_alone_has_nobody_beside_it(tmp_path: Path):
    """It waits for those that run; those that come after it wait for it."""
    first = Taker(tmp_path)
    assert first.runs.wait(BOUND_S)
    alone = Taker(tmp_path, alone=True)
    assert not alone.runs.wait(MOMENT_S)
    later = Taker(tmp_path)
    assert not later.runs.wait(MOMENT_S)

    first.end()
    assert alone.runs.wait(BOUND_S)
    assert not later.runs.wait(MOMENT_S)
    alone.end()
    assert later.runs.wait(BOUND_S)
    later.end()
