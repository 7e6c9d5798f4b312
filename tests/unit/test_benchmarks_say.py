"""What benchmarks of single classes say of themselves."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.benchmarks import (
    isolated,
    test_circuit_breaker_overhead,
    test_cleanup_performance,
    test_hash_performance,
    test_metrics_overhead,
)
from tests.benchmarks.isolated import Effort, Figure, Must

TINY = Effort(rounds=1, slice_ms=0.001)


@pytest.mark.parametrize(
    "benchmark",
    [
        test_circuit_breaker_overhead,
        test_cleanup_performance,
        test_hash_performance,
        test_metrics_overhead,
    ],
    ids=lambda benchmark: benchmark.__name__.rpartition(".")[2],
)
def test_each_says_what_was_measured_and_what_that_says_nothing_of(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
):
    """
    The words, what was in the measurement, and a line for every figure.
    """
    code = benchmark.run(TINY)

    told = capsys.readouterr().out
    assert "isolated classes; says nothing about the system\n" in told
    assert "in the measurement: " in told
    assert [line for line in benchmark.LINES if line not in told] == []
    assert code == int("MISSED" in told)


def test_a_peer_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]):
    """
    It is never left out in silence.
    """
    assert isolated.peer("no_such_module", package="no-such-package") is None

    assert capsys.readouterr().out == "not run: no-such-package is not installed\n"


def test_a_missed_must_ends_with_1_and_says_so(capsys: pytest.CaptureFixture[str]):
    """
    One that is met beside it changes nothing of that.
    """
    figure = Figure((100.0, 300.0, 200.0))
    met = Must(name="one", figure=figure, unit="ns", most=200, aim=100)
    missed = Must(name="other", figure=figure, unit="a second", least=201)

    assert isolated.judge([met, missed]) == 1
    assert isolated.judge([met]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "must: one <= 200 ns; found 200: met; aim 100: not reached",
        "must: other >= 201 a second; found 200: MISSED",
    ]


def test_overhead_and_ratio_are_taken_within_a_round():
    """
    The median of differences, which is not the difference of medians.
    """
    whole, plain = Figure((10.0, 30.0, 50.0)), Figure((5.0, 1.0, 40.0))

    assert whole.less(plain).values == (5.0, 29.0, 10.0)
    assert whole.less(plain).median == 10
    assert whole.times(plain).values == (2.0, 30.0, 1.25)


def test_a_statement_is_run_as_often_as_is_said_and_may_await():
    """
    Names are its own, whatever the loop around it calls things.
    """
    seen: list[int] = []

    async def note(run: int) -> None:
        seen.append(run)

    isolated.looped("seen.append(n)", seen=seen, n=1)(3)
    isolated.awaited("await note(clock)", note=note, clock=2)(2)

    assert seen == [1, 1, 1, 2, 2]


def test_what_is_prepared_is_fresh_for_each_operation():
    """
    An operation that empties its state finds it full each time.
    """
    found: list[int] = []

    def prepare():
        state = [1, 2, 3]
        return lambda: (found.append(len(state)), state.clear())

    isolated.prepared(prepare)(2)

    assert found == [3, 3]
