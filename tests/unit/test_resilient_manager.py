"""
Sessions that outlive their connections: sending, keeping, repetitions, silence, bounds.

Isolated classes; says nothing about the system.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.errors import InvalidValue
from harness.resilience.breaker import BreakerSettings
from harness.resilience.connections import (
    ConnectionSettings,
    Delivery,
    End,
    Message,
    digest_of,
)
from tests.unit.made_up import Components, MadeUp, message

SENT = Delivery(outcome="sent")


# ---- send says sent, queued or refused


@pytest.mark.parametrize("critical", [False, True])
def test_what_a_transport_took_is_sent(critical: bool):
    """
    To the peer it goes, and the answer says so.
    """
    here = Components()
    peer = here.connect()

    assert here.send("one", critical=critical) == SENT
    assert peer.got == [b"one"]


def test_a_critical_message_to_an_absent_peer_is_queued():
    """
    It is kept, with the reason.
    """
    here = Components()
    peer = here.connect()
    here.connections.lost("a", peer)

    delivery = here.send("one")

    assert delivery == Delivery(outcome="queued", why="the session has no connection")
    assert (here.connections.kept("a"), here.connections.waiting) == (1, 1)


def test_any_other_message_to_an_absent_peer_is_refused():
    """
    Nobody promised to keep it.
    """
    here = Components()
    here.connections.lost("a", here.connect())

    delivery = here.send("one", critical=False)

    assert delivery == Delivery(outcome="refused", why="the session has no connection")
    assert here.connections.kept("a") == 0


def test_a_session_that_nobody_attached_is_refused_aloud():
    """
    The original's loops saw no clients, since nobody registered any, and nobody noticed.
    """
    delivery = Components().send("one", session="who")

    assert delivery == Delivery(outcome="refused", why="no session who is known")


def test_a_critical_message_needs_a_name_to_be_acknowledged_by():
    """
    Without one it could never end.
    """
    here = Components()
    here.connect()

    with pytest.raises(InvalidValue, match="without an id cannot be kept until it is acknowledged"):
        here.send("one", name="")


def test_where_nobody_acknowledges_a_message_ends_when_it_is_sent():
    """
    And needs no name.
    """
    here = Components(keep="until_sent")
    peer = here.connect()

    assert here.send("one", name="") == SENT
    assert (here.ends, here.connections.kept("a")) == ([("a", b"one", "sent")], 0)
    here.connections.lost("a", peer)
    assert here.connect().got == []


# ---- reconnect: keyed by session, order kept, nothing acknowledged lost


def test_a_queue_is_found_again_by_the_session_and_flushed_in_order():
    """
    The new connection has another address; the original looked for its queue by that.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    for text in ("1", "2", "3"):
        here.send(text)

    peer = MadeUp()
    assert here.connections.attach("a", peer) == "resumed"

    assert peer.got == [b"1", b"2", b"3"]
    assert here.connections.waiting == 0


def test_what_was_not_acknowledged_is_sent_again_before_what_came_later():
    """
    Acknowledged messages are not; the rest keeps its place.
    """
    here = Components()
    first = here.connect()
    for text in ("1", "2", "3"):
        here.send(text)
    here.connections.acknowledged("a", "2")
    here.connections.lost("a", first)
    here.send("4")

    second = here.connect()

    assert second.got == [b"1", b"3", b"4"]
    assert here.ends == [("a", b"2", "acknowledged")]


def test_an_acknowledgement_may_come_after_the_connection_it_belongs_to():
    """
    By the next one, or before there is one: the message is not sent again.
    """
    here = Components()
    first = here.connect()
    here.send("1")
    here.send("2")
    here.connections.lost("a", first)

    here.connections.acknowledged("a", "1")

    assert here.connect().got == [b"2"]
    here.connections.acknowledged("a", "1")
    here.connections.acknowledged("who", "1")
    assert here.ends == [("a", b"1", "acknowledged")]


