"""What is said of a failing test: the sentence, and each fault with what it touched."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import CallUnknown, InvalidValue
from harness.history import History, Op, OpType
from harness.report.failure import account, fault_lines, fault_said, in_words, last_words

MS = 1_000_000
LATENCY = {"stream": "downstream", "toxicity": 1.0, "latency_ms": 200, "jitter_ms": 0}


class Record:
    """A made-up history, one op a millisecond."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def add(self, process: str, type: OpType, f: str, **more: Any) -> None:
        index = len(self.ops)
        op = Op(
            index=index, time_ns=index * MS, clock="ours", process=process, type=type, f=f, **more
        )
        self.ops.append(op)

    def put_on(self, f: str = "latency", name: str = "latency-1", **settings: Any) -> None:
        value = {"name": name, **(settings or LATENCY)}
        self.add("nemesis", "invoke", f, value=value)
        self.add("nemesis", "ok", f, value=value)

    def lift(self, name: str = "latency-1", type: OpType = "ok") -> None:
        self.add("nemesis", type, "heal", value={"name": name})

    def call(self, request_id: str, end: OpType | None = "ok", **value: Any) -> None:
        self.add("client-1", "invoke", "call", value={"request_id": request_id})
        if end is not None:
            error = "time_limit" if end == "info" else None
            said = {"request_id": request_id, **value}
            self.add("client-1", end, "call", value=said, error=error)

    def touch(self, f: str, size: int, toxic: str = "latency-1") -> None:
        self.add("proxy", "info", f, value={"toxic": toxic, "bytes": size})

    def lines(self, **options: Any) -> list[str]:
        return fault_lines(History(self.ops), **options)


def unknown() -> CallUnknown:
    details = [("means", "it may have happened")]
    return CallUnknown(
        "call echo: no answer", details, kind="time_limit", request_id="r", elapsed_ms=1.0
    )


def test_a_fault_tells_what_it_touched_and_which_calls_met_it():
    """
    The proxy's events are added up by kind; the calls are those that overlap the fault.
    """
    record = Record()
    record.call("before")
    record.put_on()
    record.call("met")
    record.touch("delayed", 100)
    record.touch("delayed", 69)

    told = record.lines(in_place=["latency-1"])

    assert told == [
        "in place: latency on replies, latency_ms 200 (delayed 2 x, 169 bytes; 1 call exposed)"
    ]


def test_a_fault_that_touched_nothing_says_so():
    """
    No event of the proxy names it: the test did not test what it says.
    """
    record = Record()
    record.put_on()
    record.lift()

    [told] = record.lines()

    assert told.startswith("lifted before: latency on replies")
    assert told.endswith("(0 calls exposed; it touched nothing: no data met it)")


def test_nothing_is_claimed_of_a_proxy_that_tells_nothing():
    """
    Where no events can be had, their absence proves nothing.
    """
    record = Record()
    record.put_on()

    [told] = record.lines(proxy_tells=False)

    assert "this proxy does not tell what it touched" in told
    assert "touched nothing" not in told


def test_the_faults_that_were_in_place_come_first():
    """
    Whoever reads one line reads of the one that was on.
    """
    record = Record()
    record.put_on()
    record.lift()
    record.put_on("down", "down-2", within_s=1)

    told = record.lines(in_place=["down-2"])

    assert [line.split(",")[0] for line in told] == [
        "in place: down",
        "lifted before: latency on replies",
    ]


def test_a_fault_counts_as_in_place_while_the_failure_that_left_its_block_passes():
    """
    It is lifted on the way out; what the test met, it met under the fault.
    """
    record = Record()
    record.put_on()
    record.lift()

    assert record.lines(in_place=["latency-1"])[0].startswith("in place: ")


def test_a_fault_that_nobody_lifted_is_in_place():
    """
    A lift that failed is none.
    """
    record = Record()
    record.put_on()
    record.lift(type="info")

    assert record.lines()[0].startswith("in place: ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("not injected: ProxyError('refused')", "not put on: pause (ProxyError('refused'))"),
        (None, "not put on: pause"),
    ],
)
def test_a_fault_that_could_not_be_put_on_says_why(error: str | None, told: str):
    """
    It is neither in place nor lifted; without an end, it was still being put on.
    """
    record = Record()
    record.add("nemesis", "invoke", "pause", value={"name": "pause-1"})
    if error:
        record.add("nemesis", "info", "pause", value={"name": "pause-1"}, error=error)

    assert record.lines() == [told]


def test_a_call_without_an_end_meets_what_comes_after_it():
    """
    It is under way until somebody says otherwise.
    """
    record = Record()
    record.call("forever", end=None)
    record.put_on("kill", "kill-1", signal=9)

    assert record.lines() == ["in place: kill, signal 9 (1 call exposed)"]


