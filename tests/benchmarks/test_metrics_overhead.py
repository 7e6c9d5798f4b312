"""
What counting a message takes, beside what others would take for it.

    python -m tests.benchmarks.test_metrics_overhead [--rounds N]

A record is `ClientFigures.sent`: the client's counter, the total and the histogram. The must:
200 ns; the aim: 100 ns. They were set when a counter of Prometheus' client took 226 ns on a
machine whose speed has varied by a factor of 3 since, so the ratio to that counter in the same
round stands beside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Final

import pytest

from harness.clock import now
from harness.resilience.histogram import LIMIT_NS, Histogram
from harness.resilience.metrics import Metrics
from tests.benchmarks import isolated
from tests.benchmarks.isolated import EMPTY, WORDS, Candidate, Effort, Figure, Must

MUST_NS: Final = 200
AIM_NS: Final = 100
CHILD_NS: Final = 226
OURS: Final = "client.sent"
LINES: Final = (
    "empty loop",
    "plain call",
    "client.received",
    OURS,
    "Histogram.record",
    "prometheus",
    "opentelemetry",
    "hdrhistogram",
    "must: a record",
    "kept by 10,000 records",
)

_CHILD: Final = "prometheus child.inc"
_LATENCY_NS: Final = 1_234_567


def _ours() -> dict[str, Candidate]:
    client = Metrics(clock=now).client("client")
    client.opened()
    return {
        "empty loop": EMPTY,
        "plain call": isolated.looped("function(1)", function=lambda value: value),
        "client.received": isolated.looped("client.received()", client=client),
        OURS: isolated.looped(f"client.sent({_LATENCY_NS})", client=client),
        "Histogram.record": isolated.looped(f"it.record({_LATENCY_NS})", it=Histogram()),
    }


def _prometheus() -> dict[str, Candidate]:
    client = isolated.peer("prometheus_client", package="prometheus-client")
    if client is None:
        return {}
    registry = client.CollectorRegistry()
    counter = client.Counter("messages", "Messages.", ["client"], registry=registry)
    histogram = client.Histogram("latency", "Latency.", registry=registry)
    return {
        _CHILD: isolated.looped("child.inc()", child=counter.labels("client")),
        "prometheus labels().inc": isolated.looped('it.labels("client").inc()', it=counter),
        "prometheus Histogram.observe": isolated.looped("it.observe(0.001234567)", it=histogram),
    }


def _opentelemetry() -> dict[str, Candidate]:
    sdk = isolated.peer("opentelemetry.sdk.metrics", package="opentelemetry-sdk")
    if sdk is None:
        return {}
    reader = isolated.peer("opentelemetry.sdk.metrics.export")
    assert reader is not None
    provider = sdk.MeterProvider([reader.InMemoryMetricReader()], shutdown_on_exit=False)
    meter = provider.get_meter("benchmark")
    return {
        "opentelemetry counter.add": isolated.looped("it.add(1)", it=meter.create_counter("a")),
        "opentelemetry add, attributes": isolated.looped(
            'it.add(1, {"client": "client"})', it=meter.create_counter("b")
        ),
        "opentelemetry histogram.record": isolated.looped(
            "it.record(1.234567)", it=meter.create_histogram("c")
        ),
    }


def _hdrhistogram() -> dict[str, Candidate]:
    hdrh = isolated.peer("hdrh.histogram", package="hdrhistogram")
    if hdrh is None:
        return {}
    histogram = hdrh.HdrHistogram(1, LIMIT_NS, 3)
    return {
        "hdrhistogram record_value": isolated.looped(
            f"it.record_value({_LATENCY_NS})", it=histogram
        )
    }


def _tell_beside(figures: Mapping[str, Figure]) -> None:
    """The same where a peer takes what it took when the must was set."""
    if _CHILD in figures:
        ratio = figures[OURS].times(figures[_CHILD])
        then = Figure(tuple(CHILD_NS * value for value in ratio.values))
        print(
            f"a record is {ratio.spread('.2f')} x {_CHILD}: {then.median:,.0f} ns, where that",
            end=" ",
        )
        print(f"takes {CHILD_NS}, as it did when the must was set")


def run(effort: Effort) -> int:
    """Measure and tell; returns 1 if a must is missed."""
    candidates = _ours() | _prometheus() | _opentelemetry() | _hdrhistogram()
    figures = isolated.measure(candidates, effort)
    isolated.tell(
        figures,
        measured="one call with the same value each time, already in nanoseconds, and the loop"
        " around it; no reading of a clock, nobody who scrapes",
        effort=effort,
        against=OURS,
    )
    for name, kept in _kept_bytes().items():
        print(f"kept by 10,000 records of {name}: {kept:,} bytes")
    _tell_beside(figures)
    record = figures[OURS]
    return isolated.judge(
        [Must(name="a record", figure=record, unit="ns", most=MUST_NS, aim=AIM_NS)]
    )


def _kept_bytes() -> dict[str, int]:
    """What many records leave behind, with all clients there and every bucket in use."""
    metrics = Metrics(clock=now)
    clients = [metrics.client(f"client-{n}") for n in range(100)]
    values = [_LATENCY_NS + 997 * n for n in range(100)]

    def hundred_clients() -> None:
        for client in clients:
            for value in values:
                client.sent(value)

    hundred_clients()
    return {"100 clients": isolated.kept_bytes(hundred_clients)} | _one(clients[0].sent)


def _one(sent: Callable[[int], None]) -> dict[str, int]:
    def ten_thousand() -> None:
        for value in repeat(_LATENCY_NS, 10_000):
            sent(value)

    return {"1 client": isolated.kept_bytes(ten_thousand)}


def test_it_says_what_it_measures(capsys: pytest.CaptureFixture[str]):
    """
    Every figure has its line, and the words are there.
    """
    run(Effort(rounds=1, slice_ms=0.01))

    told = capsys.readouterr().out
    assert all(line in told for line in (WORDS, *LINES))


if __name__ == "__main__":
    sys.exit(isolated.main("test_metrics_overhead", __doc__, run))