def test_a_message_does_not_overtake_those_that_wait():
    """
    Not even one that is not worth keeping.
    """
    here = Components(high_water_bytes=10)
    peer = here.connect()
    peer.unread = 11
    assert here.send("1").outcome == "queued"

    delivery = here.send("2", critical=False)
    assert delivery == Delivery(outcome="refused", why="older messages wait")
    peer.unread = 0
    assert here.send("3", critical=False) == SENT

    assert peer.got == [b"1", b"3"]


def test_the_newest_connection_is_the_sessions():
    """
    The old one, half-open perhaps, is aborted, and its end means nothing any more.
    """
    here = Components()
    first = here.connect()
    second = here.connect()

    assert first.aborted
    here.connections.lost("a", first)
    assert here.send("1") == SENT
    assert second.got == [b"1"]
    assert here.connections.connected == 1


def test_the_same_connection_attached_twice_stays():
    """
    It is the session's already.
    """
    here = Components()
    peer = here.connect()

    assert here.connections.attach("a", peer) == "resumed"

    assert not peer.aborted
    assert here.metrics.snapshot().connections.active == 1


def test_a_session_has_its_own_queue():
    """
    What waits for one is nothing to another.
    """
    here = Components()
    here.connections.lost("a", here.connect("a"))
    b = here.connect("b")
    here.send("for a", "a")
    here.send("for b", "b")

    assert b.got == [b"for b"]
    assert here.connect("a").got == [b"for a"]


# ---- repetitions


@pytest.mark.parametrize("critical", [False, True])
def test_a_repetition_is_answered_and_not_sent(critical: bool):
    """
    It has the outcome of the message it repeats.
    """
    here = Components()
    peer = here.connect()
    here.send("1", critical=critical)

    delivery = here.send("1", critical=critical)

    assert delivery == Delivery(outcome="sent", repeated=True)
    assert peer.got == [b"1"]
    assert here.metrics.snapshot().messages.deduplicated == 1


