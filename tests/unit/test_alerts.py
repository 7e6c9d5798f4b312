"""Readings against thresholds: when an alert begins, changes and ends."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.resilience.alerts import AlertChange, Alerts, AlertSettings, Readings

GAUGES = [each.name for each in fields(Readings)]


def alerts(**thresholds: Any) -> Alerts:
    """With these thresholds and no others."""
    none = {f"{level}_{gauge}": None for level in ("warn", "critical") for gauge in GAUGES}
    return Alerts(AlertSettings(**{**none, **thresholds}))


@pytest.mark.parametrize("gauge", GAUGES)
def test_each_gauge_has_a_threshold_that_is_met_when_it_is_reached(gauge: str):
    """
    A little less is no alert; as much is one, and more stays the same one.
    """
    threshold = 1 if gauge in ("open_breakers", "memory_bytes") else 0.5
    judge = alerts(**{f"warn_{gauge}": threshold}).judge

    assert judge(Readings(**{gauge: threshold - 0.001})) == []
    assert judge(Readings(**{gauge: threshold})) == [
        AlertChange(gauge=gauge, before=None, level="warn", reading=threshold, threshold=threshold)
    ]
    assert judge(Readings(**{gauge: threshold + 0.001})) == []


def test_an_alert_climbs_and_comes_down_by_levels():
    """
    Each step is told with what was read and the threshold of the higher level.
    """
    alert = alerts(warn_p95_ms=100, critical_p95_ms=1000, clear_at=1)

    changes = [
        (change.kind, change.before, change.level, change.reading, change.threshold)
        for reading in (100, 1000, 999, 99, 1000, 0)
        for change in alert.judge(Readings(p95_ms=reading))
    ]

    assert changes == [
        ("raised", None, "warn", 100, 100),
        ("changed", "warn", "critical", 1000, 1000),
        ("changed", "critical", "warn", 999, 1000),
        ("cleared", "warn", None, 99, 100),
        ("raised", None, "critical", 1000, 1000),
        ("cleared", "critical", None, 0, 1000),
    ]


def test_a_warning_becomes_critical_at_the_whole_threshold():
    """
    What an alert is left by later than it was entered is its own level, not the next.
    """
    alert = alerts(warn_p95_ms=100, critical_p95_ms=1000, clear_at=0.9)
    alert.judge(Readings(p95_ms=100))

    assert alert.judge(Readings(p95_ms=950)) == []
    assert dict(alert.active) == {"p95_ms": "warn"}


def test_a_reading_that_sways_about_a_threshold_raises_one_alert():
    """
    It is left below clear_at of the threshold; exactly there it is not yet.
    """
    alert = alerts(warn_p95_ms=100, critical_p95_ms=1000, clear_at=0.5)

    levels = []
    for reading in (100, 99, 101, 50, 49.9, 99, 1000, 500, 50, 49.9, 1000, 49.9):
        alert.judge(Readings(p95_ms=reading))
        levels.append(alert.active.get("p95_ms"))

    assert levels == [
        *("warn", "warn", "warn", "warn", None, None),
        *("critical", "critical", "warn", None, "critical", None),
    ]


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_is_not_known_raises_nothing_and_clears_nothing(unknown: float | None):
    """
    An alert whose reading is gone stays until there is one.
    """
    alert = alerts(warn_p95_ms=100, warn_error_rate=0.5)
    alert.judge(Readings(p95_ms=100))

    assert alert.judge(Readings(p95_ms=unknown, error_rate=unknown)) == []
    assert alert.active == {"p95_ms": "warn"}
    assert [change.kind for change in alert.judge(Readings(p95_ms=1))] == ["cleared"]


def test_other_thresholds_hold_from_the_next_readings_on():
    """
    An alert whose thresholds were lifted ends, whether or not its reading is known.
    """
    alert = alerts(warn_p95_ms=100, warn_memory_bytes=1)
    alert.judge(Readings(p95_ms=150, memory_bytes=1))

    alert.adopt(AlertSettings(warn_p95_ms=200, critical_p95_ms=None, warn_memory_bytes=None))

    assert alert.active == {"p95_ms": "warn", "memory_bytes": "warn"}
    changes = alert.judge(Readings(p95_ms=150))
    assert [(change.gauge, change.kind, change.threshold) for change in changes] == [
        ("p95_ms", "cleared", 200),
        ("memory_bytes", "cleared", None),
    ]


def test_several_alerts_come_in_the_order_of_the_gauges():
    """
    Whatever each of them does.
    """
    alert = Alerts(AlertSettings())

    changes = alert.judge(
        Readings(
            p95_ms=100,
            error_rate=0.25,
            open_breakers=1,
            queue_fill=0.95,
            memory_bytes=1 << 40,
            descriptors_fill=0.1,
            connections_fill=1,
        )
    )

    assert [(change.gauge, change.level) for change in changes] == [
        ("p95_ms", "warn"),
        ("error_rate", "critical"),
        ("open_breakers", "warn"),
        ("queue_fill", "critical"),
        ("connections_fill", "critical"),
    ]


@given(
    thresholds=st.tuples(st.floats(1, 50), st.floats(51, 100)),
    clear_at=st.floats(0.1, 1),
    readings=st.lists(st.none() | st.floats(0, 200), max_size=30),
)
def test_changes_and_what_is_active_tell_the_same(
    thresholds: tuple[float, float], clear_at: float, readings: list[float | None]
):
    """
    Each change begins where the last one ended, and none tells of nothing.
    """
    warn, critical = thresholds
    alert = alerts(warn_p95_ms=warn, critical_p95_ms=critical, clear_at=clear_at)
    level = None
    for reading in readings:
        for change in alert.judge(Readings(p95_ms=reading)):
            assert change.before == level != change.level
            level = change.level
        assert alert.active.get("p95_ms") == level
        if reading is not None:
            assert (reading >= warn) <= (level is not None)
            assert (reading >= critical) == (level == "critical") or reading >= critical * clear_at
