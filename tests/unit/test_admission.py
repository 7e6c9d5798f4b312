"""Who is let in: connections, sessions, calls, and messages by the time that was handed in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.resilience import buckets as module
from harness.resilience.admission import Admission, AdmissionSettings, Refused
from harness.resilience.buckets import TokenBucket

LIFTED: dict[str, Any] = {
    "messages_per_s": None,
    "messages_per_s_per_address": None,
    "messages_per_s_per_session": None,
}


class Hands:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


def admission(clock: Hands, **limits: Any) -> Admission:
    return Admission(AdmissionSettings(**limits), clock=clock)


def message(door: Admission, *, address: str, session: str) -> Refused | None:
    """A message of a connection that is gone again after it."""
    gate = door.gate(address=address, session=session)
    try:
        return gate.message(door.clock())
    finally:
        gate.close()


def test_one_address_has_its_share_and_others_have_theirs(clock: Hands):
    """
    The limit of all is met by all together.
    """
    door = admission(clock, max_connections=3, max_connections_per_address=2)

    assert door.connect("a") is None
    assert door.connect("a") is None
    assert door.connect("a") == Refused(
        limit="max_connections_per_address", found=3, allowed=2, retry_after_s=None
    )
    assert door.connect("b") is None
    assert door.connect("c") == Refused(
        limit="max_connections", found=4, allowed=3, retry_after_s=None
    )
    assert door.connections == 3


def test_an_end_gives_its_slot_back_once(clock: Hands):
    """
    What ends twice, or never began, makes no room for others.
    """
    door = admission(clock, max_connections=1, max_connections_per_address=1)
    door.connect("a")

    door.disconnected("a")
    door.disconnected("a")
    door.disconnected("b")

    assert door.connect("a") is None
    assert door.connect("b") is not None


def test_one_end_of_several_gives_one_slot_back(clock: Hands):
    """
    Of an address with three, the fourth finds the place of the one that ended.
    """
    door = admission(clock, max_connections=9, max_connections_per_address=3)
    for _ in range(3):
        assert door.connect("a") is None

    door.disconnected("a")
    assert door.connect("a") is None
    assert door.connect("a") is not None
    for _ in range(2):
        door.disconnected("a")
    assert [door.connect("a") is None for _ in range(3)] == [True, True, False]
    assert door.connections == 3


def test_sessions_and_calls_have_limits_of_their_own(clock: Hands):
    """
    They hand back what they were let in for.
    """
    door = admission(clock, max_sessions=1, max_inflight=2, max_inflight_per_session=1)

    assert door.join("s") is None
    assert str(door.join("t")) == "max_sessions: 2, allowed 1"
    assert door.begin("s") is None
    assert str(door.begin("s")) == "max_inflight_per_session: 2, allowed 1"
    assert door.begin("t") is None
    assert str(door.begin("u")) == "max_inflight: 3, allowed 2"
    assert door.calls == 2
    door.ended("s")
    door.left("s")
    assert (door.join("t"), door.begin("u")) == (None, None)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"messages_per_s": 2, "burst_messages": 3}, "burst_messages"),
        (
            {"messages_per_s_per_address": 2, "burst_messages_per_address": 3},
            "burst_messages_per_address",
        ),
        (
            {"messages_per_s_per_session": 2, "burst_messages_per_session": 3},
            "burst_messages_per_session",
        ),
    ],
)
def test_after_a_burst_messages_come_in_at_their_rate(
    clock: Hands, limits: dict[str, Any], limit: str
):
    """
    Whoever waits as long as it was told is let in, and a moment sooner is not.
    """
    small = {"burst_messages_per_address": 1, "burst_messages_per_session": 1}
    door = admission(clock, **{**LIFTED, **small, **limits})
    for _ in range(3):
        assert message(door, address="a", session="s") is None

    refused = message(door, address="a", session="s")

    assert refused == Refused(limit=limit, found=4, allowed=3, retry_after_s=0.5)
    clock.now += 0.25
    refused = message(door, address="a", session="s")
    assert refused == Refused(limit=limit, found=3.5, allowed=3, retry_after_s=0.25)
    clock.now += 0.25 - 1e-3
    assert message(door, address="a", session="s") is not None
    clock.now += 1e-3
    assert message(door, address="a", session="s") is None


def test_what_one_bucket_refuses_costs_the_others_nothing(clock: Hands):
    """
    A session that floods takes nothing from those beside it.
    """
    door = admission(
        clock,
        **LIFTED | {"messages_per_s_per_session": 1, "messages_per_s": 1},
        burst_messages=2,
        burst_messages_per_address=1,
        burst_messages_per_session=1,
    )
    message(door, address="a", session="s")
    for _ in range(10):
        assert message(door, address="a", session="s") is not None

    assert message(door, address="a", session="t") is None


def test_of_several_limits_the_one_to_wait_for_longest_is_told(clock: Hands):
    """
    After that time none of them refuses.
    """
    door = admission(
        clock,
        messages_per_s=10,
        messages_per_s_per_address=5,
        messages_per_s_per_session=0.1,
        burst_messages=1,
        burst_messages_per_address=1,
        burst_messages_per_session=1,
    )
    message(door, address="a", session="s")

    refused = message(door, address="a", session="s")

    assert refused is not None
    assert str(refused) == "burst_messages_per_session: 2, allowed 1; again in 10 s"
    clock.now += refused.retry_after_s or 0
    assert message(door, address="a", session="s") is None


def test_a_clock_that_jumps_back_stops_nobody_for_long(clock: Hands):
    """
    From where it jumped to, tokens come in as before.
    """
    door = admission(clock, **LIFTED | {"messages_per_s_per_session": 1})
    while message(door, address="a", session="s") is None:
        pass

    clock.now -= 900
    assert message(door, address="a", session="s") is not None
    clock.now += 1
    assert message(door, address="a", session="s") is None


def test_a_change_of_limits_holds_from_then_on(clock: Hands):
    """
    Whoever is in stays in; what a bucket holds stays in it, as far as it goes.
    """
    door = admission(clock, **LIFTED | {"messages_per_s_per_session": 1})
    for address in ("a", "b"):
        assert door.connect(address) is None
    for session, messages in (("low", 49), ("high", 10)):
        for _ in range(messages):
            assert message(door, address="a", session=session) is None

    door.adopt(
        AdmissionSettings(
            **LIFTED | {"messages_per_s_per_session": 2},
            max_connections=1,
            max_connections_per_address=1,
            burst_messages_per_session=3,
        )
    )

    assert door.connections == 2
    assert str(door.connect("c")) == "max_connections: 3, allowed 1"
    for session, messages in (("low", 1), ("high", 3)):
        answers = [message(door, address="a", session=session) for _ in range(messages + 1)]
        assert answers[:-1] == [None] * messages
        assert answers[-1] is not None
        assert answers[-1].retry_after_s == 0.5


def test_lifted_limits_refuse_nothing(clock: Hands):
    """
    And keep nothing of anybody.
    """
    door = admission(clock, **LIFTED)

    answers = {message(door, address="a", session="s") for _ in range(2000)}

    assert answers == {None}
    assert [len(kind) for kind in door.buckets] == [0, 0, 0]


def test_buckets_that_are_full_again_are_dropped(clock: Hands):
    """
    However many senders came by, only those of late are kept.
    """
    door = admission(clock, **LIFTED | {"messages_per_s_per_address": 10})
    sizes = []
    for n in range(5000):
        clock.now += 0.05
        message(door, address=f"a{n}", session="s")
        sizes.append(len(door.buckets[1]))

    assert max(sizes) <= 64


def test_never_more_buckets_than_a_fixed_number(clock: Hands, monkeypatch: pytest.MonkeyPatch):
    """
    In a flood of new names those asked for longest ago are forgotten, not those that flood.
    """
    monkeypatch.setattr(module, "_MOST_BUCKETS", 100)
    door = admission(clock, **LIFTED | {"messages_per_s_per_address": 0.001})
    while message(door, address="flood", session="s") is None:
        pass

    for n in range(1000):
        message(door, address=f"a{n}", session="s")
        assert message(door, address="flood", session="s") is not None

    assert len(door.buckets[1]) <= 100


def test_a_bucket_in_use_is_not_handed_out_anew(clock: Hands, monkeypatch: pytest.MonkeyPatch):
    """
    However many others come by, two connections of one address share one bucket.
    """
    monkeypatch.setattr(module, "_MOST_BUCKETS", 100)
    door = admission(
        clock, **LIFTED | {"messages_per_s_per_address": 1}, burst_messages_per_address=50
    )
    first = door.gate(address="a", session="s")
    assert first.message(clock.now) is None
    clock.now += 100
    for n in range(1000):
        message(door, address=f"a{n}", session="s")

    second = door.gate(address="a", session="t")
    assert [second.message(clock.now) for _ in range(25)] == [
        first.message(clock.now) for _ in range(25)
    ]

    assert first.message(clock.now) is not None
    assert second.message(clock.now) is not None


def test_a_gate_goes_by_limits_that_changed_while_it_was_open(clock: Hands):
    """
    A limit that came, one that went, and one that is another now.
    """
    door = admission(clock, **LIFTED)
    gate = door.gate(address="a", session="s")
    assert {gate.message(clock.now) for _ in range(200)} == {None}

    one = {"burst_messages_per_session": 1, "messages_per_s_per_session": 1}
    door.adopt(AdmissionSettings(**LIFTED | one))
    assert gate.message(clock.now) is None
    assert str(gate.message(clock.now)) == "burst_messages_per_session: 2, allowed 1; again in 1 s"
    door.adopt(AdmissionSettings(**LIFTED | one | {"messages_per_s_per_session": 2}))
    assert (
        str(gate.message(clock.now)) == "burst_messages_per_session: 2, allowed 1; again in 0.5 s"
    )
    door.adopt(AdmissionSettings(**LIFTED))
    assert gate.message(clock.now) is None


def test_several_at_once_are_let_in_where_tokens_are_plenty(clock: Hands):
    """
    The first message takes some for those that follow in the same moment, by the same limits.
    """
    door = admission(clock, **LIFTED)
    gate = door.gate(address="a", session="s")
    assert not gate.messages(8, clock.now)
    assert gate.message(clock.now) is None

    assert gate.messages(8, clock.now)
    assert not gate.messages(8, clock.now)
    assert gate.messages(7, clock.now)

    assert gate.message(clock.now) is None
    assert not gate.messages(1, clock.now + 1)
    door.adopt(AdmissionSettings(**LIFTED | {"messages_per_s_per_session": 5.0}))
    assert not gate.messages(1, clock.now)


@given(
    per_s=st.floats(1, 100_000),
    burst=st.integers(1, 500),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 0.03), st.integers(0, 20)), max_size=200
    ),
)
def test_gates_let_through_a_burst_and_its_rate_and_no_more(
    per_s: float, burst: int, steps: list[tuple[int, float, int]]
):
    """
    However they take, hold and give back, one by one or several at once; over any stretch of time
    that begins anywhere.
    """
    clock = Hands()
    kept = LIFTED | {"messages_per_s": per_s, "burst_messages": burst}
    parts = {"burst_messages_per_address": 1, "burst_messages_per_session": 1}
    door = admission(clock, **kept | parts)
    gates = [door.gate(address=f"a{n}", session="s") for n in range(3)]
    let_in: list[float] = []

    for which, pause, at_once in steps:
        clock.now += pause
        asked = [gates[which].message(clock.now) for _ in range(10)]
        let_in += [clock.now] * asked.count(None)
        if gates[which].messages(at_once, clock.now):
            let_in += [clock.now] * at_once

    for begin in range(0, len(let_in), 7):
        took = len(let_in) - begin
        assert took <= burst + (let_in[-1] - let_in[begin] + 0.01) * per_s + 1e-6


_RATES = st.floats(0.001, 1e6)
_BURSTS = st.integers(1, 3)


@settings(max_examples=50)
@given(
    rates=st.tuples(_RATES, _RATES, _RATES).map(sorted),
    bursts=st.tuples(_BURSTS, _BURSTS, _BURSTS).map(sorted),
    pauses=st.lists(st.floats(0, 2), max_size=10),
)
def test_whoever_waits_as_long_as_it_was_told_is_let_in(
    rates: list[float], bursts: list[int], pauses: list[float]
):
    """
    Whatever the limits are, and however the time is rounded.
    """
    clock = Hands()
    kinds = ("_per_session", "_per_address", "")
    limits = {f"messages_per_s{kind}": rate for kind, rate in zip(kinds, rates, strict=True)}
    limits |= {f"burst_messages{kind}": most for kind, most in zip(kinds, bursts, strict=True)}
    door = admission(clock, **limits)

    for pause in [0.0, 0.0, 0.0, *pauses]:
        clock.now += pause
        refused = message(door, address="a", session="s")
        if refused is not None:
            assert refused.found > refused.allowed
            clock.now += refused.retry_after_s or 0
            assert message(door, address="a", session="s") is None


@given(
    per_s=st.floats(0.01, 1000),
    burst=st.integers(1, 20),
    steps=st.lists(st.floats(-5, 5), max_size=40),
)
def test_a_bucket_lets_through_its_burst_and_its_rate_and_no_more(
    per_s: float, burst: int, steps: list[float]
):
    """
    Whatever the clock does: only its steps forward bring any in.
    """
    now, taken, forward = 0.0, 0, 0.0
    bucket = TokenBucket(per_s=per_s, burst=burst, now=now)

    for step in steps:
        now += step
        forward += max(0.0, step)
        if bucket.wait_s(now) == 0:
            bucket.take()
            taken += 1
        assert -1e-6 <= bucket.tokens(now) <= burst

    assert taken <= burst + forward * per_s + 1e-6