def test_a_repetition_of_a_queued_message_is_queued():
    """
    Once: the peer gets it once.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    here.send("1")

    assert here.send("1") == Delivery(outcome="queued", repeated=True)
    assert here.connect().got == [b"1"]


def test_names_are_a_sessions_own():
    """
    The same name to another session is another message.
    """
    here = Components()
    here.connect("a")
    b = here.connect("b")
    here.send("1", "a")

    assert here.send("1", "b") == SENT
    assert b.got == [b"1"]


def test_messages_without_a_name_repeat_nothing():
    """
    Two replies may look alike and both be meant.
    """
    here = Components()
    peer = here.connect()

    for _ in range(2):
        assert here.send("hello_ack", name="", critical=False) == SENT

    assert peer.got == [b"hello_ack"] * 2


def test_a_message_whose_sending_failed_is_no_repetition():
    """
    The original wrote the name down first, and called the second try sent: it was lost.
    """
    here = Components()
    here.connect().failing = "before"
    assert here.send("1", critical=False).outcome == "refused"
    peer = here.connect()

    assert here.send("1", critical=False) == SENT
    assert peer.got == [b"1"]


def test_a_message_sent_before_a_loss_is_no_repetition_unless_acknowledged():
    """
    Nobody knows whether it arrived; who tries again is not told that it did.
    """
    here = Components()
    first = here.connect()
    here.send("1", critical=False)
    here.send("2", critical=False)
    here.connections.acknowledged("a", "2")
    here.connections.lost("a", first)
    second = here.connect()

    assert here.send("1", critical=False) == SENT
    assert here.send("2", critical=False) == Delivery(outcome="sent", repeated=True)
    assert second.got == [b"1"]


@pytest.mark.parametrize(("passed_s", "repeated"), [(9.999, True), (10.0, False), (10.001, False)])
def test_a_name_is_remembered_for_its_time(passed_s: float, repeated: bool):
    """
    At its end it is a new message.
    """
    here = Components(repeat_ttl_s=10)
    here.connect()
    here.send("1")
    here.connections.acknowledged("a", "1")

    here.clock.pass_(passed_s)

    assert here.send("1").repeated is repeated


@pytest.mark.parametrize(("others", "repeated"), [(1, True), (2, True), (3, False)])
def test_so_many_names_are_remembered(others: int, repeated: bool):
    """
    The oldest is forgotten first.
    """
    here = Components(repeat_names=3)
    here.connect()
    here.send("1", critical=False)
    for n in range(others):
        here.send(f"other {n}", critical=False)

    assert here.send("1", critical=False).repeated is repeated


def test_a_ttl_of_nothing_remembers_nothing():
    """
    0 is 0, and not the default.
    """
    here = Components(repeat_ttl_s=0)
    peer = here.connect()

    for _ in range(2):
        assert here.send("1", critical=False) == SENT

    assert peer.got == [b"1"] * 2


def test_a_digest_names_what_says_the_same():
    """
    SHA-256, as anybody computes it.
    """
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ---- transports that fail, and one that lies


@pytest.mark.parametrize("failing", ["before", "after"])
def test_a_transport_that_fails_is_given_up_and_the_message_kept(failing: Any):
    """
    Whether the message left is not known: it is sent again, under its name.
    """
    here = Components()
    peer = here.connect()
    peer.failing = failing

    delivery = here.send("1")

    assert delivery.outcome == "queued"
    assert "the transport failed: " in delivery.why
    assert peer.aborted
    assert here.connections.connected == 0
    assert here.connect().got == [b"1"]


@pytest.mark.parametrize("failing", ["before", "after"])
def test_of_a_message_a_transport_failed_over_nobody_claims_that_it_did_not_leave(failing: Any):
    """
    It is refused, and may have left.
    """
    here = Components()
    here.connect().failing = failing

    delivery = here.send("1", critical=False)

    assert (delivery.outcome, delivery.may_have_left) == ("refused", True)
    assert not here.send("1", critical=False).may_have_left


def test_a_connection_lost_within_send_keeps_the_message():
    """
    The transport called back before it returned.
    """
    here = Components()
    peer = here.connect()
    peer.while_sending = lambda: here.connections.lost("a", peer)

    assert here.send("1").outcome == "queued"

    assert here.connect().got == [b"1"]


def test_a_message_acknowledged_within_send_has_ended():
    """
    A peer within this process may be as quick as that.
    """
    here = Components()
    peer = here.connect()
    peer.while_sending = lambda: here.connections.acknowledged("a", "1")

    assert here.send("1") == SENT

    assert here.ends == [("a", b"1", "acknowledged")]
    assert here.connections.kept("a") == 0


def test_what_is_sent_within_send_goes_behind():
    """
    The order of `send` is that of its callers, the one within included.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    here.send("1")
    here.send("2")
    peer = MadeUp()
    peer.while_sending = lambda: here.send("3")

    here.connections.attach("a", peer)

    assert peer.got == [b"1", b"2", b"3"]


@pytest.mark.parametrize(("tries", "kept"), [(2, 1), (3, 0)])
def test_a_message_that_breaks_every_connection_is_given_up(tries: int, kept: int):
    """
    After so many, so that those behind it get their turn.
    """
    here = Components(max_tries=3)
    here.connections.lost("a", here.connect())
    here.send("poison")

    for _ in range(tries):
        peer = MadeUp()
        peer.failing = "before"
        here.connections.attach("a", peer)

    assert here.connections.kept("a") == kept
    assert here.ends == ([] if kept else [("a", b"poison", "poison")])


def test_a_message_given_up_at_its_first_try_is_not_called_queued():
    """
    It is not kept.
    """
    here = Components(max_tries=1)
    here.connect().failing = "after"

    delivery = here.send("1")

    assert (delivery.outcome, delivery.may_have_left) == ("refused", True)
    assert here.ends == [("a", b"1", "poison")]


