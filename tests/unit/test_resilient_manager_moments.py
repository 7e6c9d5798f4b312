"""
Sessions at the very moment of a bound, and what is written down there.

Isolated classes; says nothing about the system.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import InvalidValue
from harness.resilience.breaker import BreakerSettings
from harness.resilience.connections import ConnectionSettings
from harness.resilience.connections.seen import Seen
from tests.unit.made_up import Components, MadeUp


def test_messages_without_a_name_are_kept_each_for_itself():
    """
    Three replies that look alike and wait are three, in their order.
    """
    here = Components(keep="until_sent")
    here.connections.lost("a", here.connect())
    for text in ("ok", "no", "ok"):
        assert here.send(text, name="").outcome == "queued"

    assert here.connect().got == [b"ok", b"no", b"ok"]


@pytest.mark.parametrize("lost", [False, True])
def test_where_nobody_acknowledges_a_name_is_remembered_for_its_connection(lost: bool):
    """
    A repetition on it is known; on the next one nobody knows whether the first arrived.
    """
    here = Components(keep="until_sent")
    first = here.connect()
    here.send("1")
    if lost:
        here.connections.lost("a", first)
        here.connect()

    assert here.send("1").repeated is not lost


def test_a_name_is_given_up_at_the_moment_at_which_it_is_known_no_more():
    """
    What a session remembers is no more than what can be repeated.
    """
    seen = Seen()
    for now_s, name in ((0.0, "a"), (9.0, "b"), (10.0, "c")):
        seen.add(name, now_s, connection=1, ttl_s=10, limit=100)

    assert len(seen) == 2


@pytest.mark.parametrize(("size", "outcome"), [(10, "queued"), (11, "refused")])
def test_a_message_may_fill_a_queue(size: int, outcome: str):
    """
    As large as the whole of it; not larger.
    """
    here = Components(queue_bytes=10)
    here.connections.lost("a", here.connect())

    assert here.send("x" * size).outcome == outcome


@pytest.mark.parametrize(("unread", "outcome"), [(100, "sent"), (101, "refused")])
def test_at_the_mark_a_peer_is_not_yet_slow(unread: int, outcome: str):
    """
    Above it what need not be kept is refused.
    """
    here = Components(high_water_bytes=100)
    here.connect().unread = unread

    assert here.send("1", critical=False).outcome == outcome


def test_what_waited_is_measured_to_the_nanosecond():
    """
    Five seconds, in the figure of those that waited.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    here.send("1")

    here.pass_(5)
    here.connect()

    assert here.metrics.queue_wait.total_ns == 5_000_000_000


def test_a_peer_is_gone_at_the_very_end_of_its_time():
    """
    As it is closed for being idle, and pinged, at the moment itself.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.clock.pass_(30)
    here.connections.advance()

    here.clock.pass_(10)
    here.connections.advance()

    assert (peer.pings, peer.aborted) == (1, True)


def test_a_jump_back_leaves_a_pinged_peer_the_time_of_its_answer():
    """
    From the jump on, and no ping's interval more.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.pass_(30)

    here.clock.pass_(-500)
    here.connections.advance()
    here.pass_(10.1)

    assert (peer.pings, peer.aborted) == (1, True)


