"""The delay line, with made-up times."""

from __future__ import annotations

import pytest

from harness.clock import Draws
from harness.faults.base import EOF
from harness.faults.latency import Latency

DRAWS = Draws(7, "test")


@pytest.mark.toxic("latency")
def test_latency_holds_a_chunk_for_its_whole_delay():
    """
    Nothing leaves a 200 ms delay before 200 ms, and the chunk leaves then.
    """
    pipe = Latency(latency_ms=200).pipe(DRAWS, 0.0)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.advance(1.1999) == []
    assert pipe.next_due() == 1.2
    assert pipe.advance(1.2) == [b"abc"]


@pytest.mark.toxic("latency")
def test_latency_reports_the_bytes_it_delayed():
    """
    What was held back is evidence: its kind and its bytes.
    """
    pipe = Latency(latency_ms=10).pipe(DRAWS, 0.0)

    pipe.receive_data(b"abc", 1.0)
    pipe.advance(2.0)

    assert [(touch.kind, touch.bytes) for touch in pipe.touches] == [("delayed", 3)]


def test_latency_of_zero_delays_nothing_and_reports_nothing():
    """
    Without a delay a chunk is due when it arrives, and no harm is claimed.
    """
    pipe = Latency(latency_ms=0).pipe(DRAWS, 0.0)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.advance(1.0) == [b"abc"]
    assert pipe.touches == []


def test_latency_counts_from_the_arrival_of_each_chunk():
    """
    Two chunks that arrive together leave together.
    """
    pipe = Latency(latency_ms=100).pipe(DRAWS, 0.0)

    pipe.receive_data(b"a", 1.0)
    pipe.receive_data(b"b", 1.0)
    pipe.receive_data(b"c", 1.05)

    assert pipe.advance(1.1) == [b"a", b"b"]
    assert pipe.advance(1.16) == [b"c"]


@pytest.mark.toxic("latency")
def test_latency_lets_the_end_wait_for_the_data_before_it_only():
    """
    EOF leaves together with the last byte, without a delay of its own.
    """
    pipe = Latency(latency_ms=100).pipe(DRAWS, 0.0)

    pipe.receive_data(b"a", 1.0)
    pipe.receive_eof(1.09)

    assert pipe.advance(1.09) == []
    assert pipe.advance(1.1) == [b"a", EOF]


def test_latency_passes_an_end_with_nothing_before_it_at_once():
    """
    EOF on an empty line is due when it comes.
    """
    pipe = Latency(latency_ms=100).pipe(DRAWS, 0.0)

    pipe.receive_eof(1.0)

    assert pipe.next_due() == 1.0
    assert pipe.advance(1.0) == [EOF]


@pytest.mark.toxic("latency")
def test_latency_changed_on_the_fly_applies_to_what_is_held():
    """
    A chunk held for a second is due at once when the delay falls below its age.
    """
    pipe = Latency(latency_ms=1000).pipe(DRAWS, 0.0)

    pipe.receive_data(b"abc", 1.0)
    assert pipe.advance(1.5) == []
    pipe.change(Latency(latency_ms=100), 1.5)

    assert pipe.advance(1.5) == [b"abc"]


@pytest.mark.toxic("latency")
def test_latency_drained_gives_up_all_it_held_in_order():
    """
    Removing the toxic loses no byte, nor the end.
    """
    pipe = Latency(latency_ms=1000).pipe(DRAWS, 0.0)

    pipe.receive_data(b"a", 1.0)
    pipe.receive_data(b"b", 1.1)
    pipe.receive_eof(1.2)

    assert pipe.advance(1.3) == []
    assert pipe.drain() == [b"a", b"b", EOF]
    assert (pipe.held_bytes, pipe.next_due()) == (0, None)


@pytest.mark.toxic("latency")
def test_latency_jitter_stays_within_its_bounds_and_varies():
    """
    100 ms with 50 ms of jitter: every delay lies in 50 to 150 ms, and they differ.
    """
    delays = []
    for seed in range(200):
        pipe = Latency(latency_ms=100, jitter_ms=50).pipe(Draws(seed, "test"), 0.0)
        pipe.receive_data(b"a", 0.0)
        delays.append(pipe.next_due())

    assert all(delay is not None and 0.05 <= delay <= 0.15 for delay in delays)
    assert len(set(delays)) > 20


@pytest.mark.toxic("latency")
def test_latency_jitter_hangs_on_the_byte_offset_not_on_chunking():
    """
    However the bytes before it were cut, the chunk at offset 6 has the same delay.
    """

    def due(*chunks: bytes) -> float | None:
        pipe = Latency(latency_ms=1000, jitter_ms=900).pipe(DRAWS, 0.0)
        for chunk in chunks:
            pipe.receive_data(chunk, 0.0)
        pipe.advance(1000.0)
        pipe.receive_data(b"x", 2000.0)
        return pipe.next_due()

    assert due(b"abcdef") == due(b"ab", b"cdef") == due(*[b"a"] * 6)
    # The shortest delay is 100 ms.
    assert (due(b"abcdef") or 0.0) >= 2000.1


@pytest.mark.toxic("latency")
def test_latency_jitter_never_swaps_chunks():
    """
    A later chunk with a shorter delay waits for the one before it.
    """
    pipe = Latency(latency_ms=100, jitter_ms=100).pipe(DRAWS, 0.0)

    chunks = [bytes([number]) for number in range(100)]
    for number, chunk in enumerate(chunks):
        pipe.receive_data(chunk, number / 1000)

    early, late = pipe.advance(0.1), pipe.advance(10.0)

    assert early + late == chunks
    assert late


def test_latency_is_full_at_its_limit_and_not_before():
    """
    It asks for no more once it holds as much as Toxiproxy could.
    """
    pipe = Latency(latency_ms=1000).pipe(DRAWS, 0.0)

    pipe.receive_data(bytes(pipe.hold_limit_bytes - 1), 0.0)
    assert not pipe.full
    pipe.receive_data(b"x", 0.0)
    assert pipe.full
    pipe.advance(1.0)
    assert not pipe.full
