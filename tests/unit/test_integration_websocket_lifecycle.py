"""
One client's life with the components together: connect, talk, lose, come back, leave.

Components around a made-up connection, no socket: isolated classes; says nothing about the
system.
"""

from __future__ import annotations

import pytest

from tests.unit.made_up import Components, MadeUp


def test_a_whole_life_is_in_the_figures():
    """
    Two connections, four messages, one of them late, and at the end nobody is there.
    """
    here = Components()
    first = here.connect()
    here.connections.message_came("a")
    here.send("1")
    here.connections.acknowledged("a", "1")
    here.connections.lost("a", first)
    here.send("2")
    here.pass_(3)
    second = here.connect()
    here.connections.acknowledged("a", "2")
    here.send("3")
    here.connections.acknowledged("a", "3")
    here.connections.shut_down()
    here.connections.lost("a", second)

    figures = here.metrics.snapshot()
    connections, messages = figures.connections, figures.messages
    assert (first.got, second.got) == ([b"1"], [b"2", b"3"])
    assert (connections.total, connections.active, connections.reconnections) == (2, 0, 1)
    assert (messages.sent, messages.received, messages.queued) == (3, 1, 1)
    assert figures.queue_wait.high_ms == pytest.approx(3000, rel=0.01)
    assert [how for _, _, how in here.ends] == ["acknowledged"] * 3
    assert here.connections.farewell is not None
    assert here.connections.farewell.left == {}


def test_what_waited_is_told_apart_from_what_did_not():
    """
    The wait in the queue has a histogram of its own.
    """
    here = Components()
    here.connections.lost("a", here.connect())
    here.send("1")
    here.pass_(2)
    here.connect()
    here.send("2", critical=False)

    figures = here.metrics.snapshot()
    assert (figures.queue_wait.count, figures.latency.count) == (1, 2)


def test_connections_come_and_go_and_leave_nothing_behind():
    """
    After a hundred of them there is one session, one breaker, one client, and no queue.
    """
    here = Components()
    for n in range(100):
        peer = here.connect()
        here.send(str(n))
        here.connections.acknowledged("a", str(n))
        here.connections.lost("a", peer)

    figures = here.metrics.snapshot()
    assert (len(here.connections), len(here.breakers)) == (1, 1)
    assert (figures.live_clients, figures.gone_clients) == (0, 1)
    assert figures.connections.reconnections == 99
    assert here.connections.waiting == 0
    here.pass_(301)
    assert (len(here.connections), len(here.breakers)) == (0, 0)


def test_a_refused_connection_counts_as_none():
    """
    All places are taken by clients that are there.
    """
    here = Components(max_sessions=1)
    here.connect("a")

    assert here.connections.attach("b", MadeUp()) == "refused"

    assert here.metrics.snapshot().connections.total == 1
    assert here.send("1", "b").outcome == "refused"


def test_a_second_connection_of_a_session_is_a_reconnection():
    """
    The first was half-open: one is active, whatever the first one's end says later.
    """
    here = Components()
    first = here.connect()
    here.connect()
    here.connections.lost("a", first)

    connections = here.metrics.snapshot().connections
    assert (connections.total, connections.active, connections.reconnections) == (2, 1, 1)
