"""The record of a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HistoryDamaged
from harness.history import Current, History, Op, OpType, Silent


def op(index: int, type: OpType = "info", f: str = "x", **more: Any) -> Op:
    fields = {"time_ns": 10 + index, "clock": "c", "process": "client"} | more
    return Op(index=index, type=type, f=f, **fields)


HISTORY = History(
    [
        op(0, "invoke", "call", value={"request_id": "a", "arguments": {"text": "é\n"}}, key="k"),
        op(1, "info", "reset", process="proxy", clock="other", value={"bytes": 3}),
        op(2, "ok", "call", value={"request_id": "a"}, key="k", attempt=1, phase="fault"),
    ]
)
DATA = HISTORY.dump()


def test_a_history_survives_the_file():
    """
    What was dumped is parsed back, field by field.
    """
    assert History.parse(DATA) == HISTORY


def test_absent_fields_are_not_on_file():
    """
    An op that says nothing of a key has no word for it.
    """
    assert History([op(0)]).dump() == (
        b'{"index":0,"time_ns":10,"clock":"c","process":"client","type":"info","f":"x"}\n'
    )


def test_every_torn_tail_is_kept_apart():
    """
    Wherever a kill cut the file, what was whole is read, and nothing is lost by reading.
    """
    for size in range(len(DATA)):
        history = History.parse(DATA[:size])

        assert list(history.ops) == HISTORY.ops[: DATA[:size].count(b"\n")]
        assert history.dump() == DATA[:size]


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[]", b'{"index":1}', b'{"index":"1"}', b'"\xff"', b"[" * 100_000],
    ids=["no-json", "no-object", "too-little", "wrong-type", "no-utf8", "brackets"],
)
def test_a_whole_line_that_is_no_op_is_refused_by_its_number(line: bytes):
    """
    The message names the file, the line and why; nothing but our own error comes out.
    """
    with pytest.raises(HistoryDamaged, match=r"h\.jsonl: line 2 is no op"):
        History.parse(DATA.splitlines(keepends=True)[0] + line + b"\n", where="h.jsonl")


def test_a_gap_in_the_indices_is_refused():
    """
    A line that is missing is noticed.
    """
    with pytest.raises(HistoryDamaged, match="line 2 has index 2, expected 1"):
        History.parse(History([op(0), op(2)]).dump())


def test_an_empty_file_is_an_empty_history():
    """
    A run that was killed at once has nothing to say.
    """
    assert History.parse(b"") == History([])


def test_calls_pair_each_invoke_with_its_end():
    """
    Pairs are found by process and request, over whatever lies between; an open one has None.
    """
    history = History(
        [
            op(0, "invoke", "call", value={"request_id": "1"}),
            op(1, "invoke", "call", value={"request_id": "1"}, process="other"),
            op(2, "invoke", "call", value={"request_id": "2"}),
            op(3, "info", "call", value={"request_id": "1"}, process="other"),
            op(4, "info", "close", value={"request_id": "2"}),
            op(5, "ok", "call", value={"request_id": "1"}),
        ]
    )

    pairs = [(start.index, None if end is None else end.index) for start, end in history.calls()]

    assert pairs == [(0, 5), (1, 3), (2, None)]


def test_silent_keeps_nothing():
    """
    It takes every op there is and does nothing.
    """
    assert Silent().record(process="client", type="info", f="x", value=1, key="k") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(json_values, st.none() | st.text()), max_size=8))
def test_any_json_value_survives_the_file(values: list[tuple[Any, str | None]]):
    """
    Whatever tools take and give, the history keeps.
    """
    history = History([op(n, value=value, error=e) for n, (value, e) in enumerate(values)])

    assert History.parse(history.dump()) == history


def test_what_is_passed_on_is_whose_turn_it_is():
    """A recorder that outlives others' records; in between nobody has it."""
    first, second = Told(), Told()
    current = Current(first)
    current.record(process="daemon", type="info", f="one")
    current.turn_to(Silent())
    current.record(process="daemon", type="info", f="lost")
    current.turn_to(second)
    current.record(process="daemon", type="info", f="two", value={"n": 2}, attempt=3)

    assert [each["f"] for each in first.ops] == ["one"]
    assert second.ops == [
        {"process": "daemon", "type": "info", "f": "two", "value": {"n": 2}, "attempt": 3}
    ]


class Told:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.ops: list[dict] = []

    def record(self, **op) -> None:
        self.ops.append(op)
