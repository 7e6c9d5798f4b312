"""Steps that are begun side by side: each to its end, whatever becomes of the others."""

from __future__ import annotations

import asyncio

import pytest

from harness.environment.clean_up import begin


async def test_the_first_error_is_raised_when_all_have_ended():
    """The others are not cut short."""
    ended = []

    async def fail() -> None:
        raise ValueError("first")

    async def work() -> None:
        await asyncio.sleep(0.01)
        ended.append("work")

    with pytest.raises(ValueError, match="first"):
        await begin(fail(), work())

    assert ended == ["work"]


async def test_whoever_is_cancelled_has_each_of_them_cancelled_and_waits():
    """Also where it is cancelled once more meanwhile; what they raise then is of no interest."""
    ended = []

    async def work(*, fails: bool) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            ended.append(fails)
            if fails:
                raise ValueError("on its way") from None
            raise

    task = asyncio.ensure_future(begin(work(fails=True), work(fails=False)))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sorted(ended) == [False, True]
