"""
What forgetting clients takes, of 1000 that have no connection.

    python -m tests.benchmarks.test_cleanup_performance [--rounds N]

`Metrics.forget_gone`, where none is due, 100, half, all but one, or all. The must: 0.20 ms; the
aim: 0.08 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import pytest

from harness.resilience.metrics import Metrics
from tests.benchmarks import isolated
from tests.benchmarks.isolated import WORDS, Candidate, Effort, Figure, Must

MUST_MS: Final = 0.20
AIM_MS: Final = 0.08
LINES: Final = (
    "none due",
    "100 due",
    "all but one due",
    "all due",
    "must: clean-up of 1000 clients",
)

_CLIENTS: Final = 1000
_TTL_S: Final = 3600.0


def _clean_up(due: int) -> Candidate:
    def prepare() -> Callable[[], object]:
        time_s = 0.0
        metrics = Metrics(clock=lambda: time_s)
        for n in range(_CLIENTS):
            if n == due:
                time_s = _TTL_S / 2
            client = metrics.client(f"client-{n}")
            client.opened()
            client.sent(1_000_000)
            client.closed()
        time_s = _TTL_S if due else 0.0
        return metrics.forget_gone

    assert prepare()() == due
    return isolated.prepared(prepare)


def run(effort: Effort) -> int:
    """Measure and tell; returns 1 if the must is missed."""
    due = {
        "none due": 0,
        "100 due": 100,
        "half due": 500,
        "all but one due": _CLIENTS - 1,
        "all due": _CLIENTS,
    }
    candidates = {name: _clean_up(count) for name, count in due.items()}
    figures = isolated.measure(candidates, effort)
    isolated.tell(
        figures,
        measured=f"one clean-up of {_CLIENTS} clients without a connection, its own record of"
        " what it took, and two readings of the clock; not what made the clients",
        effort=effort,
    )
    musts = [
        Must(
            name=f"clean-up of 1000 clients, {name}",
            figure=Figure(tuple(value / 1e6 for value in figures[name].values)),
            unit="ms",
            most=MUST_MS,
            aim=AIM_MS,
            form=".3f",
        )
        for name in ("all but one due", "all due")
    ]
    return isolated.judge(musts)


def test_it_says_what_it_measures(capsys: pytest.CaptureFixture[str]):
    """
    Every figure has its line, and the words are there.
    """
    run(Effort(rounds=1, slice_ms=0.001))

    told = capsys.readouterr().out
    assert all(line in told for line in (WORDS, *LINES))


if __name__ == "__main__":
    sys.exit(isolated.main("test_cleanup_performance", __doc__, run))
