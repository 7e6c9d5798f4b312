"""
Failures and the way back with the components together: breaker, backoff, budget, queue.

Components around made-up peers, no socket: isolated classes; says nothing about the system.
"""

from __future__ import annotations

import pytest

from harness.clock import Draws
from harness.errors import BreakerOpen, CallUnknown
from harness.resilience.backoff import Backoff, RetryBudget, RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings
from tests.unit.hands import Hands
from tests.unit.made_up import Components


class Provider:
    """A provider that is down until it is up, and counts what reaches it."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0

    def ask(self) -> str:
        self.asked += 1
        if not self.up:
            raise CallUnknown("down", kind="time_limit", request_id="1", elapsed_ms=1.0)
        return "answer"


def called(breaker: Breaker, provider: Provider) -> str:
    try:
        return breaker.call(provider.ask)
    except CallUnknown:
        return "unknown"
    except BreakerOpen:
        return "refused"


def test_a_provider_that_dies_is_left_alone_and_found_again():
    """
    Five calls find it dead, then it is asked by probes alone; two of them bring it back.
    """
    clock, provider = Hands(), Provider()
    breaker = Breaker("provider", clock=clock, settings=BreakerSettings(failures=5, open_s=60))
    assert called(breaker, provider) == "answer"

    provider.up, provider.asked = False, 0
    outcomes = [called(breaker, provider) for _ in range(100)]
    assert outcomes == ["unknown"] * 5 + ["refused"] * 95
    clock.pass_(60)
    assert [called(breaker, provider) for _ in range(3)] == ["unknown", "refused", "refused"]
    assert provider.asked == 6

    provider.up = True
    clock.pass_(60)
    assert [called(breaker, provider) for _ in range(3)] == ["answer"] * 3
    assert breaker.state == "closed"


def test_an_outage_is_seen_in_the_figures():
    """
    Opens, half-opens, closes and refusals of one peer.
    """
    here = Components(breaker=BreakerSettings(failures=1, open_s=10, successes=1))
    provider = Provider()
    breaker = here.breakers.of("provider")
    provider.up = False
    called(breaker, provider)
    here.clock.pass_(10)
    called(breaker, provider)
    here.clock.pass_(10)
    provider.up = True
    called(breaker, provider)

    totals = here.metrics.snapshot().breaker_totals
    assert (totals.opens, totals.half_opens, totals.closes) == (2, 2, 1)
    assert here.metrics.snapshot().breakers["provider"].state == "closed"


def test_a_flapping_link_is_waited_for_longer_each_time():
    """
    It accepts and closes; only what lasts ends the row, and then the waits are short again.
    """
    clock = Hands(0.0)
    backoff = Backoff(
        RetrySettings(base_s=1, cap_s=60, proof_s=5, jitter="none"), draws=Draws(1, "client")
    )

    waits = []
    for _ in range(8):
        backoff.opened(clock())
        clock.pass_(0.1)
        backoff.answered(clock())
        waits.append(backoff.next_s())
        clock.pass_(waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    backoff.opened(clock())
    clock.pass_(5)
    backoff.answered(clock())
    assert backoff.next_s() == 1


def test_a_storm_of_repeats_is_kept_within_the_budget():
    """
    A thousand callers, three tries each: a dead provider gets its thousand calls and ten more.
    """
    settings = RetrySettings(attempts=3, budget=10)
    budget, provider = RetryBudget(settings), Provider()
    provider.up = False

    for _ in range(1000):
        for attempt in range(settings.attempts):
            if attempt and not budget.take():
                break
            with pytest.raises(CallUnknown):
                provider.ask()

    assert provider.asked == 1010


def test_messages_of_an_outage_arrive_after_it_in_order():
    """
    Connections break under the sending, ten times; each message arrives, none overtakes.
    """
    here = Components(breaker=BreakerSettings(failures=100), max_tries=100)
    taken: list[bytes] = []
    here.connections.lost("a", here.connect())
    for n in range(50):
        here.send(str(n))

    for n in range(10):
        peer = here.connect()
        new = [data for data in peer.got if data not in taken]
        # It reads five of what it was sent, acknowledges three, and is gone.
        taken.extend(new[:5])
        for data in new[:3]:
            here.connections.acknowledged("a", data.decode())
        here.send(str(50 + n))
        here.connections.lost("a", peer)
    last = here.connect()
    taken.extend(data for data in last.got if data not in taken)

    assert taken == [str(n).encode() for n in range(60)]


def test_after_an_outage_what_is_too_old_is_not_sent():
    """
    A burst of stale messages helps nobody; they are counted.
    """
    here = Components(message_ttl_s=30)
    here.connections.lost("a", here.connect())
    here.send("stale")
    here.pass_(29)
    here.send("fresh")
    here.pass_(2)

    assert here.connect().got == [b"fresh"]
    assert here.metrics.snapshot().messages.expired == 1


def test_a_daemon_that_was_suspended_gives_up_nobody_who_answers():
    """
    It wakes after an hour; those who answer its second ping stay.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    here.connect("a")
    b = here.connect("b")
    here.pass_(30)

    here.clock.pass_(3600)
    here.connections.advance()
    here.connections.heard("a")
    here.pass_(10.1)

    assert here.send("1", "a").outcome == "sent"
    assert b.aborted
