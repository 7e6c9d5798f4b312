"""The black hole, with made-up times."""

from __future__ import annotations

import pytest

from harness.clock import Draws
from harness.faults.base import EOF, Pipe
from harness.faults.timeout import Timeout

DRAWS = Draws(7, "test")


def hole(timeout_ms: int, now: float = 0.0) -> Pipe:
    return Timeout(timeout_ms=timeout_ms).pipe(DRAWS, now)


@pytest.mark.toxic("timeout")
def test_timeout_of_zero_swallows_data_and_never_closes():
    """
    Nothing comes out, ever, and the bytes are reported as dropped.
    """
    pipe = hole(0)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.next_due() is None
    assert pipe.advance(1e9) == []
    assert [(touch.kind, touch.bytes) for touch in pipe.touches] == [("dropped", 3)]


@pytest.mark.toxic("timeout")
def test_timeout_closes_a_connection_on_which_nothing_moves():
    """
    500 ms after the toxic came, a quiet connection is closed.
    """
    pipe = hole(500, now=1.0)

    assert pipe.advance(1.499) == []
    assert pipe.advance(1.5) == [EOF]
    assert pipe.next_due() is None
    assert pipe.touches[-1].kind == "cut"


@pytest.mark.toxic("timeout")
def test_timeout_starts_anew_with_every_chunk():
    """
    A busy connection is never closed.
    """
    pipe = hole(500, now=1.0)

    for number in range(100):
        pipe.receive_data(b"x", 1.0 + number * 0.4)
        assert pipe.advance(1.0 + number * 0.4) == []

    assert pipe.next_due() == pytest.approx(1.0 + 99 * 0.4 + 0.5)


def test_timeout_passes_the_end_at_once():
    """
    EOF is not swallowed.
    """
    pipe = hole(0)

    pipe.receive_eof(3.0)

    assert pipe.advance(3.0) == [EOF]
    assert pipe.advance(4.0) == []


@pytest.mark.toxic("timeout")
def test_timeout_changed_on_the_fly_waits_its_new_time_from_then_on():
    """
    A hole without an end gets one.
    """
    pipe = hole(0)
    pipe.receive_data(b"abc", 1.0)

    pipe.change(Timeout(timeout_ms=100), 5.0)

    assert pipe.next_due() == pytest.approx(5.1)
    assert pipe.advance(5.11) == [EOF]


@pytest.mark.toxic("timeout")
def test_timeout_drained_closes_the_connection():
    """
    What follows a gap in a stream means nothing, so lifting it ends the stream.
    """
    pipe = hole(0)
    pipe.receive_data(b"abc", 1.0)

    assert pipe.drain() == [EOF]
    assert pipe.drain() == []


@pytest.mark.toxic("timeout")
def test_timeout_gives_out_nothing_after_its_end():
    """
    Data after the end is dropped, and the end comes once.
    """
    pipe = hole(100, now=1.0)
    assert pipe.advance(2.0) == [EOF]

    pipe.receive_data(b"late", 2.0)
    pipe.receive_eof(2.0)

    assert pipe.advance(9.0) == []
    assert pipe.drain() == []
