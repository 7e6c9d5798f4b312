"""
A breaker against a model of it: any interleaving of calls, ends, time and resets.

The model keeps every end of the present epoch in a list and judges the list anew each time;
the breaker keeps running totals. Isolated classes; says nothing about the system.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from harness.errors import BreakerOpen
from harness.resilience.breaker import Breaker, BreakerSettings, Permit, State, Transition, Verdict
from tests.unit.hands import Hands

SETTINGS = [
    BreakerSettings(failures=3, open_s=10, probes=2, successes=3, half_open_s=7),
    BreakerSettings(failures=1, open_s=5, probes=1, successes=1, half_open_s=20),
    BreakerSettings(
        policy="count_window",
        window_calls=4,
        minimum_calls=3,
        failure_rate=0.5,
        open_s=10,
        probes=2,
        successes=2,
    ),
    BreakerSettings(
        policy="time_window", window_s=20, minimum_calls=3, failure_rate=0.6, open_s=10, probes=3
    ),
    BreakerSettings(
        policy="count_window",
        window_calls=5,
        minimum_calls=2,
        failure_rate=1,
        slow_call_s=2,
        slow_call_rate=0.5,
        open_s=4,
        half_open_s=6,
    ),
]
LEGAL = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "closed"),
    ("half_open", "open"),
}


@dataclass
class Model:
    """The rules, in the plainest form."""

    rules: BreakerSettings
    since_s: float
    state: State = "closed"
    epoch: int = 0
    ends: list[tuple[float, bool, bool]] = field(default_factory=list)
    probing: int = 0
    succeeded: int = 0

    def go(self, state: State, at_s: float) -> None:
        self.state, self.since_s, self.epoch = state, at_s, self.epoch + 1
        self.ends, self.probing, self.succeeded = [], 0, 0

    def settle(self, now_s: float) -> None:
        if self.state == "closed":
            return
        self.since_s = min(self.since_s, now_s)
        rules = self.rules
        if self.state == "half_open" and now_s >= self.since_s + rules.half_open_s:
            self.go("open", self.since_s + rules.half_open_s)
        if self.state == "open" and now_s >= self.since_s + rules.open_s:
            self.go("half_open", now_s)

    def admits(self, now_s: float) -> bool:
        self.settle(now_s)
        if self.state == "half_open" and self.probing < self.rules.probes:
            self.probing += 1
            return True
        return self.state == "closed"

    def end(self, epoch: int, verdict: Verdict, took_s: float, now_s: float) -> None:
        self.settle(now_s)
        if epoch != self.epoch:
            return
        at_s = now_s
        slow = self.rules.slow_call_s is not None and took_s >= self.rules.slow_call_s
        if self.state == "half_open":
            self.probing -= 1
            if verdict == "failure" or (verdict == "success" and slow):
                self.go("open", now_s)
            elif verdict == "success":
                self.succeeded += 1
                if self.succeeded == self.rules.successes:
                    self.go("closed", now_s)
        elif verdict != "ignored":
            if self.ends and self.rules.policy == "time_window":
                # Going back by less than the window, a call ends with the newest.
                newest_s, part_s = self.ends[-1][0], self.rules.window_s / 10
                if now_s // part_s <= newest_s // part_s - 10:
                    self.ends.clear()
                now_s = max(now_s, newest_s) if self.ends else now_s
            self.ends.append((now_s, verdict == "failure", slow))
            if self.is_bad(now_s):
                self.go("open", at_s)

    def is_bad(self, now_s: float) -> bool:
        rules = self.rules
        if rules.policy == "consecutive":
            row = self.ends[-rules.failures :]
            return len(row) == rules.failures and all(failed for _, failed, _ in row)
        if rules.policy == "count_window":
            window = self.ends[-rules.window_calls :]
        else:
            part_s = rules.window_s / 10
            window = [end for end in self.ends if now_s // part_s - end[0] // part_s < 10]
        if len(window) < rules.minimum_calls:
            return False
        failed = sum(each[1] for each in window) / len(window)
        slow = sum(each[2] for each in window) / len(window)
        return failed >= rules.failure_rate or (
            rules.slow_call_s is not None and slow >= rules.slow_call_rate
        )


class BreakerMachine(RuleBasedStateMachine):
    """Drives both alike, and compares them after each step."""

    permits = Bundle("permits")

    @initialize(rules=st.sampled_from(SETTINGS))
    def begin(self, rules: BreakerSettings) -> None:
        self.clock = Hands(1000.0)
        self.seen: list[Transition] = []
        self.breaker = Breaker(
            "peer", clock=self.clock, settings=rules, observers=(self.seen.append,)
        )
        self.model = Model(rules, since_s=self.clock())
        self.by_hand = 0

    @rule(target=permits)
    def admit(self) -> tuple[Permit, int, float] | None:
        admits = self.model.admits(self.clock())
        if admits:
            return self.breaker.admit(), self.model.epoch, self.clock()
        with pytest.raises(BreakerOpen) as refused:
            self.breaker.admit()
        if self.model.state == "open":
            left_s = self.model.since_s + self.model.rules.open_s - self.clock()
            assert refused.value.retry_after_s == left_s > 0
        return None

    @rule(held=permits, verdict=st.sampled_from(["success", "failure", "failure", "ignored"]))
    def end(self, held: tuple[Permit, int, float] | None, verdict: Verdict) -> None:
        if held is None:
            return
        permit, epoch, started_s = held
        if not permit._ended:
            self.model.end(epoch, verdict, self.clock() - started_s, self.clock())
        permit.end(verdict)

    @rule(failed=st.booleans())
    def call(self, failed: bool) -> None:
        """A whole call, by the short way."""
        now_s = self.clock()
        if self.model.admits(now_s):
            self.model.end(self.model.epoch, "failure" if failed else "success", 0, now_s)
        try:
            self.breaker.call(lambda: 1 / (0 if failed else 1))
        except (ZeroDivisionError, BreakerOpen):
            pass

    @rule(seconds=st.sampled_from([0.5, 1, 2, 3.999, 4, 5, 6, 7, 9.999, 10, 20, 1000]))
    def pass_(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @rule(seconds=st.sampled_from([0.5, 3, 19, 20, 21, 500]))
    def jump_back(self, seconds: float) -> None:
        self.clock.pass_(-seconds)

    @rule()
    def reset(self) -> None:
        self.by_hand += self.model.state != "closed"
        self.model.go("closed", self.clock())
        self.breaker.reset()

    @rule()
    def look(self) -> None:
        self.model.settle(self.clock())
        assert self.breaker.state == self.model.state

    @invariant()
    def alike(self) -> None:
        breaker, model = self.breaker, self.model
        assert (breaker._state, breaker._epoch) == (model.state, model.epoch)
        assert breaker._probing == model.probing <= model.rules.probes
        assert breaker._state == "half_open" or breaker._probing == 0

    @invariant()
    def only_legal_changes(self) -> None:
        changes = [(each.before, each.after) for each in self.seen]
        assert all(before == after for (_, before), (after, _) in pairwise(changes))
        odd = [change for change in changes if change not in LEGAL]
        assert all(change[1] == "closed" for change in odd)
        assert sum(each.why == "reset by hand" for each in self.seen) == self.by_hand >= len(odd)

    def teardown(self) -> None:
        """Whatever happened, time and successes close it."""
        if not hasattr(self, "breaker"):
            return
        rules = self.model.rules
        if self.breaker.state == "half_open":
            self.clock.pass_(rules.half_open_s)
        if self.breaker.state == "open":
            self.clock.pass_(rules.open_s)
        while self.breaker.state != "closed":
            self.breaker.call(lambda: None)


BreakerMachine.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestBreakerAgainstItsModel = BreakerMachine.TestCase


@pytest.mark.parametrize("rules", SETTINGS, ids=lambda rules: rules.policy)
@pytest.mark.parametrize("seed", range(4))
def test_a_long_life_against_the_model(seed: int, rules: BreakerSettings):
    """
    The same rules for hundreds of steps: the short lives above seldom fill a window.
    """
    chance = random.Random(seed)
    life = BreakerMachine()
    life.begin(rules=rules)
    held: list[tuple[Permit, int, float] | None] = []

    for _ in range(400):
        match chance.choices(range(7), weights=(6, 6, 4, 5, 1, 0.2, 1))[0]:
            case 0:
                held.append(life.admit())
            case 1 if held:
                permit = held.pop(chance.randrange(len(held)))
                verdicts: list[Verdict] = ["success", "success", "failure", "ignored"]
                life.end(held=permit, verdict=chance.choice(verdicts))
            case 2:
                life.call(failed=chance.random() < 0.4)
            case 3:
                life.pass_(seconds=chance.choice([0.5, 1, 2, 3.999, 4, 10]))
            case 4:
                life.jump_back(seconds=chance.choice([0.5, 3, 19, 20, 21]))
            case 5:
                life.reset()
            case _:
                life.look()
        life.alike()
        life.only_legal_changes()

    assert {each.after for each in life.seen} == {"closed", "open", "half_open"}
    life.teardown()


@pytest.mark.parametrize("policy", ["consecutive", "count_window"])
def test_threads_at_the_trip_open_it_once_and_leave_no_place_behind(policy: str):
    """
    Eight threads call a peer that fails, then one that recovered; each call has one end.
    """
    clock = Hands()
    seen: list[Transition] = []
    breaker = Breaker(
        "peer",
        clock=clock,
        settings=BreakerSettings(policy=policy, failures=50, minimum_calls=50, open_s=10, probes=2),
        observers=(seen.append,),
    )

    def fails() -> None:
        raise ZeroDivisionError

    def work() -> None:
        for _ in range(100):
            try:
                breaker.call(fails)
            except (ZeroDivisionError, BreakerOpen):
                pass

    _together(work)
    assert [each.after for each in seen] == ["open"]
    assert breaker.report().refusals + 50 + breaker.report().stale == 800

    clock.pass_(10)
    _together(lambda: _try(breaker))
    assert breaker.state == "closed"
    assert breaker.report().probing == 0


def _try(breaker: Breaker) -> None:
    for _ in range(20):
        try:
            breaker.call(lambda: None)
        except BreakerOpen:
            pass


def _together(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