def test_a_breaker_of_its_own_leaves_a_failing_peer_alone():
    """
    Five connections that fail; then nothing is tried until its time has passed. Others are served.
    """
    here = Components(breaker=BreakerSettings(failures=5, open_s=60, successes=1), max_tries=100)
    here.connections.lost("a", here.connect("a"))
    here.send("1", "a")
    for _ in range(5):
        peer = MadeUp()
        peer.failing = "before"
        here.connections.attach("a", peer)

    healthy = here.connect("a")
    assert healthy.got == []
    assert "breaker a is open" in here.send("2", "a").why
    assert here.send("for b", "b").outcome == "refused"
    here.connect("b")
    assert here.send("for b", "b") == SENT

    for _ in range(3):
        here.pass_(20.1)
        here.connections.heard("a")
    assert healthy.got == [b"1", b"2"]
    assert here.metrics.snapshot().breaker_totals.opens == 1


# ---- bounds


@pytest.mark.parametrize(("messages", "dropped"), [(2, []), (3, []), (4, [b"0"])])
def test_the_oldest_makes_room(messages: int, dropped: list[bytes]):
    """
    Three fit; of more the first are dropped, counted and told of.
    """
    here = Components(queue_messages=3)
    here.connections.lost("a", here.connect())

    for n in range(messages):
        assert here.send(str(n)).outcome == "queued"

    assert here.ends == [("a", each, "dropped") for each in dropped]
    assert here.metrics.snapshot().queue.overflows == len(dropped)
    assert here.connect().got == [str(n).encode() for n in range(len(dropped), messages)]


@pytest.mark.parametrize(("size", "dropped"), [(4, 0), (5, 0), (6, 1)])
def test_a_queue_is_bounded_in_bytes(size: int, dropped: int):
    """
    Ten bytes: a message of five goes with one of five.
    """
    here = Components(queue_bytes=10)
    here.connections.lost("a", here.connect())

    here.send("12345")
    here.send("x" * size)

    assert len(here.ends) == dropped


def test_a_message_larger_than_a_queue_is_refused():
    """
    It would only empty it.
    """
    here = Components(queue_bytes=10)
    here.connections.lost("a", here.connect())
    here.send("1")

    delivery = here.send("x" * 11)

    assert delivery.why == "11 bytes; expected at most 10 (queue_bytes)"
    assert here.connections.kept("a") == 1


def test_what_is_under_way_counts_against_the_bound():
    """
    A peer that acknowledges nothing is not kept for without end.
    """
    here = Components(queue_messages=2)
    here.connect()

    for text in ("1", "2", "3"):
        here.send(text)

    assert here.ends == [("a", b"1", "dropped")]


@pytest.mark.parametrize("under_way", [False, True])
@pytest.mark.parametrize(("passed_s", "ended"), [(9.99, 0), (10.01, 1)])
def test_a_message_expires(under_way: bool, passed_s: float, ended: int):
    """
    Waiting or unacknowledged, after its time it is sent no more, counted and told of.
    """
    here = Components(message_ttl_s=10)
    first = here.connect()
    if not under_way:
        here.connections.lost("a", first)
    here.send("old")
    if under_way:
        here.connections.lost("a", first)

    here.pass_(passed_s)

    assert here.ends == [("a", b"old", "expired")] * ended
    assert here.metrics.snapshot().messages.expired == ended
    assert len(here.connect().got) == 1 - ended


def test_an_expired_message_is_not_sent_by_a_flush_that_comes_first():
    """
    Nobody had called `advance` since.
    """
    here = Components(message_ttl_s=10)
    here.connections.lost("a", here.connect())
    here.send("old")
    here.clock.pass_(5)
    here.send("young")
    here.clock.pass_(5)

    assert here.connect().got == [b"young"]


def test_a_slow_peer_gets_what_is_critical_when_it_has_room():
    """
    Above the mark nothing more is put on the pile.
    """
    here = Components(high_water_bytes=100)
    peer = here.connect()
    peer.unread = 100
    assert here.send("1") == SENT
    peer.unread = 101

    assert here.send("2").why == "the peer reads too slowly"
    assert here.send("3", critical=False).outcome == "refused"
    peer.unread = 50
    here.connections.writable("a")

    assert peer.got == [b"1", b"2"]


