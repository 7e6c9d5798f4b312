"""What the stand-in provider remembers of its keys."""

from __future__ import annotations

import asyncio

import pytest

from harness.refdaemon.provider.work import Refused, Work


async def executed(work: Work, key: str, *, delay_ms: int = 0) -> int:
    """The number of the execution that answers this key."""
    done, _ = await work.on("prompt", key=key, delay_ms=delay_ms, deadline_ms=None)
    return done.execution


async def test_the_oldest_key_is_forgotten_for_a_new_one():
    """
    A repeat does not make it younger: it is as old as its execution.
    """
    work = Work(seed=0, file=None, keep=2)

    numbers = [await executed(work, key) for key in ("a", "b", "a", "c", "b", "a")]

    assert numbers == [1, 2, 1, 3, 2, 4]


async def test_a_key_whose_work_is_under_way_is_not_forgotten():
    """
    However many come after it; it would be executed twice.
    """
    work = Work(seed=0, file=None, keep=1)
    slow = asyncio.create_task(executed(work, "slow", delay_ms=50))
    await asyncio.sleep(0)
    quick = [await executed(work, key) for key in ("a", "b", "a")]
    again = await executed(work, "slow")

    assert quick == [1, 2, 3]
    assert (await slow, again, work.running) == (4, 4, 0)


async def test_what_is_broken_off_was_not_executed():
    """
    Its key is free again.
    """
    work = Work(seed=0, file=None)
    slow = asyncio.create_task(executed(work, "k", delay_ms=600_000))
    await asyncio.sleep(0)
    work.close()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert work.executions == 0
    assert await executed(work, "k") == 1


async def test_work_as_long_as_the_deadline_is_done():
    """
    Only what takes longer is refused.
    """
    work = Work(seed=0, file=None)

    done, replayed = await work.on("p", key=None, delay_ms=5, deadline_ms=5)
    with pytest.raises(Refused):
        await work.on("p", key=None, delay_ms=6, deadline_ms=5)

    assert (done.execution, replayed) == (1, False)
