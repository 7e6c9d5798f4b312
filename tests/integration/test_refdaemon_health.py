"""What the reference daemon's health report shows of what tests leave behind."""

from __future__ import annotations

from typing import Any

from harness.dialects.exai import Exai
from tests.integration.refdaemon_process import Serve, on_both_transports

pytestmark = on_both_transports


def counted(report: dict[str, Any]) -> dict[str, int]:
    figures: dict[str, int] = report["tool_state"]["counter"]
    return figures


async def test_a_fresh_daemon_remembers_nothing(serve: Serve) -> None:
    """
    No counter, no sum.
    """
    async with serve() as daemon, daemon.peer() as peer:
        assert counted(await peer.health()) == {"names": 0, "sum": 0}


async def test_counters_that_a_test_leaves_are_seen(serve: Serve) -> None:
    """
    How many there are, and what they add up to; a refused call leaves none.
    """
    async with serve() as daemon, daemon.peer() as peer:
        await peer.call("1", "counter", name="a", by=5)
        await peer.call("2", "counter", name="b", by=-2)
        await peer.call("3", "counter", name="a", by=1)
        await peer.call("4", "counter", name="", by=100)
        report = await peer.health()

    assert counted(report) == {"names": 2, "sum": 4}


async def test_the_report_does_not_grow_with_what_is_left(serve: Serve) -> None:
    """
    Figures and no names, however many counters there are.
    """
    async with serve() as daemon, daemon.peer() as peer:
        for number in range(50):
            await peer.call(str(number), "counter", name=f"{number} {'x' * 100}", by=0)
        report = await peer.health()

    assert report["tool_state"] == {"counter": {"names": 50, "sum": 0}}


async def test_tools_that_remember_nothing_leave_the_fingerprint_as_it_was(serve: Serve) -> None:
    """
    A session that came, called and went cannot be told from none; one that counted can.
    """
    async with serve() as daemon, daemon.peer() as observer:
        before = Exai().fingerprint(await observer.health())
        async with daemon.peer() as peer:
            await peer.call("1", "echo", text="x")
            await peer.call("2", "fail", message="x")
            await peer.call("3", "sleep", ms=1)
        after = Exai().fingerprint(await observer.health_when("connections", 1))
        async with daemon.peer() as peer:
            await peer.call("1", "counter", name="left")
        counted_on = Exai().fingerprint(await observer.health_when("connections", 1))

    assert after == before
    assert {name for name in before if counted_on[name] != before[name]} == {"tool_state"}
