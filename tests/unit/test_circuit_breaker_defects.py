"""
What went wrong with other breakers, each with a test named after it.

Most are one defect in many dresses: a probe's place is not given back, and half-open lasts
for ever. Isolated classes; says nothing about the system.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.errors import BreakerOpen, CallFailed, CallUnknown
from harness.resilience.breaker import Breaker, Breakers, BreakerSettings, Counting
from tests.unit.hands import Hands


class Broken(Exception):
    """A peer's failure."""


def fail(breaker: Breaker) -> None:
    with pytest.raises(Broken), breaker.admit():
        raise Broken


def half_open(
    clock: Hands,
    *,
    counting: Counting | None = None,
    **settings: Any,
) -> Breaker:
    given = {"failures": 1, "open_s": 10, "half_open_s": 1000, "successes": 1, "probes": 1}
    one = Breaker(
        "peer",
        clock=clock,
        settings=BreakerSettings(**given | settings),
        counting=counting or Counting(),
    )
    fail(one)
    clock.pass_(10)
    assert one.state == "half_open"
    return one


def assert_recovers(breaker: Breaker) -> None:
    """It lets a probe through, and closes upon its success."""
    assert breaker.call(lambda: "served") == "served"
    assert breaker.state == "closed"


async def cancelled_in(breaker: Breaker, way: str) -> None:
    """One call, cancelled while it waits for the peer."""
    waits = asyncio.Event()

    async def peer() -> None:
        waits.set()
        await asyncio.Event().wait()

    async def with_block() -> None:
        with breaker.admit():
            await peer()

    match way:
        case "call_async":
            task = asyncio.create_task(_awaiting(breaker.call_async(peer)))
        case "protect":
            task = asyncio.create_task(_awaiting(breaker.protect(peer)()))
        case _:
            task = asyncio.create_task(with_block())
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _awaiting(something: Any) -> None:
    await something


def test_resilience4j_903_probes_that_never_end_do_not_hold_it_half_open():
    """
    Every place is taken and none comes back: after its time it is open, then half-open anew.
    """
    clock = Hands()
    one = half_open(clock, probes=3, half_open_s=30)
    for _ in range(3):
        one.admit()
    with pytest.raises(BreakerOpen):
        one.admit()

    clock.pass_(30)
    assert one.state == "open"
    clock.pass_(10)

    assert_recovers(one)


@pytest.mark.parametrize("way", ["call_async", "protect", "with"])
def test_monix_1080_a_cancelled_probe_gives_its_place_back(way: str):
    """
    The next call is a probe.
    """
    one = half_open(Hands())

    asyncio.run(cancelled_in(one, way))

    assert_recovers(one)


def test_opossum_57_a_call_refused_while_a_probe_is_under_way_changes_nothing():
    """
    The probe's success closes it all the same.
    """
    one = half_open(Hands())
    probe = one.admit()
    with pytest.raises(BreakerOpen):
        one.call(lambda: None)

    probe.end("success")

    assert one.state == "closed"


def test_opossum_119_a_failed_probe_opens_it_however_low_the_rate():
    """
    One failure is below every minimum of a window, and still enough in half-open.
    """
    clock = Hands()
    one = half_open(clock)
    one.adopt(BreakerSettings(policy="count_window", minimum_calls=50, open_s=10))

    fail(one)

    assert one.state == "open"


def test_opossum_276_and_388_an_ignored_error_gives_the_place_back():
    """
    The probe failed in a way that does not count.
    """
    one = half_open(Hands(), counting=Counting(ignored=(LookupError,)))

    with pytest.raises(LookupError), one.admit():
        raise LookupError

    assert one.state == "half_open"
    assert_recovers(one)


def test_opossum_385_failures_together_open_it_once():
    """
    Six calls under way when the fifth failure opens it: the sixth neither opens it anew nor
    lets it stay open for longer.
    """
    clock = Hands()
    one = Breaker("peer", clock=clock, settings=BreakerSettings(failures=5, open_s=10))
    under_way = [one.admit() for _ in range(6)]
    for permit in under_way[:5]:
        permit.end("failure")
    clock.pass_(9)

    under_way[5].end("failure")
    clock.pass_(1)

    assert one.state == "half_open"
    assert one.report().opens == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_rezilience_521_an_interrupted_probe_gives_its_place_back(error: type[BaseException]):
    """
    Whatever interrupts it, and though that is no failure of the peer.
    """
    one = half_open(Hands())

    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        one.call(interrupted)

    assert one.state == "half_open"
    assert_recovers(one)


@pytest.mark.parametrize("kind", ["VALIDATION_ERROR", "UNAUTHORIZED", "TOOL_NOT_FOUND"])
def test_deer_flow_3991_an_error_of_the_callers_gives_the_place_back(kind: str):
    """
    A refused argument says nothing of the peer: neither closed, nor open, nor stuck.
    """
    one = half_open(Hands())

    with pytest.raises(CallFailed), one.admit():
        raise CallFailed("refused", kind=kind, request_id="1", elapsed_ms=1.0)

    assert one.state == "half_open"
    assert_recovers(one)