def test_what_other_toxics_touched_is_not_counted():
    """
    Events name their toxic.
    """
    record = Record()
    record.put_on()
    record.touch("delayed", 100, toxic="somebody-else")

    assert "touched nothing" in record.lines()[0]


def test_a_fault_is_said_without_what_goes_without_saying():
    """
    Full toxicity and no jitter are left out; the stream is told in the client's words.
    """
    assert fault_said("latency", LATENCY) == "latency on replies, latency_ms 200"
    assert fault_said("timeout", {"stream": "upstream", "toxicity": 0.5}) == (
        "timeout on requests, toxicity 0.5"
    )
    assert fault_said("down", {}) == "down"


def test_last_words_are_the_latest_ends_and_how_they_came():
    """
    Three at most, the newest last, with what the client made of each.
    """
    record = Record()
    record.call("a")
    record.call("b", elapsed_ms=1.234)
    record.call("c", "info", how="no answer within 2 s")
    record.add("client-1", "ok", "close")

    assert last_words(History(record.ops)) == [
        "client-1 call ok after 1.2 ms",
        "client-1 call info: no answer within 2 s",
        "client-1 close ok",
    ]


def test_an_assertion_tells_what_it_wanted_and_the_values_it_met():
    """
    The message is a row of its own and no part of what was expected.
    """
    error = AssertionError("late\nassert 51.2 < 50\n +  where 51.2 = Reply().elapsed_ms")

    rows = account(error, statement='assert reply.elapsed_ms < 50, "late"')

    assert rows == [
        ("failed", "late"),
        ("expected", "reply.elapsed_ms < 50"),
        ("seen", "51.2 < 50"),
    ]


def test_an_assertion_without_a_message_has_no_row_for_one():
    """
    What pytest adds begins with `assert` then.
    """
    rows = account(AssertionError("assert 1 == 2"), statement="    assert a == b")

    assert rows == [("expected", "a == b"), ("seen", "1 == 2")]


def test_an_assertion_over_several_lines_becomes_one():
    """
    Source is shown with single spaces, and cut where it is long.
    """
    statement = "assert (\n    first\n    == second\n), 'why'"

    [_, (_, expected), _] = account(AssertionError("why\nassert 1 == 2"), statement=statement)
    [_, (_, seen)] = account(AssertionError("assert " + "x" * 999), statement="assert x")

    assert expected == "first == second"
    assert len(seen) == 200
    assert seen.endswith("…")


def test_an_assertion_that_pytest_did_not_rewrite_shows_its_source():
    """
    Nobody knows the values then, and it is not pretended that somebody does.
    """
    bare = account(AssertionError(), statement="assert reply")
    told = account(AssertionError("why"), statement="assert reply, 'why'")

    assert bare == [("expected", "reply"), ("seen", "it does not hold")]
    assert told == [("failed", "why"), ("expected", "reply"), ("seen", "it does not hold")]


def test_an_assertion_error_that_somebody_raised_is_told_whole():
    """
    Mocks and `pytest.raises` tell in several lines; all of them are shown.
    """
    error = AssertionError("expected call not found.\nExpected: f(1)\n  Actual: f(2)")

    assert account(error, statement="mock.assert_called_with(1)") == [
        ("doing", "mock.assert_called_with(1)"),
        ("seen", "expected call not found. Expected: f(1) Actual: f(2)"),
    ]
    assert account(error) == [
        ("seen", "expected call not found. Expected: f(1) Actual: f(2)"),
    ]


def test_the_head_of_a_block_is_what_the_test_was_doing():
    """
    A compound statement's head alone is no Python; it is shown all the same.
    """
    rows = account(KeyError("k"), statement="async with env.inject(Kill()):")

    assert rows == [("doing", "async with env.inject(Kill()):"), ("seen", "KeyError: 'k'")]


def test_an_error_in_words_is_its_name_and_its_first_line():
    """
    Of our own errors that is the headline; details stand elsewhere.
    """
    assert in_words(unknown()) == "CallUnknown: call echo: no answer"
    assert in_words(ValueError("\n one\n two")) == "ValueError: one"
    assert in_words(TimeoutError()) == "TimeoutError"


def test_a_group_in_words_is_what_it_holds():
    """
    Leaves of any depth, the same ones counted, three kinds at most.
    """
    group = ExceptionGroup(
        "unhandled",
        [
            unknown(),
            ExceptionGroup("inner", [unknown(), InvalidValue("a"), InvalidValue("b")]),
            InvalidValue("c"),
        ],
    )

    assert in_words(group) == (
        "ExceptionGroup: 2 x CallUnknown: call echo: no answer; "
        "InvalidValue: a; InvalidValue: b; 1 more"
    )
