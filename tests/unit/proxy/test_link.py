"""One direction of one connection, driven with made-up times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import Draws
from harness.faults.bandwidth import Bandwidth
from harness.faults.base import EOF, RESET, Piece, Toxic
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.proxy.link import Link

DRAWS = Draws(7, "test")
LATER = 1e6


def chain(*toxics: Toxic, now: float = 0.0) -> Link:
    """A link with these toxics, named 0, 1, 2, … in order."""
    link = Link()
    for number, toxic in enumerate(toxics):
        link.add(str(number), toxic.pipe(DRAWS, now))
    return link


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def test_an_empty_chain_passes_bytes_and_the_end_at_once():
    """Without toxics what goes in comes out, in order."""
    link = chain()
    link.receive_data(b"a", 1.0)
    link.receive_data(b"b", 1.0)
    link.receive_eof(1.0)

    assert link.advance(1.0) == [b"a", b"b", EOF]


def test_a_fresh_link_is_straight_and_a_toxic_bends_it():
    """Bytes may pass beside the chain only while no toxic stands in it."""
    link = chain()
    assert link.straight

    link.add("slow", Latency(latency_ms=5).pipe(DRAWS, 0.0))
    assert not link.straight

    link.remove("slow", 0.0)
    assert link.straight


def test_a_link_is_not_straight_while_bytes_wait_in_it():
    """Bytes that pass beside must not overtake those that were released and not yet written."""
    link = chain(Latency(latency_ms=60_000))
    link.receive_data(b"held", 0.0)
    link.remove("0", 0.0)
    assert not link.straight

    assert link.advance(0.0) == [b"held"]
    assert link.straight


def test_a_link_without_toxics_is_not_straight_while_bytes_wait_in_it():
    """What arrives before there is anybody to write to keeps its place."""
    link = chain()
    link.receive_data(b"early", 0.0)

    assert not link.straight


def test_a_link_that_ended_is_never_straight_again():
    """After the end bytes must not pass beside the chain either."""
    link = chain()
    link.receive_eof(0.0)
    link.advance(0.0)

    assert not link.straight


def test_a_toxic_acts_on_what_the_one_before_it_gives_out():
    """The delay of the second latency begins when the first lets go."""
    link = chain(Latency(latency_ms=100), Latency(latency_ms=50))
    link.receive_data(b"x", 0.0)

    assert link.advance(0.1) == []
    assert link.next_due() == pytest.approx(0.15)
    assert link.advance(0.16) == [b"x"]


def test_next_due_is_the_earliest_of_all_toxics():
    """A relay wakes up for whichever toxic is due first."""
    link = chain(Latency(latency_ms=500), Latency(latency_ms=100))
    link.receive_data(b"a", 0.0)
    link.advance(0.5)
    link.receive_data(b"b", 0.55)

    assert link.next_due() == pytest.approx(0.6)


def test_nothing_is_due_where_nothing_waits():
    """An idle chain needs no timer."""
    assert chain(Latency(latency_ms=500), Bandwidth(rate_kb_per_s=1)).next_due() is None


def test_toxics_stand_where_they_are_put():
    """Added at the end unless told where."""
    link = chain(Latency(latency_ms=0), Latency(latency_ms=0))
    link.add("first", Latency(latency_ms=0).pipe(DRAWS, 0.0), index=0)
    link.add("last", Latency(latency_ms=0).pipe(DRAWS, 0.0))

    assert link.names() == ["first", "0", "1", "last"]


def test_a_toxic_put_in_front_acts_before_the_others():
    """A limit before a delay counts what arrives, not what left."""
    link = chain(Latency(latency_ms=1_000))
    link.add("limit", LimitData(limit_bytes=2).pipe(DRAWS, 0.0), index=0)
    link.receive_data(b"abc", 0.0)

    assert link.advance(0.0) == []
    assert link.advance(1.0) == [b"ab", EOF]


def test_the_end_waits_for_the_bytes_before_it():
    """A half-closed source's bytes come out before its end."""
    link = chain(Latency(latency_ms=100))
    link.receive_data(b"last", 0.0)
    link.receive_eof(0.0)

    assert link.advance(0.05) == []
    assert link.advance(0.1) == [b"last", EOF]


