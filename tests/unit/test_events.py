"""The row of events that any number may follow."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import clock_id, now_ns
from harness.errors import InvalidValue
from harness.refdaemon.events import Events


def filled(count: int, *, keep: int = 5) -> Events:
    """So many events, each about its own number."""
    events = Events(keep=keep)
    for number in range(1, count + 1):
        events.note("made up", {"number": number})
    return events


def numbers(events: Events, seq: int, *, most: int | None = None) -> list[int]:
    """The numbers of what came since; a lost one is minus its count."""
    return [
        -each["count"] if each["kind"] == "lost" else each["seq"]
        for each in events.since(seq, most=most)
    ]


def test_an_event_says_what_when_and_by_which_clock():
    """
    Its own fields first, and nothing that is said of it takes their place.
    """
    before_ns = now_ns()
    events = Events()
    events.note("breaker changed", {"name": "provider", "seq": 77, "kind": "mine"})
    (event,) = events.since(0)

    assert list(event) == ["seq", "time_ns", "clock", "kind", "name"]
    assert before_ns <= event["time_ns"] <= now_ns()
    assert (event["seq"], event["clock"], event["kind"]) == (1, clock_id(), "breaker changed")
    assert event["name"] == "provider"


@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 30))
def test_what_is_told_and_what_is_lost_are_all_there_was(count: int, keep: int, seq: int):
    """
    Whoever knows number N is told of N + 1 and so on, or of how many of them are forgotten.
    """
    events = filled(count, keep=keep)
    known = seq if seq <= count else 0
    lost = max(0, count - keep - known)
    told = list(range(known + lost + 1, count + 1))

    assert numbers(events, seq) == ([-lost] if lost else []) + told


def test_a_lost_one_stands_in_for_the_last_that_is_forgotten():
    """
    So whoever goes on from its number misses nothing more.
    """
    events = filled(8, keep=3)
    lost, *rest = events.since(2)

    assert (lost["seq"], lost["kind"], lost["count"]) == (5, "lost", 3)
    assert numbers(events, lost["seq"]) == [each["seq"] for each in rest] == [6, 7, 8]


def test_no_more_are_told_at_once_than_are_asked_for():
    """
    The oldest of them; the rest follows from there.
    """
    events = filled(8, keep=6)

    assert numbers(events, 0, most=2) == [-2, 3, 4]
    assert numbers(events, 4, most=3) == [5, 6, 7]
    assert numbers(events, 7, most=3) == [8]


def test_a_number_that_is_not_reached_is_of_an_earlier_life():
    """
    The daemon was started anew; whoever followed it before is told everything.
    """
    assert numbers(filled(2), 500) == [1, 2]
    assert numbers(filled(2), -1) == [1, 2]
    assert numbers(Events(), 500) == []


def test_none_is_not_a_number_of_events():
    """
    A row that keeps nothing could be followed by nobody.
    """
    with pytest.raises(InvalidValue):
        Events(keep=0)


@pytest.mark.parametrize("seq", [0, 1, 500])
async def test_who_waits_is_woken_by_what_is_new_to_it(seq: int):
    """
    At once where there is something already, else by the next event.
    """
    events = filled(min(seq, 1))
    waiting = asyncio.create_task(events.news(seq))
    await asyncio.sleep(0)
    woken_early = waiting.done()
    events.note("new", {})
    async with asyncio.timeout(1):
        await waiting

    # Of number 500 an earlier life told; the one there is is news.
    assert woken_early == (seq == 500)


async def test_many_wait_and_each_is_woken():
    """
    One that is cancelled takes nobody along.
    """
    events = Events()
    waiting = [asyncio.create_task(events.news(0)) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[3].cancel()
    await asyncio.sleep(0)
    others = [task for task in waiting if task is not waiting[3]]
    assert not any(task.done() for task in others)

    events.note("new", {})
    async with asyncio.timeout(1):
        await asyncio.gather(*others)

    assert waiting[3].cancelled()


async def test_who_waits_again_waits_for_the_next():
    """
    What it was woken by wakes it no second time.
    """
    events = filled(1)
    await events.news(0)
    waiting = asyncio.create_task(events.news(1))
    for _ in range(3):
        await asyncio.sleep(0)

    assert not waiting.done()
    events.note("new", {})
    async with asyncio.timeout(1):
        await waiting
