"""
What a closed breaker adds to a call, beside what others add.

    python -m tests.benchmarks.test_circuit_breaker_overhead [--rounds N]

Overhead is a call through the breaker less the plain call, within a round. The musts: 250 ns
for a function, 400 ns for a coroutine function; the aims: 100 and 130. And of breaker and
metrics together, 3.1 million component calls a second on a core; the aim: 5 million. These are
calls of two classes, not messages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import pytest

from harness.clock import now
from harness.errors import BreakerOpen
from harness.resilience.breaker import Breaker, BreakerSettings
from harness.resilience.metrics import Metrics
from tests.benchmarks import isolated
from tests.benchmarks.isolated import EMPTY, WORDS, Candidate, Effort, Must

SYNC: Final = "breaker.call"
ASYNC: Final = "breaker.call_async"
BOTH: Final = "breaker.call(client.sent)"
PLAIN: Final = "plain call"
PLAIN_ASYNC: Final = "plain await"
LINES: Final = (
    PLAIN,
    SYNC,
    "@breaker.protect",
    "with breaker.admit()",
    "count window",
    "time window",
    "refused when open",
    PLAIN_ASYNC,
    ASYNC,
    BOTH,
    "circuitbreaker",
    "pybreaker",
    "overhead of a call",
    "must: overhead of a function",
    "must: overhead of a coroutine function",
    "must: breaker and metrics",
)

_LATENCY_NS: Final = 1_234_567


def _function(value: int) -> int:
    return value


async def _coroutine(value: int) -> int:
    return value


def _breaker(**settings: object) -> Breaker:
    return Breaker("peer", clock=now, settings=BreakerSettings(**settings))  # type: ignore[arg-type]


def _open() -> Breaker:
    breaker = _breaker(failures=1, open_s=86_400)
    breaker.admit().end("failure")
    return breaker


def _ours() -> dict[str, Candidate]:
    one = _breaker()
    client = Metrics(clock=now).client("client")
    client.opened()
    names = {"function": _function, "call": one.call}
    refused = "try:\n    call(function, 1)\nexcept Refused:\n    pass"
    window = {"policy": "count_window", "minimum_calls": 50}
    seconds = {"policy": "time_window", "slow_call_s": 1.0, "minimum_calls": 50}
    return {
        "empty loop": EMPTY,
        PLAIN: isolated.looped("function(1)", function=_function),
        SYNC: isolated.looped("call(function, 1)", **names),
        "@breaker.protect": isolated.looped("function(1)", function=one.protect(_function)),
        "with breaker.admit()": isolated.looped(
            "with admit():\n    function(1)", admit=one.admit, function=_function
        ),
        "call, count window": isolated.looped(
            "call(function, 1)", **names | {"call": _breaker(**window).call}
        ),
        "call, time window, slow calls": isolated.looped(
            "call(function, 1)", **names | {"call": _breaker(**seconds).call}
        ),
        "call, refused when open": isolated.looped(
            refused, **names | {"call": _open().call, "Refused": BreakerOpen}
        ),
        PLAIN_ASYNC: isolated.awaited("await function(1)", function=_coroutine),
        ASYNC: isolated.awaited(
            "await call(function, 1)", function=_coroutine, call=one.call_async
        ),
        "@breaker.protect, async": isolated.awaited(
            "await function(1)", function=one.protect(_coroutine)
        ),
        BOTH: isolated.looped(f"call(sent, {_LATENCY_NS})", call=one.call, sent=client.sent),
    }


def _peers() -> dict[str, Candidate]:
    found: dict[str, Candidate] = {}
    circuitbreaker = isolated.peer("circuitbreaker")
    if circuitbreaker is not None:
        guard = circuitbreaker.CircuitBreaker(failure_threshold=5)
        found["circuitbreaker"] = isolated.looped("function(1)", function=guard(_function))
        guard = circuitbreaker.CircuitBreaker(failure_threshold=5)
        found["circuitbreaker, async"] = isolated.awaited(
            "await function(1)", function=guard(_coroutine)
        )
    pybreaker = isolated.peer("pybreaker")
    if pybreaker is not None:
        call = pybreaker.CircuitBreaker(fail_max=5).call
        found["pybreaker"] = isolated.looped("call(function, 1)", call=call, function=_function)
    return found


def _musts(figures: Mapping[str, isolated.Figure]) -> list[Must]:
    return [
        Must(
            name="overhead of a function",
            figure=figures[SYNC].less(figures[PLAIN]),
            unit="ns",
            most=250,
            aim=100,
        ),
        Must(
            name="overhead of a coroutine function",
            figure=figures[ASYNC].less(figures[PLAIN_ASYNC]),
            unit="ns",
            most=400,
            aim=130,
        ),
        Must(
            name="breaker and metrics, component calls (not messages) a core",
            figure=figures[BOTH].a_second(),
            unit="a second",
            least=3_100_000,
            aim=5_000_000,
        ),
    ]


def run(effort: Effort) -> int:
    """Measure and tell; returns 1 if a must is missed."""
    figures = isolated.measure(_ours() | _peers(), effort)
    isolated.tell(
        figures,
        measured="one call that does nothing, or records one latency, through a closed breaker"
        " (or as said), and the loop around it; no failure, no other thread, no wire",
        effort=effort,
        against=SYNC,
    )
    for name, figure in figures.items():
        if name not in ("empty loop", PLAIN, PLAIN_ASYNC, BOTH):
            plain = figures[PLAIN_ASYNC if "async" in name else PLAIN]
            print(f"overhead of a call: {name} {figure.less(plain).spread()} ns")
    return isolated.judge(_musts(figures))


def test_it_says_what_it_measures(capsys: pytest.CaptureFixture[str]):
    """
    Every figure has its line, and the words are there.
    """
    run(Effort(rounds=1, slice_ms=0.01))

    told = capsys.readouterr().out
    assert all(line in told for line in (WORDS, *LINES))


if __name__ == "__main__":
    sys.exit(isolated.main("test_circuit_breaker_overhead", __doc__, run))