def test_nothing_comes_out_after_the_end():
    """What arrives behind a cut is gone, whatever stands in the chain later."""
    link = chain(LimitData(limit_bytes=1))
    link.receive_data(b"ab", 0.0)
    assert link.advance(0.0) == [b"a", EOF]

    link.receive_data(b"c", 0.0)
    link.remove("0", 0.0)
    link.receive_data(b"d", 0.0)
    link.receive_eof(0.0)

    assert link.advance(LATER) == []


def test_bytes_behind_a_cut_that_still_waits_do_not_come_out():
    """The end is on its way through a delay: what follows it is gone, also without the limit."""
    link = chain(LimitData(limit_bytes=1), Latency(latency_ms=1_000))
    link.receive_data(b"ab", 0.0)
    link.advance(0.0)

    link.remove("0", 0.5)
    link.receive_data(b"c", 0.5)

    assert link.advance(LATER) == [b"a", EOF]


def test_a_reset_destroys_what_stages_behind_it_hold():
    """A reset waits for nobody, and nothing follows it."""
    link = chain(Latency(latency_ms=1_000))
    link.receive_data(b"held", 0.0)
    link.add("break", ResetPeer().pipe(DRAWS, 0.0), index=0)
    link.receive_data(b"trigger", 0.1)

    assert link.advance(0.1) == [RESET]
    link.receive_data(b"more", 0.2)
    assert link.advance(LATER) == []


def test_a_reset_comes_after_bytes_that_had_left_the_chain():
    """What was released before the reset is given out before it."""
    link = chain()
    link.receive_data(b"early", 0.0)
    link.add("break", ResetPeer().pipe(DRAWS, 0.0))
    link.receive_data(b"trigger", 0.0)

    assert link.advance(0.0) == [b"early", RESET]


def test_removing_a_toxic_hands_what_it_held_to_the_next():
    """The neighbour does to it what it does to all bytes."""
    link = chain(Latency(latency_ms=60_000), Latency(latency_ms=100))
    link.receive_data(b"held", 0.0)

    link.remove("0", 1.0)

    assert link.advance(1.0) == []
    assert link.advance(1.2) == [b"held"]


def test_removing_the_last_toxic_keeps_bytes_in_order():
    """Bytes released by the removal come before those that arrive after it."""
    link = chain(Latency(latency_ms=60_000))
    link.receive_data(b"old ", 0.0)

    link.remove("0", 1.0)
    link.receive_data(b"new", 1.0)

    assert joined(link.advance(1.0)) == b"old new"


def test_removing_a_black_hole_ends_the_stream():
    """After a gap the stream means nothing any more."""
    link = chain(Timeout(timeout_ms=0))
    link.receive_data(b"gone", 0.0)

    link.remove("0", 1.0)

    assert link.advance(1.0) == [EOF]


def test_what_a_toxic_did_on_its_removal_is_told():
    """The cut that lifting a black hole makes is a touch like any other."""
    link = chain(Timeout(timeout_ms=0))
    link.remove("0", 1.0)

    touches = [(name, touch.kind) for name, touch in link.take_touches()]
    assert touches == [("0", "cut")]
    assert link.take_touches() == []


def test_touches_carry_the_toxics_name_and_are_told_once():
    """Who did what to how many bytes."""
    link = chain(Latency(latency_ms=10), Timeout(timeout_ms=0))
    link.receive_data(b"abc", 0.0)
    link.advance(0.01)

    touches = [(name, touch.kind, touch.bytes) for name, touch in link.take_touches()]
    assert touches == [("0", "delayed", 3), ("1", "dropped", 3)]
    assert link.take_touches() == []


def test_a_chain_wants_no_more_while_one_toxic_is_full():
    """Back-pressure: one full toxic stops the source, room in it starts the source again."""
    link = chain(Latency(latency_ms=0), Bandwidth(rate_kb_per_s=1_000))
    assert link.wants_more
    link.receive_data(b"x" * 70_000, 0.0)
    link.advance(0.0)
    assert not link.wants_more

    link.advance(0.05)
    link.advance(LATER)
    assert link.wants_more


def test_a_change_applies_to_what_is_held():
    """Waiting bytes obey the new attributes."""
    link = chain(Latency(latency_ms=60_000))
    link.receive_data(b"held", 0.0)

    link.change("0", Latency(latency_ms=10), 1.0)

    assert link.advance(1.0) == [b"held"]


