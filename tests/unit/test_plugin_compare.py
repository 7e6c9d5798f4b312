"""What a failing comparison of two values of ours says."""

from __future__ import annotations

from typing import Any

import pytest

from harness.client.endings import Ending
from harness.client.reply import Reply
from harness.faults.latency import Latency
from harness.faults.timeout import Timeout
from harness.pytest_plugin import pytest_assertrepr_compare
from harness.pytest_plugin.compare import compared
from harness.records import Effect, ProxyEvent

RESET = Ending(kind="reset", detail="ConnectionResetError: [Errno 104]")


def reply(**more: Any) -> Reply:
    values = {"request_id": "r1", "key": "k", "outputs": ("hi",), "failure": None}
    return Reply(**{**values, "elapsed_ms": 1.5, **more})


def effect(**more: Any) -> Effect:
    values = {"sequence": 1, "time_ns": 1, "clock": "c", "tool": "echo", "key": "k"}
    rest = {"request_id": "r1", "session": "s", "pid": 1, "digest": "d"}
    return Effect(**{**values, **rest, **more})


def test_endings_are_told_in_sentences():
    """
    What the socket saw, against what was expected of it.
    """
    closed = Ending(kind="closed", code=1000, reason="bye", first="daemon")

    assert compared(RESET, closed, None) == [
        "Ending(kind='reset') == Ending(kind='closed', code=1000)",
        "found:    the connection was reset (RST)",
        'expected: the daemon closed the connection first, with code 1000 "bye"',
    ]


def test_an_ending_is_what_it_is_whatever_the_library_said():
    """
    A test can expect a reset without knowing the words of the system's error.
    """
    assert Ending(kind="reset") == RESET
    assert Ending(kind="eof") != RESET


@pytest.mark.parametrize(
    ("left", "right", "lines"),
    [
        (
            reply(),
            reply(outputs=("ho",), progress=2),
            ["outputs: found ('hi',), expected ('ho',)", "progress: found 0, expected 2"],
        ),
        (
            Latency(latency_ms=1),
            Latency(latency_ms=2),
            ["latency_ms: found 1, expected 2"],
        ),
        (effect(), effect(key="x"), ["key: found 'k', expected 'x'"]),
        (
            ProxyEvent(seq=1, time_ns=1, clock="c", kind="opened"),
            ProxyEvent(seq=1, time_ns=1, clock="c", kind="closed"),
            ["kind: found 'opened', expected 'closed'"],
        ),
    ],
    ids=["reply", "fault", "effect", "event"],
)
def test_of_two_of_a_kind_only_what_differs_is_told(left: object, right: object, lines: list[str]):
    """
    Field by field.
    """
    name = type(left).__name__

    assert compared(left, right, None) == [f"{name} == {name}", *lines]


def test_two_of_different_kinds_are_told_whole():
    """
    Fields of one mean nothing in the other.
    """
    told = compared(Latency(latency_ms=1), Timeout(), None)

    assert told == [
        "Latency == Timeout",
        "found:    Latency(stream='downstream', toxicity=1.0, latency_ms=1, jitter_ms=0)",
        "expected: Timeout(stream='downstream', toxicity=1.0, timeout_ms=0)",
    ]


@pytest.mark.parametrize(
    ("op", "left", "right"),
    [
        ("==", RESET, None),
        ("==", None, reply()),
        ("==", [effect()], []),
        ("==", [effect()], [effect(key="x")]),
        ("==", "reset", "eof"),
        ("!=", RESET, RESET),
        ("is", RESET, RESET),
        ("in", effect(), [effect(key="x")]),
    ],
)
def test_what_is_not_ours_is_left_to_pytest(op: str, left: object, right: object):
    """
    None, lists, and other operators: it explains them well enough.
    """
    config: Any = None

    assert pytest_assertrepr_compare(config, op, left, right) is None
