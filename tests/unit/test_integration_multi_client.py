"""
Many clients with the components together: each has its own, and one harms no other.

Components around made-up connections, no socket: isolated classes; says nothing about the
system.
"""

from __future__ import annotations

import pytest

from harness.resilience.breaker import BreakerSettings
from tests.unit.made_up import Components, MadeUp

CLIENTS = [f"client-{n}" for n in range(100)]


def test_each_of_a_hundred_clients_gets_what_is_its_own():
    """
    The same names, the same bytes even; nothing goes astray, and figures are per client.
    """
    here = Components()
    peers = {name: here.connect(name) for name in CLIENTS}
    for n in range(5):
        for name in CLIENTS:
            here.send(f"{name} {n}", name, name=str(n))

    assert all(
        peer.got == [f"{name} {n}".encode() for n in range(5)] for name, peer in peers.items()
    )
    figures = here.metrics.snapshot()
    assert figures.messages.sent == 500
    assert {view.sent for view in figures.clients.values()} == {5}


def test_five_dead_clients_keep_nobody_else_from_being_served():
    """
    Their breakers are open; the other ninety-five notice nothing.
    """
    here = Components(breaker=BreakerSettings(failures=2), max_tries=100)
    for name in CLIENTS[:5]:
        here.connections.lost(name, here.connect(name))
        here.send("1", name)
        for _ in range(2):
            dead = MadeUp()
            dead.failing = "before"
            here.connections.attach(name, dead)
    healthy = {name: here.connect(name) for name in CLIENTS[5:]}

    assert all(here.send("1", name).outcome == "sent" for name in healthy)
    assert all(peer.got == [b"1"] for peer in healthy.values())
    assert here.metrics.snapshot().breaker_totals.opens == 5


def test_one_slow_reader_holds_nobody_up():
    """
    What is critical waits for it alone.
    """
    here = Components(high_water_bytes=100)
    peers = {name: here.connect(name) for name in CLIENTS}
    peers["client-0"].unread = 10**6

    outcomes = {name: here.send("1", name).outcome for name in CLIENTS}

    assert outcomes.pop("client-0") == "queued"
    assert set(outcomes.values()) == {"sent"}


def test_all_fall_silent_and_all_are_found():
    """
    A switch died: a hundred half-open connections are given up together, in time.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peers = [here.connect(name) for name in CLIENTS]

    here.pass_(40.1)

    assert all(peer.aborted and peer.pings == 1 for peer in peers)
    assert here.metrics.snapshot().connections.timeouts == 100
    assert (here.connections.connected, len(here.connections)) == (0, 100)


@pytest.mark.parametrize("quiet", [1, 50])
def test_only_the_silent_are_given_up(quiet: int):
    """
    Whoever answers stays.
    """
    here = Components(ping_interval_s=30, ping_timeout_s=10)
    peers = {name: here.connect(name) for name in CLIENTS}
    here.pass_(30)
    for name in CLIENTS[quiet:]:
        here.connections.heard(name)

    here.pass_(10.1)

    assert [peers[name].aborted for name in CLIENTS] == [True] * quiet + [False] * (100 - quiet)


def test_a_herd_that_comes_back_finds_its_queues():
    """
    The daemon's peers all lose their connection at once, and reconnect in another order.
    """
    here = Components()
    for name in CLIENTS:
        here.connections.lost(name, here.connect(name))
        here.send(f"for {name}", name, name="1")
    assert here.metrics.snapshot().queue.size == 100

    peers = {name: here.connect(name) for name in reversed(CLIENTS)}

    assert all(peer.got == [f"for {name}".encode()] for name, peer in peers.items())
    figures = here.metrics.snapshot()
    assert (figures.queue.size, figures.queue.peak) == (0, 100)


def test_a_shutdown_tells_everybody():
    """
    Each gets what was kept for it, then 1001; who does not acknowledge is named.
    """
    here = Components()
    peers = {name: here.connect(name) for name in CLIENTS}
    for name in CLIENTS:
        here.send("last", name)

    here.connections.shut_down(within_s=10)
    for name in CLIENTS[1:]:
        here.connections.acknowledged(name, "last")
    here.pass_(7.1)
    for name, peer in peers.items():
        here.connections.lost(name, peer)

    assert all([code for code, *_ in peer.closed] == [1001] for peer in peers.values())
    farewell = here.connections.farewell
    assert farewell is not None
    assert (farewell.sessions, farewell.closed, farewell.left) == (100, 100, {"client-0": 1})
