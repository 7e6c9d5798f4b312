"""
When somebody should look: readings held against thresholds, each with two levels.

No clock and nobody to tell here: readings go in, what changed comes out.

Rule: what is not known raises nothing and clears nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from harness.resilience.settings import Settings, key

__all__ = ["AlertChange", "AlertSettings", "Alerts", "Level", "Readings"]

Level = Literal["warn", "critical"]

_LEVELS: Final[tuple[Level, ...]] = ("critical", "warn")


@dataclass(frozen=True, kw_only=True)
class Readings:
    """
    What the gauges say; None where that is not known.

    Attributes:
        p95_ms: The 95th percentile of how long calls took.
        error_rate: The part of the calls that failed, 0 to 1.
        open_breakers: How many breakers are open.
        queue_fill: How full the fullest queue is, 0 to 1.
        memory_bytes: What the process holds of memory.
        descriptors_fill: The part of its descriptors that it uses, 0 to 1.
        connections_fill: The part of its connections that it has, 0 to 1.
    """

    p95_ms: float | None = None
    error_rate: float | None = None
    open_breakers: int | None = None
    queue_fill: float | None = None
    memory_bytes: int | None = None
    descriptors_fill: float | None = None
    connections_fill: float | None = None


_GAUGES: Final = tuple(each.name for each in fields(Readings))


def _threshold(default: float | None, about: str, *, most: float | None = None) -> Any:
    return key(default, about=about, above=0, high=most)


@dataclass(frozen=True, kw_only=True)
class AlertSettings(Settings):
    """
    From which reading on there is an alert: a level and the name of a gauge for each key.

    A threshold is met by a reading that is as large; None is no alert. All of it is live.
    """

    interval_s: float = key(
        1.0,
        about="how often gauges are read; rates and percentiles are of the calls that ended since"
        " then, and stay as they were while none ends and some run",
        above=0,
        high=3_600,
        variable="EXAI_ALERTS_INTERVAL_S",
    )
    warn_p95_ms: float | None = _threshold(100.0, "95 of 100 calls are faster than this")
    critical_p95_ms: float | None = _threshold(1000.0, "the same, where it hurts")
    warn_error_rate: float | None = _threshold(0.05, "the part of calls that fail", most=1)
    critical_error_rate: float | None = _threshold(0.25, "the same, where it hurts", most=1)
    warn_open_breakers: int | None = _threshold(1, "how many breakers are open")
    critical_open_breakers: int | None = _threshold(None, "the same, where it hurts")
    warn_queue_fill: float | None = _threshold(
        0.8, "how full a queue is, in messages or in bytes", most=1
    )
    critical_queue_fill: float | None = _threshold(0.95, "the same, where it hurts", most=1)
    warn_memory_bytes: int | None = _threshold(None, "the memory of the process")
    critical_memory_bytes: int | None = _threshold(None, "the same, where it hurts")
    warn_descriptors_fill: float | None = _threshold(
        0.8, "the part of the descriptors that is in use", most=1
    )
    critical_descriptors_fill: float | None = _threshold(0.95, "the same, where it hurts", most=1)
    warn_connections_fill: float | None = _threshold(
        0.8, "the part of max_connections that is in use", most=1
    )
    critical_connections_fill: float | None = _threshold(0.95, "the same, where it hurts", most=1)
    clear_at: float = key(
        0.9,
        about="a level is left when the reading is below this part of its threshold",
        above=0,
        high=1,
        advice="1 where a reading does not sway",
    )

    def threshold(self, level: Level, gauge: str) -> float | None:
        """The reading from which on there is an alert of that level."""
        found: float | None = getattr(self, f"{level}_{gauge}")
        return found

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """A warning comes first."""
        for gauge in _GAUGES:
            warn, critical = self.threshold("warn", gauge), self.threshold("critical", gauge)
            if warn is not None and critical is not None and warn > critical:
                keys = (f"warn_{gauge}", f"critical_{gauge}")
                yield keys, f"{warn:g} is more than {keys[1]}, {critical:g}; a warning comes first"


@dataclass(frozen=True, kw_only=True)
class AlertChange:
    """
    An alert that came, went, or is of another level now.

    Attributes:
        gauge: The field of `Readings` it is about.
        before: Its level until now, None where there was no alert.
        level: Its level from now on, None where there is no alert any more.
        reading: What was read; None where it went because its thresholds did.
        threshold: Of the higher of the two levels; None where that has none any more.
    """

    gauge: str
    before: Level | None
    level: Level | None
    reading: float | None
    threshold: float | None

    @property
    def kind(self) -> Literal["raised", "cleared", "changed"]:
        """What became of it."""
        if self.before is None:
            return "raised"
        return "cleared" if self.level is None else "changed"


class Alerts:
    """
    Which alerts there are.

    An alert begins when a reading meets a threshold, and ends when one is below `clear_at` of it:
    a reading that sways about a threshold raises one alert, not many.

    Args:
        settings: The thresholds.
    """

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._active: dict[str, Level] = {}

    @property
    def active(self) -> Mapping[str, Level]:
        """The level of each alert that there is, by its gauge."""
        return dict(self._active)

    def adopt(self, settings: AlertSettings) -> None:
        """Go by other thresholds from the next readings on."""
        self._settings = settings

    def judge(self, readings: Readings) -> list[AlertChange]:
        """What these readings change, in the order of the gauges."""
        changes = (self._judged(gauge, getattr(readings, gauge)) for gauge in _GAUGES)
        return [change for change in changes if change is not None]

    def _judged(self, gauge: str, reading: float | None) -> AlertChange | None:
        before = self._active.get(gauge)
        level = self._level(gauge, reading, before)
        if level == before:
            return None
        if level is None:
            del self._active[gauge]
        else:
            self._active[gauge] = level
        higher: Level = "critical" if "critical" in (before, level) else "warn"
        return AlertChange(
            gauge=gauge,
            before=before,
            level=level,
            reading=reading,
            threshold=self._settings.threshold(higher, gauge),
        )

    def _level(self, gauge: str, reading: float | None, before: Level | None) -> Level | None:
        thresholds = [(level, self._settings.threshold(level, gauge)) for level in _LEVELS]
        known = [(level, threshold) for level, threshold in thresholds if threshold is not None]
        if reading is None or math.isnan(reading):
            # Without thresholds nothing could ever clear it.
            return before if known else None
        for level, threshold in known:
            # A level that is there, or one below it, is left a little later than it was entered.
            held = before is not None and before in (level, "critical")
            if reading >= threshold * (self._settings.clear_at if held else 1):
                return level
        return None
