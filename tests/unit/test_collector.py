"""What lives long is looked at once in a while, and what is in cycles goes all the same."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from harness.refdaemon import collector
from harness.refdaemon.collector import Collector

BOUND_S = 10


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(collector, "_LOOK_S", 0.01)
    before = gc.get_threshold()
    yield
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


async def _until_gone(cycle: weakref.ref[Cycle]) -> None:
    async with asyncio.timeout(BOUND_S):
        while cycle() is not None:
            # New objects are what makes it look.
            _ = [[] for _ in range(1_000)]
            await asyncio.sleep(0.001)


async def test_what_has_lived_through_a_look_is_set_aside():
    """The next one has less to go through."""
    gc.collect()
    made = Collector()
    made.start()
    there = gc.get_freeze_count()
    kept: list[object] = []
    async with asyncio.timeout(BOUND_S):
        while gc.get_freeze_count() < there + 50_000:
            kept += ([] for _ in range(1_000))
            await asyncio.sleep(0.001)
    made.stop()

    assert there > 0


async def test_a_cycle_that_ends_goes():
    """One that was never set aside, at the next look."""
    made = Collector()
    made.start()
    cycle = Cycle()
    gone = weakref.ref(cycle)
    del cycle
    await _until_gone(gone)
    made.stop()


async def test_a_cycle_that_was_set_aside_goes_when_all_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
):
    """As that of a connection that was there for long."""
    cycle = Cycle()
    gone = weakref.ref(cycle)
    made = Collector()
    made.start()
    del cycle
    gc.collect()
    assert gone() is not None

    monkeypatch.setattr(collector, "_WHOLE_S", 0.0)
    await _until_gone(gone)
    made.stop()
