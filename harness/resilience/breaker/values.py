"""What a breaker goes by, and what it tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.resilience.settings import Settings, key

__all__ = ["BreakerReport", "BreakerSettings", "State", "Transition"]

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """
    One change of state.

    Attributes:
        name: Whose breaker.
        epoch: Counts the changes, resets of a closed breaker included, from 1.
        at_s: When, on the breaker's clock, in seconds.
        before: The state that ended.
        after: The state that began.
        why: In words.
    """

    name: str
    epoch: int
    at_s: float
    before: State
    after: State
    why: str


@dataclass(frozen=True, kw_only=True)
class BreakerReport:
    """
    A breaker at one moment.

    Attributes:
        name: Whose.
        state: Its state.
        since_s: Since when, on its clock, in seconds.
        retry_after_s: Seconds until an open one lets a probe through; None in the other states.
        failures_in_a_row: Counted failures without a success between them.
        window_calls: Calls in the window, where the policy has one, at its last record.
        window_failed: Of these, failed.
        window_slow: Of these, slow.
        probing: Probes under way.
        refusals: Calls it refused so far.
        stale: Calls that ended in a later epoch than they began in, and so counted for nothing.
        opens: How often it opened.
    """

    name: str
    state: State
    since_s: float
    retry_after_s: float | None
    failures_in_a_row: int
    window_calls: int
    window_failed: int
    window_slow: int
    probing: int
    refusals: int
    stale: int
    opens: int


@dataclass(frozen=True, kw_only=True)
class BreakerSettings(Settings):
    """When a breaker opens, for how long, and what closes it again. One for each peer."""

    policy: Literal["consecutive", "count_window", "time_window"] = key(
        "consecutive",
        about="what opens it: failures in a row, or the rates of the last calls or seconds",
        variable="EXAI_BREAKER_POLICY",
        advice="a window where single failures are part of a normal day",
    )
    failures: int = key(
        5,
        low=1,
        high=1_000_000,
        about="failures in a row that open it; policy consecutive",
        variable="EXAI_BREAKER_FAILURES",
        advice="fewer notice a dead peer sooner; more bear an unlucky row",
    )
    window_calls: int = key(
        100, low=1, high=1_000_000, about="how many calls the window holds; policy count_window"
    )
    window_s: float = key(
        30.0, above=0, high=86_400, about="how long the window looks back; policy time_window"
    )
    minimum_calls: int = key(
        20,
        low=1,
        high=1_000_000,
        about="with fewer calls in the window it stays closed",
        advice="too few, and one failure at night is a rate of 100 %",
    )
    failure_rate: float = key(
        0.5, above=0, high=1, about="the share of failures in the window that opens it"
    )
    slow_call_s: float | None = key(
        None,
        above=0,
        high=86_400,
        about="a call that takes this long is slow; in half-open it counts as failed",
        advice="set it where the peer may become slow without failing; policies with a window",
    )
    slow_call_rate: float = key(
        1.0, above=0, high=1, about="the share of slow calls in the window that opens it"
    )
    open_s: float = key(
        60.0,
        above=0,
        high=86_400,
        about="how long it stays open",
        variable="EXAI_BREAKER_OPEN_S",
        advice="about as long as the peer needs to come back",
    )
    probes: int = key(
        3, low=1, high=1_000_000, about="how many calls at once may try the peer in half-open"
    )
    successes: int = key(
        2, low=1, high=1_000_000, about="how many probes must succeed to close it; may be > probes"
    )
    half_open_s: float = key(
        30.0,
        above=0,
        high=86_400,
        about="how long half-open may last; then it is open again",
        advice="longer than a call's time limit, or slow probes never count",
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        if self.policy == "count_window" and self.minimum_calls > self.window_calls:
            yield (
                ("minimum_calls", "window_calls", "policy"),
                f"{self.minimum_calls} never come together in a window of"
                f" {self.window_calls} calls (window_calls): it would never open",
            )
        if self.policy == "consecutive" and self.slow_call_s is not None:
            yield (
                ("slow_call_s", "policy"),
                'slow calls are counted in a window; expected "none", or policy "count_window" or'
                ' "time_window"',
            )
