"""
The daemon's metrics for Prometheus, beside those of `resilience.prometheus`.

All with the prefix `harness_`:

    calls_total{outcome}: executed, failed, refused, cancelled, timed_out, replayed
    call_errors_total{code}
    call_queue_wait_seconds                                             histogram
    calls_running, sessions_remembered, keys_kept, keys_bytes           gauges
    connections_refused_total, connections_ended_total{how}: reset, eof, closed
    connections_given_up_total{why}: silent, not_reading, replaced, hello
    frames_refused_total, limits_met_total{limit}
    wire_bytes_total{direction}: frames with their headers; received, sent. A frame that its
        library could not take, and what that answered by itself, may be missing
    answers_left_total, unread_bytes
    alert{gauge, level}: 1 while there is one                           gauge
    loop_lag_seconds                                                    gauge
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from harness.refdaemon.gauges import Gauges
from harness.refdaemon.state import State
from harness.resilience.prometheus import MetricsCollector, histogram

__all__ = ["families"]


def families(state: State, gauges: Gauges) -> Iterator[Metric]:
    """All families, of one moment."""
    yield from MetricsCollector(lambda: state.metrics.snapshot(clients=False)).collect()
    yield from _calls(state)
    yield from _connections(state)
    yield from _amounts(state, gauges)


def _calls(state: State) -> Iterator[Metric]:
    seen, figures = state.figures.counters, state.figures
    outcomes = {
        "executed": seen.calls_executed,
        "failed": seen.calls_failed,
        "refused": seen.calls_refused,
        "cancelled": seen.calls_cancelled,
        "timed_out": seen.calls_timed_out,
        "replayed": seen.calls_replayed,
    }
    yield _counters("calls", "Calls, by how they ended.", "outcome", outcomes)
    yield _counters("call_errors", "Errors answered.", "code", figures.codes)
    about = "From reading a call to the start of its tool."
    yield histogram("call_queue_wait_seconds", about, figures.waited.snapshot())
    yield _counters("limits_met", "What was refused, by the limit met.", "limit", figures.limits)
    yield _counter("frames_refused", "Frames that made no sense.", seen.frames_refused)


def _connections(state: State) -> Iterator[Metric]:
    seen = state.figures.counters
    yield _counter("upgrades", "Upgrades done.", seen.connections_opened)
    yield _counter("connections_refused", "Upgraded, and not let in.", seen.connections_refused)
    how = {
        "reset": seen.closed_by_reset,
        "eof": seen.closed_by_eof,
        "closed": seen.closed_orderly,
    }
    yield _counters("connections_ended", "Connections that are gone.", "how", how)
    why = {
        "silent": seen.pings_missed,
        "not_reading": seen.readers_shed,
        "replaced": seen.connections_replaced,
        "hello": seen.hellos_refused,
    }
    yield _counters("connections_given_up", "Connections we closed.", "why", why)
    received, sent = state.wire_bytes()
    directions = {"received": received, "sent": sent}
    yield _counters("wire_bytes", "Bytes of frames, headers included.", "direction", directions)


def _amounts(state: State, gauges: Gauges) -> Iterator[Metric]:
    yield _gauge("connections_open", "Connections let in.", len(state.guests))
    yield _gauge("calls_running", "Calls whose tools run.", state.admission.calls)
    yield _gauge("sessions_remembered", "Sessions, those gone included.", len(state.sessions))
    yield _gauge("keys_kept", "Keys that are remembered.", len(state.idempotency))
    yield _gauge("keys_bytes", "What their answers weigh.", state.idempotency.bytes)
    yield _counter("answers_left", "Answers never sent.", state.figures.counters.replies_left)
    unread = sum(guest.buffered() for guest in state.guests)
    yield _gauge("unread_bytes", "Sent, and not taken by the peers.", unread)
    yield _gauge("loop_lag_seconds", "How late the last beat was.", gauges.lag_s)
    family = GaugeMetricFamily("harness_alert", "1 while there is one.", labels=["gauge", "level"])
    for gauge, level in gauges.alerts.active.items():
        family.add_metric([gauge, level], 1)
    yield family


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"harness_{name}", about, value=value)


def _counters(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"harness_{name}", about, labels=[label])
    for which, value in values.items():
        family.add_metric([which], value)
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"harness_{name}", about, value=value)