LATENCIES = st.builds(Latency, latency_ms=st.integers(0, 5_000), jitter_ms=st.integers(0, 3_000))
BANDWIDTHS = st.builds(Bandwidth, rate_kb_per_s=st.integers(1, 2_000))


@dataclass(frozen=True)
class Data:
    data: bytes


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Add:
    toxic: Toxic
    place: int


@dataclass(frozen=True)
class Change:
    which: int
    latency: Latency
    bandwidth: Bandwidth


@dataclass(frozen=True)
class Remove:
    which: int


@dataclass(frozen=True)
class Finish:
    pass


STEPS = st.lists(
    st.builds(Data, st.binary(min_size=1, max_size=3_000))
    | st.builds(Wait, st.floats(0, 3))
    | st.builds(Add, LATENCIES | BANDWIDTHS, st.integers(0, 5))
    | st.builds(Change, st.integers(0, 5), LATENCIES, BANDWIDTHS)
    | st.builds(Remove, st.integers(0, 5))
    | st.builds(Finish),
    max_size=40,
)


class Walk:
    """A link and all that went in and came out of it."""

    def __init__(self) -> None:
        self.link = Link()
        self.kinds: dict[str, type[Toxic]] = {}
        self.now = 0.0
        self.sent = b""
        self.finished = False
        self.out: list[Piece] = []

    def take(self, step: object) -> None:
        match step:
            case Data(data) if not self.finished:
                self.sent += data
                self.link.receive_data(data, self.now)
            case Wait(seconds):
                self.now += seconds
            case Add(toxic, place):
                name = f"toxic {len(self.kinds)}"
                self.kinds[name] = type(toxic)
                index = min(place, len(self.link.names()))
                self.link.add(name, toxic.pipe(DRAWS, self.now), index=index)
            case Change(which, latency, bandwidth) if names := self.link.names():
                name = names[which % len(names)]
                toxic = latency if self.kinds[name] is Latency else bandwidth
                self.link.change(name, toxic, self.now)
            case Remove(which) if names := self.link.names():
                self.link.remove(names[which % len(names)], self.now)
            case Finish() if not self.finished:
                self.finished = True
                self.link.receive_eof(self.now)
        self.out += self.link.advance(self.now)

    def wait_out(self) -> None:
        """Wait as a relay does, for whatever is due next."""
        for _ in range(100_000):
            due = self.link.next_due()
            if due is None:
                return
            self.now = max(self.now, due)
            self.out += self.link.advance(self.now)
        raise AssertionError("the chain never comes to rest")


@given(steps=STEPS, heal=st.booleans())
def test_no_change_of_the_chain_loses_or_reorders_a_byte(steps: list[object], heal: bool):
    """
    Bytes in are bytes out, in order, the end last and only after the source's end.

    Whatever is added, changed and removed, and whether the rest is waited out or healed.
    """
    walk = Walk()
    for step in steps:
        walk.take(step)
    while heal and walk.link.names():
        walk.take(Remove(0))
    walk.wait_out()

    assert joined(walk.out) == walk.sent
    ends = [index for index, piece in enumerate(walk.out) if not isinstance(piece, bytes)]
    assert ends == ([len(walk.out) - 1] if walk.finished else [])
    assert walk.link.wants_more
    assert walk.link.straight == (not walk.link.names() and not walk.finished)


@given(steps=STEPS)
def test_what_comes_out_is_at_any_time_a_beginning_of_what_went_in(steps: list[object]):
    """Order holds at every moment, not only in the end."""
    walk = Walk()
    for step in steps:
        walk.take(step)
        assert walk.sent.startswith(joined(walk.out))


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=20),
    limit=st.integers(0, 300),
)
def test_a_limit_passes_exactly_its_bytes_through_any_chain(chunks: list[bytes], limit: int):
    """The cut falls on the same byte however the stream is cut into chunks."""
    link = chain(Latency(latency_ms=100), LimitData(limit_bytes=limit), Latency(latency_ms=100))
    out: list[Piece] = []
    for index, chunk in enumerate(chunks):
        link.receive_data(chunk, index / 100)
        out += link.advance(index / 100)
    # The second delay starts when the first lets go.
    out += link.advance(10.0)
    out += link.advance(20.0)

    sent = b"".join(chunks)
    assert joined(out) == sent[:limit]
    assert (out[-1:] == [EOF]) == (len(sent) >= limit)
