"""The throttle, with made-up times."""

from __future__ import annotations

import pytest

from harness.clock import Draws
from harness.faults.bandwidth import Bandwidth
from harness.faults.base import EOF, Pipe

DRAWS = Draws(7, "test")


def throttle(rate_kb_per_s: int) -> Pipe:
    return Bandwidth(rate_kb_per_s=rate_kb_per_s).pipe(DRAWS, 0.0)


@pytest.mark.toxic("bandwidth")
def test_bandwidth_passes_a_long_chunk_in_pieces_of_100_ms():
    """
    2500 bytes at 10 kB/s leave as 1000 bytes after 100 ms, 1000 after 200, 500 after 250.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(2500), 1.0)

    assert pipe.advance(1.0999) == []
    assert pipe.advance(1.1) == [bytes(1000)]
    assert pipe.advance(1.21) == [bytes(1000)]
    assert pipe.next_due() == pytest.approx(1.25)
    assert pipe.advance(1.2501) == [bytes(500)]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_holds_a_short_chunk_for_its_whole_time():
    """
    500 bytes at 10 kB/s leave whole after 50 ms.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(500), 1.0)

    assert pipe.advance(1.049) == []
    assert pipe.advance(1.05) == [bytes(500)]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_reports_the_bytes_it_delayed():
    """
    Every piece is evidence.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(1500), 1.0)
    pipe.advance(2.0)

    assert [(touch.kind, touch.bytes) for touch in pipe.touches] == [
        ("delayed", 1000),
        ("delayed", 500),
    ]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_does_not_add_up_lateness():
    """
    Asked late, it gives out all that is due by then, as if it had been asked in time.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(3000), 1.0)

    assert pipe.advance(1.25) == [bytes(1000), bytes(1000)]
    assert pipe.next_due() == pytest.approx(1.3)


@pytest.mark.toxic("bandwidth")
def test_bandwidth_takes_no_credit_for_idle_time():
    """
    After ten quiet seconds a chunk takes as long as any other.
    """
    pipe = throttle(10)
    pipe.receive_data(bytes(500), 1.0)
    pipe.advance(5.0)

    pipe.receive_data(bytes(500), 11.0)

    assert pipe.advance(11.0) == []
    assert pipe.next_due() == pytest.approx(11.05)


@pytest.mark.toxic("bandwidth")
def test_bandwidth_lets_the_end_follow_the_last_byte():
    """
    EOF waits for the data before it and takes no time of its own.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(500), 1.0)
    pipe.receive_eof(1.0)

    assert pipe.advance(1.04) == []
    assert pipe.advance(1.06) == [bytes(500), EOF]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_of_zero_lets_nothing_through():
    """
    At a rate of 0 nothing is ever due, and what is held is not lost.
    """
    pipe = throttle(0)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.next_due() is None
    assert pipe.advance(1e9) == []
    assert pipe.drain() == [b"abc"]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_changed_on_the_fly_applies_to_what_is_held():
    """
    A chunk that would have taken 100 s leaves in 100 ms at a thousand times the rate.
    """
    pipe = throttle(1)

    pipe.receive_data(bytes(100_000), 1.0)
    assert pipe.advance(1.0) == []
    pipe.change(Bandwidth(rate_kb_per_s=1000), 2.0)

    assert pipe.advance(2.0) == []
    assert pipe.advance(2.1) == [bytes(100_000)]


@pytest.mark.toxic("bandwidth")
def test_bandwidth_drained_gives_up_all_it_held_in_order():
    """
    Removing the toxic in the middle of a chunk loses no byte, nor the end.
    """
    pipe = throttle(10)
    pipe.receive_data(b"a" * 1500, 1.0)
    pipe.receive_data(b"b", 1.0)
    pipe.receive_eof(1.0)

    assert pipe.advance(1.1) == [b"a" * 1000]
    assert pipe.drain() == [b"a" * 500, b"b", EOF]
    assert (pipe.held_bytes, pipe.next_due()) == (0, None)


@pytest.mark.toxic("bandwidth")
def test_bandwidth_pushes_back_when_it_holds_its_limit():
    """
    It asks for no more until something left, so that the sender feels the narrow pipe.
    """
    pipe = throttle(10)

    pipe.receive_data(bytes(pipe.hold_limit_bytes), 1.0)
    assert pipe.full
    pipe.advance(1.1)

    assert not pipe.full
