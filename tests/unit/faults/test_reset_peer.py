"""The fuse, with made-up times."""

from __future__ import annotations

import pytest

from harness.clock import Draws
from harness.faults.base import EOF, RESET, Pipe
from harness.faults.reset_peer import ResetPeer

DRAWS = Draws(7, "test")


def fuse(timeout_ms: int) -> Pipe:
    return ResetPeer(timeout_ms=timeout_ms).pipe(DRAWS, 0.0)


@pytest.mark.toxic("reset_peer")
def test_reset_peer_resets_on_the_first_chunk_and_does_not_forward_it():
    """
    Out comes a reset instead of the bytes.
    """
    pipe = fuse(0)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.advance(1.0) == [RESET]
    assert [(touch.kind, touch.bytes) for touch in pipe.touches] == [("reset", 3)]


@pytest.mark.toxic("reset_peer")
def test_reset_peer_waits_its_time_after_the_first_chunk():
    """
    The wait counts from the first chunk; later ones do not lengthen it, and none passes.
    """
    pipe = fuse(100)

    pipe.receive_data(b"a", 1.0)
    pipe.receive_data(b"b", 1.05)

    assert pipe.advance(1.09) == []
    assert pipe.next_due() == pytest.approx(1.1)
    assert pipe.advance(1.11) == [RESET]


def test_reset_peer_leaves_a_quiet_connection_alone():
    """
    Where nothing moves nothing is reset.
    """
    pipe = fuse(0)

    assert pipe.next_due() is None
    assert pipe.advance(1e9) == []


@pytest.mark.toxic("reset_peer")
def test_reset_peer_counts_an_end_as_something_that_moves():
    """
    An EOF lights the fuse too, and comes out as a reset.
    """
    pipe = fuse(0)

    pipe.receive_eof(1.0)

    assert pipe.advance(1.0) == [RESET]


@pytest.mark.toxic("reset_peer")
def test_reset_peer_changed_on_the_fly_keeps_counting_from_the_first_chunk():
    """
    A wait of ten seconds cut to one is over one second after the chunk.
    """
    pipe = fuse(10_000)
    pipe.receive_data(b"a", 1.0)

    pipe.change(ResetPeer(timeout_ms=1000), 1.5)

    assert pipe.advance(1.9) == []
    assert pipe.advance(2.0) == [RESET]


@pytest.mark.toxic("reset_peer")
def test_reset_peer_drained_while_it_waits_lets_go_of_what_it_held():
    """
    Lifted in time, it loses no byte, nor the end.
    """
    pipe = fuse(1000)
    pipe.receive_data(b"a", 1.0)
    pipe.receive_data(b"b", 1.1)
    pipe.receive_eof(1.2)

    assert pipe.advance(1.5) == []
    assert pipe.drain() == [b"a", b"b", EOF]
    assert pipe.held_bytes == 0


@pytest.mark.toxic("reset_peer")
def test_reset_peer_gives_out_nothing_after_the_reset():
    """
    Data after the reset is dropped and reported; it resets once.
    """
    pipe = fuse(0)
    pipe.receive_data(b"a", 1.0)
    assert pipe.advance(1.0) == [RESET]

    pipe.receive_data(b"bc", 2.0)
    pipe.receive_eof(2.0)

    assert pipe.advance(3.0) == []
    assert pipe.drain() == []
    assert (pipe.touches[-1].kind, pipe.touches[-1].bytes) == ("dropped", 2)
