"""
Sessions against a model: any interleaving of sends, losses, reconnects, time and failures.

The peer of each session is made up whole: what reaches it it takes once, and acknowledges
when the test says so. What must hold whatever happens:

- each critical message that was sent or queued is kept, or has ended, once;
- none that a peer acknowledged reaches it again on a later connection;
- what a peer takes, it takes in the order of `send`;
- nothing is above its bound, and figures agree with what happened;
- nobody who is silent for a ping's interval and timeout together keeps a connection.

Isolated classes; says nothing about the system.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Literal

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.resilience.breaker import BreakerSettings
from tests.unit.made_up import Components, MadeUp

SESSIONS = st.sampled_from(["a", "b"])
LIMIT = 6


class Peer:
    """The other end of a session: what it took, and what it has still to acknowledge."""

    def __init__(self) -> None:
        self.transport: MadeUp | None = None
        self.taken: list[bytes] = []
        self.to_acknowledge: list[str] = []
        self.acknowledged: set[bytes] = set()
        self.read = 0

    def take(self) -> None:
        """Read what has come."""
        if self.transport is None:
            return
        for data in self.transport.got[self.read :]:
            assert data not in self.acknowledged, f"{data!r} was acknowledged, and sent again"
            self.to_acknowledge.append(data.decode())
            if data not in self.taken:
                self.taken.append(data)
        self.read = len(self.transport.got)


class ConnectionsMachine(RuleBasedStateMachine):
    """Drives sessions and their peers."""

    @initialize(
        keep=st.sampled_from(["until_acknowledged", "until_sent"]),
        pings=st.sampled_from([(30, 10), (5, 35)]),
    )
    def begin(
        self, keep: Literal["until_acknowledged", "until_sent"], pings: tuple[int, int]
    ) -> None:
        self.here = Components(
            breaker=BreakerSettings(failures=2, open_s=15, probes=1, successes=1),
            keep=keep,
            queue_messages=LIMIT,
            queue_bytes=1000,
            message_ttl_s=100,
            session_ttl_s=10_000,
            max_tries=3,
            ping_interval_s=pings[0],
            ping_timeout_s=pings[1],
            repeat_ttl_s=50,
            repeat_names=5,
        )
        self.peers = {"a": Peer(), "b": Peer()}
        self.accepted: dict[str, list[bytes]] = {"a": [], "b": []}
        self.refused = 0
        self.opened = 0
        self.serial = 0

    def attach(self, session: str, failing: Literal["", "before", "after"] = "") -> None:
        peer = self.peers[session]
        peer.take()
        peer.transport, peer.read = MadeUp(), 0
        peer.transport.failing = failing
        assert self.here.connections.attach(session, peer.transport) != "refused"
        self.opened += 1

    @rule(session=SESSIONS)
    def connect(self, session: str) -> None:
        self.attach(session)

    @rule(session=SESSIONS, failing=st.sampled_from(["before", "after"]))
    def connect_badly(self, session: str, failing: Literal["before", "after"]) -> None:
        self.attach(session, failing)

    @rule(session=SESSIONS)
    def lose(self, session: str) -> None:
        peer = self.peers[session]
        peer.take()
        if peer.transport is not None:
            self.here.connections.lost(session, peer.transport)

    @rule(session=SESSIONS)
    def close(self, session: str) -> None:
        transport = self.peers[session].transport
        if transport is not None:
            transport.closing = True
            self.here.connections.closing(session, transport)

    @rule(session=SESSIONS, critical=st.booleans())
    def send(self, session: str, critical: bool) -> None:
        self.serial += 1
        text = f"{self.serial}"
        ends = len(self.here.ends)
        known = session in self.here.connections
        delivery = self.here.send(text, session, critical=critical)
        assert delivery.repeated is False
        gone = [end for end in self.here.ends[ends:] if end[:2] == (session, text.encode())]
        if delivery.outcome == "refused":
            assert not critical or not known or gone
        elif critical:
            self.accepted[session].append(text.encode())
        if critical and gone and delivery.outcome == "refused":
            self.accepted[session].append(text.encode())
        assert delivery.outcome != "queued" or critical

    @rule(session=SESSIONS, which=st.integers(0, 5))
    def repeat(self, session: str, which: int) -> None:
        """A message that is kept is sent once more: nothing comes of it."""
        outbox = self.here.connections._peers[session].outbox if self.known(session) else None
        kept = [] if outbox is None else [each.message for each in outbox.entries()]
        if kept:
            delivery = self.here.connections.send(session, kept[which % len(kept)])
            assert delivery.repeated

    @rule(session=SESSIONS, count=st.integers(1, 3))
    def acknowledge(self, session: str, count: int) -> None:
        peer = self.peers[session]
        peer.take()
        for name in peer.to_acknowledge[:count]:
            self.here.connections.acknowledged(session, name)
            peer.acknowledged.add(name.encode())
        peer.to_acknowledge = [
            name for name in peer.to_acknowledge[count:] if name.encode() not in peer.acknowledged
        ]

    @rule(session=SESSIONS, unread=st.sampled_from([0, 10**9]), told=st.booleans())
    def read_slowly(self, session: str, unread: int, told: bool) -> None:
        transport = self.peers[session].transport
        if transport is not None:
            transport.unread = unread
            if not unread and told:
                self.here.connections.writable(session)

    @rule(session=SESSIONS)
    def hear(self, session: str) -> None:
        if not self.is_gone(session):
            self.here.connections.message_came(session)

    @rule(seconds=st.sampled_from([1, 9.99, 10, 15, 29.99, 30, 40, 101]))
    def pass_(self, seconds: float) -> None:
        self.here.pass_(seconds)

    @rule(seconds=st.sampled_from([0.001, 5, 1000]))
    def jump_back(self, seconds: float) -> None:
        self.here.clock.pass_(-seconds)
        self.here.connections.advance()

    def known(self, session: str) -> bool:
        return session in self.here.connections

    def is_gone(self, session: str) -> bool:
        peer = self.here.connections._peers.get(session)
        return peer is None or peer.transport is None

    @invariant()
    def none_vanishes(self) -> None:
        for session, accepted in self.accepted.items():
            ended = Counter(data for name, data, _ in self.here.ends if name == session)
            assert set(ended.values()) <= {1}
            peer = self.here.connections._peers.get(session)
            kept = [] if peer is None else [each.message.data for each in peer.outbox.entries()]
            assert sorted(accepted) == sorted([*ended, *kept])
            # In the order they were sent in, whatever happened in between.
            assert kept == [data for data in accepted if data in kept]

    @invariant()
    def in_order(self) -> None:
        for session, peer in self.peers.items():
            peer.take()
            critical = [data for data in peer.taken if data in self.accepted[session]]
            assert critical == sorted(critical, key=int)

    @invariant()
    def within_bounds(self) -> None:
        waiting = 0
        for peer in self.here.connections._peers.values():
            assert len(peer.outbox) <= LIMIT
            assert peer.outbox.bytes == sum(len(e.message.data) for e in peer.outbox.entries())
            assert len(peer.seen) <= 5
            waiting += peer.outbox.waiting
        assert self.here.connections.waiting == waiting

    @invariant()
    def the_silent_are_found(self) -> None:
        for peer in self.here.connections._peers.values():
            silent_s = self.here.clock() - peer.heard_s
            assert peer.transport is None or silent_s <= 40 + 1e-3

    @invariant()
    def figures_agree(self) -> None:
        figures = self.here.metrics.snapshot()
        ends = Counter(how for _, _, how in self.here.ends)
        assert figures.queue.size == self.here.connections.waiting
        assert figures.queue.overflows == ends["dropped"]
        assert figures.messages.expired == ends["expired"]
        assert figures.connections.total == self.opened
        assert figures.connections.active == self.here.connections.connected

    def teardown(self) -> None:
        """With time and good connections, what is kept arrives and ends."""
        if not hasattr(self, "here"):
            return
        for session in self.peers:
            if not self.known(session):
                continue
            self.attach(session)
            for _ in range(4):
                self.here.pass_(16)
                self.here.connections.message_came(session)
                self.acknowledge(session, 100)
            assert self.here.connections.kept(session) == 0


ConnectionsMachine.TestCase.settings = hypothesis_settings(
    max_examples=20, stateful_step_count=30, deadline=None
)
TestConnectionsAgainstTheirModel = ConnectionsMachine.TestCase


@pytest.mark.parametrize("keep", ["until_acknowledged", "until_sent"])
@pytest.mark.parametrize("seed", range(8))
def test_a_long_life_of_two_sessions(seed: int, keep: Literal["until_acknowledged", "until_sent"]):
    """
    The same rules for hundreds of steps: the short lives above seldom get to acknowledge much.
    """
    chance = random.Random(seed)
    life = ConnectionsMachine()
    life.begin(keep=keep, pings=chance.choice([(30, 10), (5, 35)]))

    for _ in range(300):
        step(life, chance)
        life.none_vanishes()
        life.in_order()
        life.within_bounds()
        life.the_silent_are_found()

    life.figures_agree()
    ends = Counter(how for _, _, how in life.here.ends)
    assert ends["acknowledged" if keep == "until_acknowledged" else "sent"] >= 10
    life.teardown()


def step(life: ConnectionsMachine, chance: random.Random) -> None:
    """One of the rules, those most often without which the others have nothing to do."""
    session = chance.choice("ab")
    match chance.choices(range(11), weights=(8, 6, 3, 2, 2, 2, 2, 2, 1, 3, 1))[0]:
        case 0:
            life.send(session=session, critical=chance.random() < 0.8)
        case 1:
            life.acknowledge(session=session, count=chance.randint(1, 3))
        case 2:
            life.connect(session=session)
        case 3:
            life.connect_badly(session=session, failing=chance.choice(["before", "after"]))
        case 4:
            life.lose(session=session)
        case 5:
            told = chance.random() < 0.8
            life.read_slowly(session=session, unread=chance.choice([0, 10**9]), told=told)
        case 6:
            life.repeat(session=session, which=chance.randint(0, 5))
        case 7:
            life.pass_(seconds=chance.choice([1, 9.99, 10, 15, 30]))
        case 8:
            life.jump_back(seconds=chance.choice([0.001, 5, 1000]))
        case 9:
            life.hear(session=session)
        case 10:
            life.close(session=session)
