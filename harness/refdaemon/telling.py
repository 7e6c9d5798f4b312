"""What the daemon says of itself: to clients that ask for its health, and to its monitor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.clock import now
from harness.errors import InvalidValue
from harness.refdaemon.events import Events
from harness.refdaemon.gauges import Gauges
from harness.refdaemon.process import descriptor_limit, descriptors, memory_bytes
from harness.refdaemon.state import State
from harness.refdaemon.subject import Health
from harness.resilience.config import KEYS
from harness.resilience.config.live import HIDDEN, Differences

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Telling", "health_report"]

_LAG_S: Final = 1.0


def health_report(state: State) -> dict[str, Any]:
    """The report of the `health` op."""
    return {
        "connections": len(state.guests),
        "sessions": state.connections.connected,
        "sessions_remembered": len(state.sessions),
        "running_calls": len(state.running),
        "uptime_s": round(now() - state.started, 3),
        "pid": os.getpid(),
        "draining": state.draining,
        "tool_state": state.tools.remembered(),
        "open_breakers": state.open_breakers(),
        "configuration": _digest(state),
        "counters": state.figures.counts(),
    }


class Telling:
    """
    What the monitor serves.

    Args:
        state: The daemon's.
        gauges: What was read last, and the alerts.
    """

    def __init__(self, state: State, gauges: Gauges) -> None:
        self._state = state
        self._gauges = gauges

    @property
    def events(self) -> Events:
        """What happened of late."""
        return self._state.events

    def health(self) -> Health:
        """It is ready where a hello would succeed now; it lives where it can say so."""
        why_not = [] if "static-health" in self._state.defects else self._why_not()
        return Health(live=True, ready=not why_not, why_not=tuple(why_not))

    def _why_not(self) -> list[str]:
        """Why a hello would fail now, or be answered late; nothing where it would not."""
        state = self._state
        limits = state.config.admission
        found = []
        if state.draining:
            found.append("the daemon is shutting down")
        if not state.listening:
            found.append("nobody listens for connections")
        if state.admission.connections >= limits.max_connections:
            found.append(f"{limits.max_connections} connections, which is max_connections")
        if state.admission.sessions >= limits.max_sessions:
            found.append(f"{limits.max_sessions} sessions, which is max_sessions")
        used = descriptors()
        if used is not None and used >= descriptor_limit():
            found.append(f"{used} descriptors, which is the limit of the process")
        if self._gauges.lag_s > _LAG_S:
            found.append(f"the event loop was busy for {self._gauges.lag_s:.1f} s")
        return found

    def status(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        state = self._state
        figures = state.figures
        return {
            **health_report(state),
            "why_not_ready": self._why_not(),
            "unread_bytes": sum(guest.buffered() for guest in state.guests),
            "permits": {
                "max_inflight": state.config.admission.max_inflight,
                "in_use": state.admission.calls,
            },
            "waiting_answers": state.connections.waiting,
            "limits_met": dict(figures.limits),
            "error_codes": dict(figures.codes),
            "keys": {
                "kept": len(state.idempotency),
                "bytes": state.idempotency.bytes,
                "forgotten": state.idempotency.forgotten,
                "answers_gone": state.idempotency.answers_gone,
            },
            "breakers": {
                report.name: asdict(report)
                for report in (state.provider_breaker.report(), *_open(state))
            },
            "alerts": dict(self._gauges.alerts.active),
            "readings": asdict(self._gauges.readings),
            "loop_lag_s": self._gauges.lag_s,
            "process": {
                "memory_bytes": memory_bytes(),
                "descriptors": descriptors(),
                "descriptor_limit": descriptor_limit(),
            },
            "config": _shown(state),
            "pending": [str(change) for change in state.live.pending],
            "defects": sorted(state.defects),
        }

    def families(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' families."""
        # An extra, and slow to import: only whoever is scraped pays for it.
        from harness.refdaemon.families import families

        yield from families(self._state, self._gauges)

    def reload(self) -> Mapping[str, Any]:
        """
        Read the configuration's sources again.

        Raises:
            InvalidValue: With all that is wrong; nothing has changed then.
        """
        return _told(self._state.configuring.reload())

    def reconfigure(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Change values, by "section.key".

        Raises:
            InvalidValue: With all that is wrong; nothing has changed then.
        """
        if not isinstance(values, Mapping) or not values:
            raise InvalidValue('expected an object of "section.key" to value')
        return _told(self._state.configuring.change(values))


def _told(found: Differences) -> Mapping[str, Any]:
    return {
        "changed": {change.name: change.new for change in found.live},
        "pending": {change.name: change.new for change in found.restart},
    }


def _open(state: State) -> list[Any]:
    return [breaker.report() for breaker in state.breakers if not breaker.is_closed]


def _shown(state: State) -> dict[str, dict[str, Any]]:
    loaded = state.live.loaded
    return {
        name: {
            "value": HIDDEN if rules.secret else loaded.config.value(name),
            "origin": loaded.origin(name),
        }
        for name, rules in KEYS.items()
    }


def _digest(state: State) -> str:
    """Names what is configured, without saying it."""
    values = {name: state.config.value(name) for name, rules in KEYS.items() if not rules.secret}
    return hashlib.blake2b(msgspec.json.encode(values), digest_size=6).hexdigest()