def test_of_too_many_sessions_the_longest_gone_is_forgotten():
    """
    Its messages end as left; sessions with a connection stay, and where all have one a new
    session is refused.
    """
    here = Components(max_sessions=2)
    here.connections.lost("a", here.connect("a"))
    here.send("1", "a")
    here.connect("b")

    c = here.connect("c")
    assert here.ends == [("a", b"1", "left")]
    assert "a" not in here.connections
    assert here.connections.attach("d", MadeUp()) == "refused"
    here.connections.lost("c", c)
    here.connect("d")
    assert (len(here.connections), here.connections.connected) == (2, 2)


@pytest.mark.parametrize(("passed_s", "known"), [(19.9, True), (20.1, False)])
def test_a_session_without_a_connection_is_forgotten(passed_s: float, known: bool):
    """
    After its time, with what was kept for it, and its breaker.
    """
    here = Components(session_ttl_s=20, message_ttl_s=1000)
    here.connections.lost("a", here.connect())
    here.send("1")

    here.pass_(passed_s)

    assert ("a" in here.connections) is known
    assert ("a" in here.breakers) is known
    assert here.ends == ([] if known else [("a", b"1", "left")])
    assert here.connections.waiting == (1 if known else 0)


def test_a_session_with_a_connection_is_never_forgotten():
    """
    However quiet, as long as it answers pings.
    """
    here = Components(session_ttl_s=20)
    peer = here.connect()

    for _ in range(100):
        here.pass_(10)
        here.connections.heard("a")

    assert here.send("1") == SENT
    assert peer.got == [b"1"]


# ---- silence


@pytest.mark.parametrize(("passed_s", "pings"), [(29.9, 0), (30.1, 1)])
def test_a_silent_peer_is_pinged(passed_s: float, pings: int):
    """
    After the interval, counted from what was received last.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.pass_(5)
    here.connections.message_came("a")

    here.pass_(passed_s)

    assert peer.pings == pings


@pytest.mark.parametrize(("passed_s", "gone"), [(39.9, False), (40.1, True)])
def test_a_half_open_connection_is_found_within_interval_and_timeout(passed_s: float, gone: bool):
    """
    What we sent meanwhile proves nothing.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    for n in range(int(passed_s)):
        here.send(str(n), critical=False)
        here.pass_(1)
    here.pass_(passed_s % 1)

    assert peer.aborted is gone
    assert here.metrics.snapshot().connections.timeouts == int(gone)


@pytest.mark.parametrize("sign", ["heard", "message_came"])
def test_any_sign_of_life_counts(sign: str):
    """
    A pong, or a message, even one that is no answer to the ping.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.pass_(35)
    assert peer.pings == 1

    getattr(here.connections, sign)("a")
    here.pass_(29)

    assert not peer.aborted
    here.pass_(12)
    assert peer.aborted


@pytest.mark.parametrize("sign", ["heard", "message_came"])
def test_after_its_answer_a_peer_is_pinged_again_in_an_interval(sign: str):
    """
    However long an answer may take: else it could be silent for twice that time unnoticed.
    """
    here = Components(ping_interval_s=1, ping_timeout_s=60)
    peer = here.connect()
    here.pass_(1)
    getattr(here.connections, sign)("a")

    here.pass_(1)

    assert peer.pings == 2


def test_silence_while_we_were_held_up_is_not_the_peers():
    """
    Its pong may lie unread; it is asked once more, and given up only if that stays unanswered.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peer = here.connect()
    here.pass_(30)
    assert peer.pings == 1

    here.clock.pass_(600)
    here.connections.advance()

    assert not peer.aborted
    assert peer.pings == 2
    here.pass_(10.1)
    assert peer.aborted


def test_an_idle_peer_is_closed_however_well_it_answers_pings():
    """
    Pongs are no messages; 1001, and it may come back.
    """
    here = Components(ping_interval_s=10, ping_timeout_s=5, idle_s=60)
    peer = here.connect()
    for _ in range(12):
        here.pass_(5)
        here.connections.heard("a")
        if peer.closed:
            break

    here.pass_(0.1)
    assert peer.closed == [(1001, "idle for 60 s", 5)]
    assert here.send("1") == Delivery(outcome="queued", why="the connection is being closed")
    here.connections.lost("a", peer)
    assert here.connect().got == [b"1"]