def test_maverick_mcp_272_a_success_from_before_does_not_close_an_open_one():
    """
    A slow call of the closed days succeeds when the breaker is open, and again when half-open.
    """
    clock = Hands()
    one = Breaker(
        "peer",
        clock=clock,
        settings=BreakerSettings(failures=1, open_s=10, successes=1, probes=1),
    )
    slow, slower = one.admit(), one.admit()
    fail(one)

    slow.end("success")
    assert one.state == "open"
    clock.pass_(10)
    assert one.state == "half_open"
    slower.end("success")

    assert one.state == "half_open"
    assert one.report().stale == 2


def test_maverick_mcp_272_a_failure_from_before_does_not_open_a_half_open_one():
    """
    Nor does its end free a place that a probe has taken.
    """
    clock = Hands()
    one = Breaker("peer", clock=clock, settings=BreakerSettings(failures=1, open_s=10, probes=1))
    slow, ignored = one.admit(), one.admit()
    fail(one)
    clock.pass_(10)
    one.admit()

    slow.end("failure")
    ignored.end("ignored")

    assert one.state == "half_open"
    with pytest.raises(BreakerOpen):
        one.admit()


def test_litellm_39701_after_a_cancelled_probe_the_peer_is_asked_again():
    """
    Any number of cancelled probes in a row, by coroutines that wait for an answer.
    """
    one = half_open(Hands(), probes=2)

    async def many() -> None:
        for _ in range(5):
            await cancelled_in(one, "call_async")

    asyncio.run(many())

    assert_recovers(one)


def test_the_originals_three_cancelled_probes_leave_three_places():
    """
    Its count of probes only went up; after three every call was refused for ever.
    """
    one = half_open(Hands(), probes=3, successes=2)

    async def three_at_once() -> None:
        await asyncio.gather(*(cancelled_in(one, "with") for _ in range(3)))

    asyncio.run(three_at_once())

    assert len([one.admit() for _ in range(3)]) == 3


def test_the_originals_it_may_need_more_successes_than_it_has_places():
    """
    Places come back, so five successes pass through two places.
    """
    one = half_open(Hands(), probes=2, successes=5)

    for _ in range(5):
        assert one.state == "half_open"
        one.call(lambda: None)

    assert one.state == "closed"


def test_the_originals_who_only_looks_sees_it_become_half_open():
    """
    Its manager asked "is it open?" and never called: it was open for ever.
    """
    clock = Hands()
    one = Breaker("peer", clock=clock, settings=BreakerSettings(failures=1, open_s=60))
    fail(one)

    clock.pass_(60)

    assert one.state == "half_open"


def test_the_originals_one_breaker_a_peer():
    """
    One for all let five dead clients keep everybody from being served.
    """
    peers = Breakers(clock=Hands(), settings=BreakerSettings(failures=5))
    for name in ("dead-1", "dead-2", "dead-3", "dead-4", "dead-5"):
        for _ in range(5):
            fail(peers.of(name))

    assert peers.of("healthy").call(lambda: "served") == "served"


def test_a_lost_connection_gives_the_place_back():
    """
    A probe whose connection broke counts as failed; the next half-open has all its places.
    """
    clock = Hands()
    one = half_open(clock)

    with pytest.raises(CallUnknown), one.admit():
        raise CallUnknown("lost", kind="connection_lost", request_id="1", elapsed_ms=1.0)

    assert one.state == "open"
    clock.pass_(10)
    assert_recovers(one)


@pytest.mark.parametrize("back_s", [0.001, 5, 3600, 10**9])
def test_a_clock_that_jumps_back_keeps_it_open_no_longer(back_s: float):
    """
    From the jump on it waits for at most the time it was to be open.
    """
    clock = Hands()
    one = Breaker("peer", clock=clock, settings=BreakerSettings(failures=1, open_s=60))
    fail(one)

    clock.pass_(-back_s)
    assert one.state == "open"
    clock.pass_(60)

    assert one.state == "half_open"


def test_a_clock_that_jumps_back_holds_no_time_window():
    """
    A window looks back from where the clock is now; the calls before the jump are forgotten.
    """
    clock = Hands(10_000.0)
    one = Breaker(
        "peer",
        clock=clock,
        settings=BreakerSettings(policy="time_window", window_s=10, minimum_calls=3),
    )
    fail(one)
    fail(one)

    clock.pass_(-5000)
    fail(one)
    assert one.state == "closed"
    clock.pass_(20)
    fail(one)

    assert one.state == "closed"


def test_a_clock_that_jumps_on_lets_one_probe_through_and_no_flood():
    """
    A suspended machine wakes up: half-open, with its places counted.
    """
    clock = Hands()
    one = half_open(clock, probes=1)
    one.admit()

    clock.pass_(10**6)

    one.admit()
    with pytest.raises(BreakerOpen):
        one.admit()
