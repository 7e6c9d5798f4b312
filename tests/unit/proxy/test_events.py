"""A bounded log that says where it forgot."""

from __future__ import annotations

from harness.clock import clock_id
from harness.proxy.events import EventLog


def filled(log: EventLog, count: int) -> EventLog:
    for number in range(1, count + 1):
        log.add("added", proxy="edge", toxic=f"toxic {number}")
    return log


def test_events_are_numbered_from_one_without_gaps():
    """The numbers are those that `since` counts by."""
    log = filled(EventLog(), 3)

    assert [event.seq for event in log.since(0)] == [1, 2, 3]
    assert log.newest == 3


def test_an_empty_log_has_nothing_to_tell():
    """Before the first event the newest is 0."""
    log = EventLog()

    assert (log.since(0), log.newest) == ([], 0)


def test_since_gives_what_came_after():
    """Whoever asks with the number of the last event he saw gets each event once."""
    log = filled(EventLog(), 5)

    assert [event.seq for event in log.since(3)] == [4, 5]
    assert log.since(5) == []


def test_since_a_number_that_is_not_reached_yet_gives_nothing():
    """A reader that outlived its server is told nothing, not everything."""
    assert filled(EventLog(), 2).since(99) == []


def test_what_was_forgotten_is_said_first():
    """With room for three of five, a line says that two are missing."""
    log = filled(EventLog(keep=3), 5)

    lost, *rest = log.since(0)

    assert (lost.kind, lost.bytes, lost.seq) == ("lost", 2, 2)
    assert [event.seq for event in rest] == [3, 4, 5]


def test_only_what_the_reader_missed_counts_as_lost():
    """What he had read before it was forgotten is not missing."""
    log = filled(EventLog(keep=3), 5)

    assert next((event.kind, event.bytes) for event in log.since(1)) == ("lost", 1)
    assert [event.kind for event in log.since(2)] == ["added"] * 3


def test_a_reader_who_continues_from_the_lost_line_misses_nothing_more():
    """The lost line carries the number of the last event that is gone."""
    log = filled(EventLog(keep=3), 5)
    lost = log.since(0)[0]

    assert [event.seq for event in log.since(lost.seq)] == [3, 4, 5]


def test_an_event_carries_what_it_was_given_and_its_clock():
    """A stamp is worth something only beside the name of its clock."""
    log = EventLog()
    log.add("cut", proxy="edge", connection=4, stream="upstream", toxic="t", size=9, detail="d")

    event = log.since(0)[0]

    assert (event.kind, event.proxy, event.connection) == ("cut", "edge", 4)
    assert (event.stream, event.toxic, event.bytes, event.detail) == ("upstream", "t", 9, "d")
    assert event.clock == clock_id()
    assert event.time_ns > 0


def test_stamps_never_run_backwards():
    """The order of the numbers is the order of the times."""
    stamps = [event.time_ns for event in filled(EventLog(), 50).since(0)]

    assert stamps == sorted(stamps)