def test_a_peer_that_sends_is_not_idle():
    """
    The time is counted from its last message.
    """
    here = Components(ping_interval_s=10, ping_timeout_s=5, idle_s=60)
    peer = here.connect()

    for _ in range(10):
        here.pass_(5)
        here.connections.heard("a")
        here.connections.message_came("a")

    here.pass_(5)
    assert peer.closed == []


@pytest.mark.parametrize("back_s", [1, 100, 10**6])
def test_a_clock_that_jumps_back_holds_nothing_up(back_s: float):
    """
    Pings, the half-open, expiry and forgetting go on from where the clock is now.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10, message_ttl_s=50, session_ttl_s=20)
    peer = here.connect("a")
    here.connections.lost("b", here.connect("b"))
    here.send("1", "a")

    here.clock.pass_(-back_s)
    here.connections.advance()
    here.pass_(40.1)

    assert peer.aborted
    assert "b" not in here.connections
    here.pass_(10)
    assert ("a", b"1", "expired") in here.ends or ("a", b"1", "left") in here.ends


@pytest.mark.parametrize("asked", ["ping", "close"])
def test_a_transport_that_cannot_even_ping_or_close_is_given_up(asked: str):
    """
    And the others are attended to all the same.
    """
    here = Components(ping_interval_s=10, ping_timeout_s=5, idle_s=None if asked == "ping" else 10)
    broken = here.connect("a")
    setattr(broken, asked, broken_by_itself)
    b = here.connect("b")

    here.pass_(10)

    assert broken.aborted
    assert (b.pings, len(b.closed)) == (1, int(asked == "close"))
    here.pass_(0.1)
    assert here.connections.connected == 1


def broken_by_itself(*args: Any, **kwargs: Any) -> None:
    raise OSError("gone")


# ---- shutdown


def test_a_shutdown_closes_with_1001_once_all_is_acknowledged():
    """
    New messages are refused; what is kept is waited for.
    """
    here = Components()
    peer = here.connect()
    here.send("1")

    here.connections.shut_down(within_s=10)
    assert peer.closed == []
    assert here.send("2") == Delivery(outcome="refused", why="shutting down")
    assert here.connections.attach("b", MadeUp()) == "refused"
    here.connections.acknowledged("a", "1")

    assert peer.closed == [(1001, "going away", 10)]
    assert here.connections.farewell is None
    here.connections.lost("a", peer)
    farewell = here.connections.farewell
    assert farewell is not None
    assert (farewell.sessions, farewell.closed, farewell.left) == (1, 1, {})


def test_a_shutdown_flushes_what_waits_for_room():
    """
    Then closes, and says so.
    """
    here = Components(keep="until_sent", high_water_bytes=10)
    peer = here.connect()
    peer.unread = 11
    here.send("1")
    here.connections.shut_down(within_s=10)

    peer.unread = 5
    here.connections.writable("a")
    assert (peer.got, peer.closed) == ([b"1"], [])
    peer.unread = 0
    here.pass_(0.1)
    here.connections.writable("a")

    assert [code for code, *_ in peer.closed] == [1001]


@pytest.mark.parametrize(
    ("passed_s", "closed", "aborted"), [(6.9, 0, False), (7.1, 1, False), (10.1, 1, True)]
)
def test_a_shutdown_is_bounded(passed_s: float, closed: int, aborted: bool):
    """
    Seven tenths for flushing, then it closes; at the end it aborts, and says what was left.
    """
    here = Components()
    peer = here.connect()
    here.send("1")
    here.connections.shut_down(within_s=10)

    here.pass_(passed_s)

    assert (len(peer.closed), peer.aborted) == (closed, aborted)
    farewell = here.connections.farewell
    assert (farewell is not None) is aborted
    if farewell is not None:
        assert farewell.left == {"a": 1}
        assert here.ends == [("a", b"1", "left")]


def test_a_shutdown_waits_for_nobody_who_is_absent():
    """
    With no connection there is nothing to flush: it is over at once, and again changes nothing.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    here.send("1")

    here.connections.shut_down()
    here.connections.shut_down()

    farewell = here.connections.farewell
    assert farewell is not None
    assert (farewell.sessions, farewell.closed, farewell.left) == (1, 0, {"a": 1})
    assert here.connections.next_due_s is None


