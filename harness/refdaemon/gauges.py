"""
Reads the daemon's gauges again and again, and holds them against the alerts' thresholds.

What else is to be done from time to time, forgetting clients, is done in the same beat.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Any

from harness.clock import now
from harness.refdaemon.process import descriptor_limit, descriptors, memory_bytes
from harness.refdaemon.state import State
from harness.resilience.alerts import Alerts, Readings

__all__ = ["Gauges"]

log = logging.getLogger(__name__)

_FAILED = ("calls_failed", "calls_timed_out")
_ENDED = ("calls_executed", *_FAILED)


class Gauges:
    """
    Args:
        state: The daemon's.

    Attributes:
        alerts: Which alerts there are.
        readings: What was read last.
        lag_s: How late the last beat was: for so long the event loop did something else.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.alerts = Alerts(state.config.alerts)
        self.readings = Readings()
        self.lag_s = 0.0
        self._worked = state.figures.worked.snapshot()
        self._counts = state.figures.counts()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = now()
        state.live.watch(lambda config: self.alerts.adopt(config.alerts))

    def start(self) -> None:
        """Read from now on."""
        self._wait()

    def stop(self) -> None:
        """Read no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        interval_s = self._state.config.alerts.interval_s
        self._due_s = now() + interval_s
        self._timer = asyncio.get_running_loop().call_later(interval_s, self._beat)

    def _beat(self) -> None:
        self.lag_s = max(0.0, now() - self._due_s)
        state = self._state
        self.readings = self._read()
        for change in self.alerts.judge(self.readings):
            log.warning("alert %s: %s, reading %s", change.gauge, change.kind, change.reading)
            state.note(f"alert {change.kind}", asdict(change))
        if "slots-recovered" in state.defects:
            for name in state.sessions:
                state.admission.ended(name)
        if state.metrics.due_clean_up():
            state.metrics.forget_gone()
        self._wait()

    def _read(self) -> Readings:
        state = self._state
        worked, before = state.figures.worked.snapshot(), self._worked
        counts, counted = state.figures.counts(), self._counts
        self._worked, self._counts = worked, counts
        p95_ns = worked.since(before).percentile(95)
        ended = _sum(counts, _ENDED) - _sum(counted, _ENDED)
        failed = _sum(counts, _FAILED) - _sum(counted, _FAILED)
        # Where nothing was called nothing is slow, and nothing fails; of calls that are not over
        # nobody knows.
        nothing = 0.0 if not ended and not state.admission.calls else None
        used, limit = descriptors(), descriptor_limit()
        config = state.config
        return Readings(
            p95_ms=nothing if p95_ns is None else p95_ns / 1e6,
            error_rate=failed / ended if ended else nothing,
            open_breakers=state.open_breakers(),
            queue_fill=self._fullest_queue(),
            memory_bytes=memory_bytes(),
            descriptors_fill=None if used is None else used / limit,
            connections_fill=state.admission.connections / config.admission.max_connections,
        )

    def _fullest_queue(self) -> float:
        connections, limits = self._state.connections, self._state.config.connections
        if not connections.waiting:
            return 0.0
        # Whichever of its two bounds is nearer.
        return max(
            max(
                connections.kept(name) / limits.queue_messages,
                connections.kept_bytes(name) / limits.queue_bytes,
            )
            for name in self._state.sessions
        )


def _sum(counts: dict[str, Any], names: tuple[str, ...]) -> int:
    return sum(int(counts[name]) for name in names)