def test_after_a_jump_back_the_idle_are_closed_in_time():
    """
    Counted from the jump.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=100, idle_s=60)
    peer = here.connect()

    here.clock.pass_(-500)
    here.connections.advance()
    here.pass_(59.9)
    assert peer.closed == []
    here.pass_(0.2)

    assert len(peer.closed) == 1


def test_a_shutdown_tells_its_two_moments_and_ends_at_the_second():
    """
    Seven tenths for flushing, and the whole.
    """
    here = Components()
    peer = here.connect()
    here.send("1")
    here.connections.shut_down(within_s=10)
    assert here.connections.next_due_s == 1007

    here.clock.pass_(7)
    here.connections.advance()
    assert (len(peer.closed), here.connections.next_due_s) == (1, 1010)
    here.clock.pass_(3)
    here.connections.advance()

    assert peer.aborted


def test_a_session_that_is_forgotten_takes_its_breaker_out_of_the_figures():
    """
    The totals keep it.
    """
    here = Components(breaker=BreakerSettings(failures=1), session_ttl_s=20)
    here.connect().failing = "before"
    here.send("1")
    assert "a" in here.metrics.snapshot().breakers

    here.pass_(20.1)

    assert here.metrics.snapshot().breakers == {}
    assert here.metrics.snapshot().breaker_totals.opens == 1


@pytest.mark.parametrize(
    ("happens", "due_s"),
    [
        (lambda here: here.connections.writable("a"), 1070),
        (lambda here: here.connections.adopt(ConnectionSettings(ping_interval_s=1000)), 1070),
        (lambda here: here.connections.acknowledged("a", "who"), 1070),
        (lambda here: here.clock.pass_(-100), 970),
        (lambda here: here.connections.shut_down(within_s=1000), 1070),
    ],
    ids=["writable", "adopt", "acknowledged", "back", "shut_down"],
)
def test_who_waits_for_its_breaker_is_attended_to_when_that_lets_it_try(
    happens: Callable[[Components], object], due_s: float
):
    """
    Whatever happens meanwhile: at the end of the time the breaker stays open.
    """
    here = Components(
        breaker=BreakerSettings(failures=1, open_s=70), ping_interval_s=1000, message_ttl_s=5000
    )
    here.connect().failing = "before"
    here.send("1")
    peer = MadeUp()
    here.connections.attach("a", peer)
    assert here.connections.next_due_s == 1070

    happens(here)
    here.connections.advance()

    assert here.connections.next_due_s == due_s
    here.clock.now_s = due_s
    here.connections.advance()
    assert peer.got == [b"1"]


def test_what_is_under_way_expires_in_time_on_a_connection_that_lasts():
    """
    Though nothing else was to come for longer: the sender does not wait for the next ping.
    """
    here = Components(message_ttl_s=10, ping_interval_s=30)
    here.connect()

    here.send("1")
    assert here.connections.next_due_s == 1010
    here.clock.pass_(10)
    here.connections.advance()

    assert here.ends == [("a", b"1", "expired")]


def test_a_connection_that_fails_begins_the_time_of_a_session_without_one():
    """
    At its end, at the moment itself, the session is forgotten.
    """
    here = Components(session_ttl_s=5, ping_interval_s=30)
    here.connect().failing = "before"

    here.send("1", critical=False)
    assert here.connections.next_due_s == 1005
    here.clock.pass_(5)
    here.connections.advance()

    assert "a" not in here.connections


def test_of_a_slow_peer_nobody_asks_before_time_brings_something():
    """
    Its breaker is closed, and has nothing to do with it.
    """
    here = Components(message_ttl_s=300, ping_interval_s=1000, high_water_bytes=0)
    here.connect().unread = 1

    here.send("1")

    assert here.connections.next_due_s == 1300


@pytest.mark.parametrize(("late_s", "aborted"), [(3.4, True), (4.9, True), (5.0, False)])
def test_late_by_half_the_time_of_a_pong_we_were_held_up(late_s: float, aborted: bool):
    """
    Less late, the silence is the peer's.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.pass_(30)

    here.clock.pass_(10 + late_s)
    here.connections.advance()

    assert peer.aborted is aborted


def test_the_idle_are_closed_at_the_moment_itself():
    """
    And not a ping later.
    """
    here = Components(ping_interval_s=30, idle_s=30)
    peer = here.connect()

    here.clock.pass_(30)
    here.connections.advance()

    assert len(peer.closed) == 1


def test_messages_that_were_given_up_are_failures_and_others_are_none():
    """
    Poison, and what a forgotten session left; not what was acknowledged.
    """
    here = Components(max_tries=1, session_ttl_s=20)
    here.connect()
    here.send("1")
    here.connections.acknowledged("a", "1")
    assert here.metrics.snapshot().messages.failed == 0
    here.connect().failing = "before"
    here.send("2")
    assert here.metrics.snapshot().messages.failed == 1
    here.send("3")
    here.pass_(20.1)

    assert [how for *_, how in here.ends] == ["acknowledged", "poison", "left"]
    assert here.metrics.snapshot().messages.failed == 2


