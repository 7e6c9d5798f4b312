"""What the demonstration makes of what it measured."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from harness.demo.steps import latency


def story(took_ms: float, answered_ms: float | None) -> Any:
    """One in which each call took so long, the daemon said so much, and the proxy did its part."""
    reply = SimpleNamespace(elapsed_ms=took_ms, answered_by_daemon_ms=answered_ms)

    async def call(*_: object, **__: object) -> Any:
        return reply

    async def collect() -> list[Any]:
        return []

    @asynccontextmanager
    async def within(*_: object):
        yield SimpleNamespace(call=call)

    seen = SimpleNamespace(why="", who="proxy", text="delayed")
    return SimpleNamespace(
        env=SimpleNamespace(client=within, inject=within, collect=collect),
        witness=SimpleNamespace(delayed=lambda *_: seen),
    )


@pytest.mark.parametrize(
    ("took_ms", "answered_ms", "verdict"),
    [
        (201.0, 0.5, "valid"),
        # Held up on its way there.
        (360.0, 150.0, "valid"),
        # The daemon's own time, and a latency that is too short.
        (210.0, 90.0, "unknown"),
        (201.0, 0.0, "unknown"),
        (201.0, None, "unknown"),
    ],
)
async def test_a_delay_is_the_latencys_where_the_reply_was_under_way_for_as_long(
    took_ms: float, answered_ms: float | None, verdict: str
):
    """
    Whatever else a machine that is held up adds to it.
    """
    step = await latency(story(took_ms, answered_ms))

    assert step.verdict == verdict
    assert ("the delay may be the daemon's own" in step.why) == (verdict == "unknown")
