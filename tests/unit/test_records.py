"""Records, one JSON object a line."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Effect, ProxyEvent, read_lines, write_line


def effect(sequence: int, key: str = "k", value: int | None = None) -> Effect:
    return Effect(
        sequence=sequence,
        time_ns=12,
        clock="monotonic:test",
        tool="counter",
        key=key,
        request_id="c-1",
        session="s",
        pid=4711,
        digest="0123456789abcdef",
        value=value,
    )


EFFECTS = [effect(1), effect(2, key='"\n\\é', value=3), effect(3)]
DATA = b"".join(map(write_line, EFFECTS))


def test_records_survive_the_file():
    """
    What was written is read back, whatever is in a string.
    """
    assert read_lines(DATA, Effect) == (EFFECTS, b"")


def test_a_record_is_one_line():
    """
    A newline inside a string does not end the line.
    """
    assert DATA.count(b"\n") == len(EFFECTS)


def test_every_torn_tail_is_told_apart_from_whole_lines():
    """
    Wherever a kill cut the file, the whole lines are read and the rest is handed over.
    """
    for size in range(len(DATA)):
        effects, tail = read_lines(DATA[:size], Effect)

        assert effects == EFFECTS[: DATA[:size].count(b"\n")]
        assert b"".join(map(write_line, effects)) + tail == DATA[:size]


def test_a_whole_line_that_is_no_record_is_refused():
    """
    Garbage in the middle is no torn tail.
    """
    with pytest.raises(msgspec.DecodeError):
        read_lines(b'{"sequence": 1}\n' + DATA, Effect)


def test_empty_lines_are_passed_over():
    """
    They hold nothing.
    """
    assert read_lines(b"\n" + DATA + b"\n", Effect) == (EFFECTS, b"")


def test_absent_fields_are_not_written():
    """
    A proxy event that concerns no bytes says nothing of bytes.
    """
    event = ProxyEvent(seq=1, time_ns=2, clock="c", kind="opened")

    assert write_line(event) == b'{"seq":1,"time_ns":2,"clock":"c","kind":"opened"}\n'


@given(st.binary(max_size=200))
def test_reading_garbage_is_either_refused_or_handed_back(data: bytes):
    """
    No bytes vanish: they are the tail, or the reading fails.
    """
    try:
        effects, tail = read_lines(data, Effect)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert effects == []
    assert data.strip(b"\n") == tail.strip(b"\n")
