"""The byte limit, with made-up times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import Draws
from harness.faults.base import EOF, Pipe
from harness.faults.limit_data import LimitData

DRAWS = Draws(7, "test")


def limit(limit_bytes: int) -> Pipe:
    return LimitData(limit_bytes=limit_bytes).pipe(DRAWS, 0.0)


@pytest.mark.toxic("limit_data")
def test_limit_data_ends_the_stream_after_its_bytes():
    """
    The third byte of a two-byte limit is never delivered; EOF follows the second.
    """
    pipe = limit(2)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.advance(1.0) == [b"ab", EOF]
    assert [(touch.kind, touch.bytes) for touch in pipe.touches] == [("cut", 1)]


@pytest.mark.toxic("limit_data")
def test_limit_data_closes_on_reaching_the_count():
    """
    The very byte that fills the limit closes the stream; no further byte is needed.
    """
    pipe = limit(3)

    pipe.receive_data(b"abc", 1.0)

    assert pipe.advance(1.0) == [b"abc", EOF]


def test_limit_data_lets_less_than_its_limit_through_untouched():
    """
    Below the limit nothing happens, and nothing is reported.
    """
    pipe = limit(4)

    pipe.receive_data(b"abc", 1.0)
    pipe.receive_eof(2.0)

    assert pipe.advance(2.0) == [b"abc", EOF]
    assert pipe.touches == []


@pytest.mark.toxic("limit_data")
def test_limit_data_of_zero_closes_at_the_first_chunk():
    """
    Nothing passes, and a connection on which nothing moves stays open.
    """
    pipe = limit(0)

    assert pipe.next_due() is None
    pipe.receive_data(b"a", 1.0)

    assert pipe.advance(1.0) == [EOF]


@pytest.mark.toxic("limit_data")
def test_limit_data_changed_on_the_fly_keeps_its_count():
    """
    Of a limit raised to 5, two bytes are left after three have passed.
    """
    pipe = limit(4)
    pipe.receive_data(b"abc", 1.0)
    pipe.change(LimitData(limit_bytes=5), 1.0)

    pipe.receive_data(b"defg", 2.0)

    assert pipe.advance(2.0) == [b"abc", b"de", EOF]


@pytest.mark.toxic("limit_data")
def test_limit_data_lowered_below_what_passed_closes_at_the_next_chunk():
    """
    What has passed cannot be called back; nothing more passes.
    """
    pipe = limit(10)
    pipe.receive_data(b"abc", 1.0)
    pipe.change(LimitData(limit_bytes=1), 1.0)

    pipe.receive_data(b"d", 2.0)

    assert pipe.advance(2.0) == [b"abc", EOF]


def test_limit_data_drained_gives_up_what_was_due():
    """
    Removing the toxic loses none of the bytes within the limit.
    """
    pipe = limit(10)
    pipe.receive_data(b"abc", 1.0)

    assert pipe.drain() == [b"abc"]
    assert pipe.next_due() is None


@pytest.mark.toxic("limit_data")
def test_limit_data_gives_out_nothing_after_its_end():
    """
    Data after the end is dropped and reported; the end comes once.
    """
    pipe = limit(1)
    pipe.receive_data(b"a", 1.0)
    pipe.advance(1.0)

    pipe.receive_data(b"bc", 2.0)
    pipe.receive_eof(2.0)

    assert pipe.advance(3.0) == []
    assert (pipe.touches[-1].kind, pipe.touches[-1].bytes) == ("dropped", 2)


@pytest.mark.toxic("limit_data")
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=20),
    limit_bytes=st.integers(0, 100),
)
def test_limit_data_passes_exactly_its_bytes_however_they_are_cut(
    chunks: list[bytes], limit_bytes: int
):
    """
    The first n bytes come out, whatever the chunking, and the end with the n-th.
    """
    pipe = limit(limit_bytes)

    out = []
    for chunk in [*chunks, bytes(limit_bytes + 1)]:
        pipe.receive_data(chunk, 1.0)
        out += pipe.advance(1.0)

    expected = (b"".join(chunks) + bytes(limit_bytes + 1))[:limit_bytes]
    assert out.pop() is EOF
    assert b"".join(piece for piece in out if isinstance(piece, bytes)) == expected
