"""Each key once: what is known of it, for how long, and within which bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.errors import InvalidValue
from harness.resilience.idempotency import GONE, Idempotency, IdempotencySettings, Kept, Keys
from tests.unit.hands import Hands


@pytest.fixture
def clock() -> Hands:
    return Hands()


def remembering(clock: Hands, **settings: Any) -> Idempotency:
    return Idempotency(IdempotencySettings(**settings), clock=clock)


def ran(keys: Keys, name: str, *, size: int = 10) -> Kept:
    kept = keys.begin(name, ("tool", name))
    keys.done(kept, f"answer {name}", size=size)
    return kept


def test_a_key_is_running_then_done(clock: Hands):
    """
    Meanwhile whoever asks finds it; afterwards its answer.
    """
    keys = remembering(clock).keys()
    assert keys.find("a") is None

    kept = keys.begin("a", "what")
    assert (keys.find("a"), kept.answer) == (kept, None)

    keys.done(kept, "answer", size=3)
    found = keys.find("a")
    assert found is kept
    assert (found.what, found.answer) == ("what", "answer")


def test_a_call_that_is_done_at_once_never_ran_before(clock: Hands):
    """
    It need not begin.
    """
    keys = remembering(clock).keys()

    keys.done(Kept("a", "what"), "answer", size=3)

    found = keys.find("a")
    assert found is not None
    assert found.answer == "answer"


def test_what_is_forgotten_runs_anew(clock: Hands):
    """
    A cancelled call has done nothing that its key could stand for.
    """
    keys = remembering(clock).keys()
    keys.forget(keys.begin("a", "what"))

    assert keys.find("a") is None
    assert len(keys) == 0


def test_keys_of_sessions_do_not_meet(clock: Hands):
    """
    The same name in two of them is two calls.
    """
    both = remembering(clock)
    ours, theirs = both.keys(), both.keys()
    ran(ours, "a")

    assert theirs.find("a") is None


def test_a_key_is_remembered_for_its_time(clock: Hands):
    """
    To the very end of it, from when it was answered.
    """
    everything = remembering(clock, ttl_s=10)
    keys = everything.keys()
    ran(keys, "a", size=7)

    clock.pass_(9.999)
    assert keys.find("a") is not None
    clock.pass_(0.001)
    assert keys.find("a") is None
    assert (len(keys), everything.bytes) == (0, 0)
    # Its time has run out; nothing went before it.
    assert (everything.forgotten, everything.answers_gone) == (0, 0)


def test_one_that_runs_is_remembered_however_long_it_takes(clock: Hands):
    """
    Its time begins with its answer.
    """
    keys = remembering(clock, ttl_s=10).keys()
    kept = keys.begin("a", "what")
    clock.pass_(1000)
    ran(keys, "b")

    assert keys.find("a") is kept
    keys.done(kept, "answer", size=1)
    clock.pass_(9)
    assert keys.find("a") is kept


def test_old_ones_go_when_a_new_one_comes(clock: Hands):
    """
    Nobody has to ask for them.
    """
    keys = remembering(clock, ttl_s=10).keys()
    for n in range(50):
        ran(keys, f"old{n}")
    clock.pass_(10)

    ran(keys, "new")

    assert len(keys) == 1


def test_the_oldest_key_goes_where_there_are_too_many(clock: Hands):
    """
    And that is counted: its promise was broken for want of room.
    """
    everything = remembering(clock, keys_per_session=3)
    keys = everything.keys()
    for name in "abcd":
        ran(keys, name)

    assert [keys.find(name) is None for name in "abcd"] == [True, False, False, False]
    assert (everything.forgotten, everything.bytes) == (1, 30)


def test_where_answers_weigh_too_much_the_keys_stay(clock: Hands):
    """
    That it ran is remembered for longer than what it came to.
    """
    everything = remembering(clock, answers_bytes_per_session=25, answers_bytes=1000)
    keys = everything.keys()
    kept = [ran(keys, name) for name in "abc"]

    assert [each.answer is GONE for each in kept] == [True, False, False]
    assert kept[0].what is None
    assert len(keys) == 3
    assert (everything.answers_gone, everything.bytes, keys.bytes) == (1, 20, 20)


def test_one_answer_that_is_too_large_is_gone_at_once(clock: Hands):
    """
    Its key is known all the same.
    """
    keys = remembering(clock, answers_bytes_per_session=25, answers_bytes=25).keys()

    assert ran(keys, "a", size=26).answer is GONE
    assert keys.find("a") is not None


def test_who_has_most_makes_room_for_all(clock: Hands):
    """
    A session that floods loses its own answers first.
    """
    everything = remembering(clock, answers_bytes_per_session=100, answers_bytes=100)
    small, flood = everything.keys(), everything.keys()
    mine = ran(small, "mine", size=20)
    floods = [ran(flood, f"f{n}", size=10) for n in range(20)]

    assert mine.answer == "answer mine"
    assert floods[0].answer is GONE
    assert floods[-1].answer == "answer f19"
    assert everything.bytes <= 100


def test_a_session_that_goes_takes_its_answers_with_it(clock: Hands):
    """
    And leaves those of others.
    """
    everything = remembering(clock)
    ours, theirs = everything.keys(), everything.keys()
    ran(ours, "a", size=5)
    ran(theirs, "a", size=7)

    ours.close()

    assert everything.bytes == 7
    assert len(everything) == 1
    assert theirs.find("a") is not None


def test_other_settings_hold_from_the_next_look_on(clock: Hands):
    """
    Shorter ones too.
    """
    everything = remembering(clock, ttl_s=100)
    keys = everything.keys()
    ran(keys, "a")
    clock.pass_(50)

    everything.adopt(IdempotencySettings(ttl_s=10))

    assert keys.find("a") is None


def test_a_session_has_no_more_room_than_all():
    """
    A limit that would never hold is refused.
    """
    with pytest.raises(InvalidValue, match="answers_bytes_per_session"):
        IdempotencySettings(answers_bytes_per_session=10, answers_bytes=5)


NAMES = st.sampled_from("abcdefgh")
TTL_S, MOST_KEYS, MOST_BYTES, ALL_BYTES = 10.0, 4, 50, 80


def test_what_ends_after_its_session_weighs_nothing(clock: Hands):
    """
    Its call ran on while the session was forgotten: nobody could have the answer any more.
    """
    everything = remembering(clock, answers_bytes=100, answers_bytes_per_session=100)
    keys = everything.keys()
    kept = keys.begin("a", "what")
    keys.close()
    keys.done(kept, "answer", size=90)
    other = everything.keys()
    ran(other, "b", size=90)

    assert (everything.bytes, everything.answers_gone) == (90, 0)
    assert kept.answer == "answer"


class Model(RuleBasedStateMachine):
    """Two sessions against what their keys must be, said in the plainest way."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Hands()
        self.everything = remembering(
            self.clock,
            ttl_s=TTL_S,
            keys_per_session=MOST_KEYS,
            answers_bytes_per_session=MOST_BYTES,
            answers_bytes=ALL_BYTES,
        )
        self.sessions = [self.everything.keys(), self.everything.keys()]
        self.running: list[dict[str, Kept]] = [{}, {}]
        # When each was answered, in order; and how.
        self.done: list[dict[str, tuple[float, str]]] = [{}, {}]

    def forget_old(self) -> None:
        for done in self.done:
            for name, (at, _) in list(done.items()):
                if self.clock.now_s - at >= TTL_S:
                    del done[name]

    @rule(which=st.integers(0, 1), name=NAMES, size=st.integers(0, 60))
    def call(self, which: int, name: str, size: int) -> None:
        """One that is done at once, where it is not known."""
        self.forget_old()
        keys, running, done = self.sessions[which], self.running[which], self.done[which]
        found = keys.find(name)
        assert (found is not None) == (name in running or name in done)
        if found is not None:
            if name in running:
                assert found.answer is None
            else:
                assert found.answer in (GONE, done[name][1])
            return
        answer = f"{name} at {self.clock.now_s}"
        keys.done(Kept(name, name), answer, size=size)
        self.was_done(which, name, answer)

    @rule(which=st.integers(0, 1), name=NAMES)
    def begin(self, which: int, name: str) -> None:
        self.forget_old()
        if self.sessions[which].find(name) is None:
            self.running[which][name] = self.sessions[which].begin(name, name)

    @precondition(lambda self: any(self.running))
    @rule(which=st.integers(0, 1), size=st.integers(0, 60), kept=st.booleans())
    def end(self, which: int, size: int, *, kept: bool) -> None:
        self.forget_old()
        if not self.running[which]:
            return
        name, began = self.running[which].popitem()
        if kept:
            self.sessions[which].done(began, name, size=size)
            self.was_done(which, name, name)
        else:
            self.sessions[which].forget(began)

    def was_done(self, which: int, name: str, answer: str) -> None:
        done = self.done[which]
        done[name] = (self.clock.now_s, answer)
        while len(done) > MOST_KEYS:
            del done[next(iter(done))]

    @rule(seconds=st.sampled_from([0.5, 3.0, TTL_S]))
    def wait(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @invariant()
    def within_bounds(self) -> None:
        shared = self.everything
        assert shared.bytes == sum(keys.bytes for keys in self.sessions) <= ALL_BYTES
        assert all(0 <= keys.bytes <= MOST_BYTES for keys in self.sessions)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestModel = Model.TestCase