def test_a_shutdown_takes_no_longer_for_a_clock_that_jumps_back():
    """
    From the jump on it has the time it had.
    """
    here = Components()
    peer = here.connect()
    here.send("1")
    here.connections.shut_down(within_s=10)

    here.clock.pass_(-5000)
    here.connections.advance()
    here.pass_(10)

    assert peer.aborted
    assert here.connections.farewell is not None


def test_a_shutdown_without_sessions_is_over():
    """
    There is nobody to wait for.
    """
    here = Components()

    here.connections.shut_down()

    assert here.connections.farewell is not None


# ---- the rest


def test_who_is_told_of_an_end_may_send_and_may_fail(caplog: pytest.LogCaptureFixture):
    """
    All is in order by then; a mistake of theirs is logged and stops nothing.
    """
    here = Components()
    peer = here.connect()
    told: list[End] = []

    def on_end(session: str, ended: Message, how: End) -> None:
        told.append(how)
        if len(told) == 1:
            here.send("2")
        raise RuntimeError("on_end")

    here.connections._ends._on_end = on_end
    here.send("1")
    here.connections.acknowledged("a", "1")

    assert peer.got == [b"1", b"2"]
    assert told == ["acknowledged"]
    assert "session a: on_end failed" in caplog.text


def test_other_settings_hold_from_now_on():
    """
    For connections there are, too.
    """
    here = Components(ping_interval_s=1000)
    peer = here.connect()

    here.connections.adopt(ConnectionSettings(ping_interval_s=5))
    here.pass_(5.1)

    assert peer.pings == 1


def test_news_of_sessions_that_nobody_knows_is_no_news():
    """
    They may have been forgotten meanwhile.
    """
    here = Components()
    connections = here.connections

    connections.heard("who")
    connections.message_came("who")
    connections.writable("who")
    connections.lost("who", MadeUp())

    assert (len(connections), connections.kept("who"), connections.next_due_s) == (0, 0, None)


def test_it_tells_when_time_is_needed_next():
    """
    The first ping, then the end of its time.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    here.connect()
    assert here.connections.next_due_s == 1030

    here.pass_(30)

    assert here.connections.next_due_s == 1040


def test_figures_add_up():
    """
    What metrics say is what happened here.
    """
    here = Components()
    first = here.connect()
    here.send("1")
    here.send("2", critical=False)
    here.connections.message_came("a")
    here.connections.lost("a", first)
    here.send("3")
    here.send("4", critical=False)
    here.connect()

    figures = here.metrics.snapshot()
    connections, messages, queue = figures.connections, figures.messages, figures.queue
    assert (connections.total, connections.active, connections.reconnections) == (2, 1, 1)
    # "1" was sent twice: nobody had acknowledged it.
    assert (messages.sent, messages.received, messages.queued, messages.failed) == (4, 1, 1, 1)
    assert (queue.size, queue.peak) == (0, 2)


def test_settings_that_contradict_one_another_are_refused():
    """
    A peer would be closed for being idle before it was ever asked.
    """
    with pytest.raises(InvalidValue, match=r"idle_s +10 is less than ping_interval_s, 30"):
        ConnectionSettings(idle_s=10, ping_interval_s=30)
    with pytest.raises(InvalidValue, match="message_ttl_s"):
        ConnectionSettings(message_ttl_s=math.nan)


def test_a_made_up_message_is_what_it_says():
    """
    The shape that the tests above send.
    """
    assert message("x") == Message(data=b"x", id="x", critical=True)