def test_the_time_a_transport_took_is_measured():
    """
    To the nanosecond, by the clock.
    """
    here = Components()
    here.connect().while_sending = lambda: here.clock.pass_(2)

    here.send("1", critical=False)

    assert here.metrics.latency.total_ns == 2_000_000_000


def test_a_refusal_says_whose_breaker_it_was_and_a_failure_what_failed():
    """
    In the answer and in the figures.
    """
    here = Components(breaker=BreakerSettings(failures=1, open_s=60))
    here.connect().failing = "before"
    failed = here.send("1", critical=False)
    here.connect()

    refused = here.send("2", critical=False)

    assert "ConnectionResetError: reset" in failed.why
    assert refused.outcome == "refused"
    assert "breaker a is open for another 60 s" in refused.why
    assert here.metrics.snapshot().breakers["a"].refusals == 1


def test_an_answer_to_a_ping_changes_nothing_about_a_breaker_that_is_waited_for():
    """
    The next ping is due before it, and then its end.
    """
    here = Components(breaker=BreakerSettings(failures=1, open_s=70), ping_interval_s=20)
    here.connect().failing = "before"
    here.send("1")
    peer = MadeUp()
    here.connections.attach("a", peer)

    for _ in range(3):
        here.clock.pass_(20)
        here.connections.advance()
        here.connections.heard("a")
    assert peer.pings == 3
    assert here.connections.next_due_s == 1070
    here.pass_(10)

    assert peer.got == [b"1"]


def test_the_time_of_a_session_that_made_room_comes_and_means_nothing():
    """
    It was noted when the session was known.
    """
    here = Components(max_sessions=1, session_ttl_s=20)
    here.connections.lost("a", here.connect("a"))
    b = here.connect("b")

    here.pass_(20)

    assert list(here.ends) == []
    assert not b.aborted


def test_a_session_is_new_once():
    """
    Then it is resumed, on any connection.
    """
    connections = Components().connections

    assert connections.attach("a", MadeUp()) == "new"
    assert connections.attach("a", MadeUp()) == "resumed"


def test_a_slow_peer_of_a_half_open_breaker_is_looked_at_again_in_its_time():
    """
    A half-open breaker names no time: that of an open one is taken, unless there is room before.
    """
    here = Components(
        breaker=BreakerSettings(failures=1, open_s=70), ping_interval_s=1000, high_water_bytes=0
    )
    here.connect().failing = "before"
    here.send("1")
    peer = MadeUp()
    peer.unread = 1
    here.connections.attach("a", peer)

    here.clock.pass_(70)
    here.connections.advance()
    assert here.connections.next_due_s == 1140
    peer.unread = 0
    here.connections.writable("a")

    assert peer.got == [b"1"]


def test_what_waited_and_left_with_what_came_after_it_waits_no_longer():
    """
    Also where what came is worth nothing later, and its peer never said that it has room.
    """
    here = Components(high_water_bytes=0)
    peer = here.connect()
    peer.unread = 1
    here.send("1")
    assert here.connections.waiting == 1

    peer.unread = 0
    here.send("2", critical=False)

    assert peer.got == [b"1", b"2"]
    assert here.connections.waiting == 0


def test_nothing_leaves_by_a_connection_that_is_closing():
    """
    What counts waits for the next one, the rest is refused; of another one it says nothing.
    """
    here = Components()
    before, peer = here.connect(), here.connect()
    here.connections.closing("a", before)
    here.send("1")
    here.connections.closing("a", peer)

    assert here.send("2", critical=False).why == "the connection is being closed"
    assert here.send("3").outcome == "queued"
    here.connections.writable("a")
    assert peer.got == [b"1"]
    assert here.connect().got[-1:] == [b"3"]


def test_a_wrong_interval_is_told_without_what_it_would_contradict():
    """
    The default in its place is nobody's.
    """
    with pytest.raises(InvalidValue) as caught:
        ConnectionSettings(idle_s=10, ping_interval_s=0)

    assert [key for key, _ in caught.value.details] == ["ping_interval_s"]
