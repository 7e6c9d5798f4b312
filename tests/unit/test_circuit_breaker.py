"""A breaker's states, policies and thresholds. Isolated classes; says nothing about the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest

from harness.errors import BreakerOpen, CallFailed, CallUnknown, InvalidValue
from harness.resilience.breaker import (
    KINDS,
    Breaker,
    Breakers,
    BreakerSettings,
    Counting,
    State,
    Transition,
)
from tests.unit.hands import Hands


class Broken(Exception):
    """What a peer's failure is here."""


def breaker(clock: Hands, *, counting: Counting | None = None, **settings: Any) -> Breaker:
    return Breaker(
        "peer",
        clock=clock,
        settings=BreakerSettings(**settings),
        counting=counting or Counting(),
    )


def fail(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Broken), one.admit():
            raise Broken


def succeed(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        one.call(lambda: None)


def half_open(clock: Hands, **settings: Any) -> Breaker:
    one = breaker(clock, **{"failures": 1, "open_s": 10, **settings})
    fail(one)
    clock.pass_(10)
    assert one.state == "half_open"
    return one


def test_a_breaker_begins_closed_and_passes_results_and_errors_through():
    """
    What is called gets its arguments, and its result or error comes back as it is.
    """
    one = breaker(Hands())

    assert one.call(divmod, 7, 2) == (3, 1)
    assert one.call(partial(dict, a=1)) == {"a": 1}
    with pytest.raises(ZeroDivisionError):
        one.call(divmod, 7, 0)
    assert one.state == "closed"


@pytest.mark.parametrize(("row", "state"), [(4, "closed"), (5, "open"), (6, "open")])
def test_it_opens_at_the_nth_failure_in_a_row(row: int, state: State):
    """
    One before the threshold it is closed; at the threshold it is open, and lets no more through.
    """
    one = breaker(Hands(), failures=5)

    failed = 0
    for _ in range(row):
        try:
            with one.admit():
                failed += 1
                raise Broken
        except (Broken, BreakerOpen):
            pass

    assert one.state == state
    assert failed == min(row, 5)


@pytest.mark.parametrize("way", ["call", "call_async", "with"])
def test_a_success_ends_a_row_of_failures(way: str):
    """
    Four, a success, four: never five in a row.
    """
    one = breaker(Hands(), failures=5)

    fail(one, 4)
    if way == "call":
        succeed(one)
    elif way == "call_async":
        asyncio.run(one.call_async(asyncio.sleep, 0))
    else:
        with one.admit():
            pass
    fail(one, 4)

    assert one.state == "closed"
    fail(one)
    assert one.state == "open"


@pytest.mark.parametrize(
    ("passed_s", "state"), [(59.999, "open"), (60.0, "half_open"), (60.001, "half_open")]
)
def test_it_is_half_open_once_its_time_has_passed(passed_s: float, state: State):
    """
    Not before, and at the very moment.
    """
    clock = Hands()
    one = breaker(clock, failures=1, open_s=60)
    fail(one)

    clock.pass_(passed_s)

    assert one.state == state


@pytest.mark.parametrize(("opened_s", "open_s"), [(1000.0, 0.3), (1000.1, 60), (12345.678, 0.3)])
def test_no_rounding_keeps_it_open_when_no_time_is_left(opened_s: float, open_s: float):
    """
    At the moment that it named it is half-open; it never says "another 0 s".
    """
    clock = Hands(opened_s)
    one = breaker(clock, failures=1, open_s=open_s, half_open_s=open_s)
    fail(one)

    clock.now_s = opened_s + open_s
    assert one.state == "half_open"
    clock.now_s += open_s
    assert one.state == "open"


def said_by_report(one: Breaker) -> float | None:
    return one.report().retry_after_s


def said_by_refusal(one: Breaker) -> float | None:
    with pytest.raises(BreakerOpen) as caught:
        one.admit()
    return caught.value.retry_after_s


@pytest.mark.parametrize("said", [said_by_report, said_by_refusal])
def test_how_long_it_is_open_is_of_the_moment_of_its_state(
    said: Callable[[Breaker], float | None],
):
    """
    A second passes at each look at the clock: an open one never says less than no time.
    """
    seconds = count(1000.0)
    settings = BreakerSettings(failures=1, open_s=1.5)
    one = Breaker("peer", clock=lambda: next(seconds), settings=settings)
    fail(one)

    assert said(one) == 0.5


def test_an_open_breaker_calls_nothing_and_says_how_long():
    """
    The error has the name, the seconds left and the kind that proves that nothing happened.
    """
    clock = Hands()
    one = breaker(clock, failures=1, open_s=60)
    fail(one)
    clock.pass_(20)
    called: list[int] = []

    with pytest.raises(BreakerOpen, match="breaker peer is open for another 40 s") as caught:
        one.call(called.append, 1)

    assert called == []
    assert (caught.value.name, caught.value.retry_after_s) == ("peer", 40)
    assert caught.value.kind == "breaker_open"


@pytest.mark.parametrize(("successes", "state"), [(1, "half_open"), (2, "closed")])
def test_it_closes_after_so_many_successful_probes(successes: int, state: State):
    """
    One fewer leaves it half-open.
    """
    one = half_open(Hands(), successes=2, probes=3)

    succeed(one, successes)

    assert one.state == state


def test_a_failed_probe_opens_it_again_for_the_whole_time():
    """
    Successes before it count for nothing, then or later.
    """
    clock = Hands()
    one = half_open(clock, successes=2, open_s=10)
    succeed(one)

    fail(one)

    assert one.state == "open"
    clock.pass_(9.999)
    assert one.state == "open"
    clock.pass_(0.001)
    assert one.state == "half_open"
    succeed(one)
    assert one.state == "half_open"


@pytest.mark.parametrize(("under_way", "refused"), [(2, False), (3, True), (4, True)])
def test_no_more_probes_at_once_than_permitted(under_way: int, refused: bool):
    """
    The fourth of three is refused, and the error knows no time when one will be free.
    """
    one = half_open(Hands(), probes=3)
    for _ in range(min(under_way, 3)):
        one.admit()

    if refused:
        with pytest.raises(BreakerOpen, match="probes are under way") as caught:
            one.admit()
        assert caught.value.retry_after_s is None
    else:
        one.admit()


@pytest.mark.parametrize(("passed_s", "state"), [(29.999, "half_open"), (30.0, "open")])
def test_half_open_ends_after_its_time(passed_s: float, state: State):
    """
    Without a verdict it is open again, and from then on as long as ever.
    """
    clock = Hands()
    one = half_open(clock, half_open_s=30, open_s=10)
    one.admit()

    clock.pass_(passed_s)

    assert one.state == state
    clock.pass_(30.0 - passed_s + 10)
    assert one.state == "half_open"


def test_a_probe_too_late_for_half_open_counts_for_nothing():
    """
    Its success came when half-open was over, though nobody had looked since.
    """
    clock = Hands()
    one = half_open(clock, half_open_s=30, open_s=10, successes=1)
    probe = one.admit()

    clock.pass_(30)
    probe.end("success")

    assert one.state == "open"
    assert one.report().stale == 1


@pytest.mark.parametrize("call", ["call", "call_async", "protect", "protect_async", "with"])
def test_each_way_to_call_counts_alike(call: str):
    """
    Function, coroutine, decorator and block: open after two failures, closed by two probes.
    """
    clock = Hands()
    one = breaker(clock, failures=2, open_s=10, successes=2)
    broken = True

    def work(answer: int, *, more: int = 0) -> int:
        if broken:
            raise Broken
        return answer + more

    async def work_async(answer: int, *, more: int = 0) -> int:
        await asyncio.sleep(0)
        return work(answer, more=more)

    def once() -> int:
        match call:
            case "call":
                return one.call(partial(work, more=2), 1)
            case "call_async":
                return asyncio.run(one.call_async(partial(work_async, more=2), 1))
            case "protect":
                return one.protect(work)(1, more=2)
            case "protect_async":
                return asyncio.run(one.protect(work_async)(1, more=2))
            case _:
                with one.admit():
                    return work(1, more=2)

    for _ in range(2):
        with pytest.raises(Broken):
            once()
    with pytest.raises(BreakerOpen):
        once()
    clock.pass_(10)
    broken = False
    assert once() == 3
    assert one.state == "half_open"
    assert once() == 3
    assert one.state == "closed"
    assert once() == 3


def test_a_protected_function_keeps_its_name_and_binds_as_a_method():
    """
    It stands where the function stood, in a class too, awaited or not.
    """
    one = breaker(Hands())

    class Peer:
        @one.protect
        def ask(self) -> Peer:
            """Says who."""
            return self

        @one.protect
        async def ask_async(self) -> Peer:
            return self

    peer = Peer()
    assert peer.ask() is peer
    assert asyncio.run(peer.ask_async()) is peer
    assert (Peer.ask.__name__, Peer.ask.__doc__) == ("ask", "Says who.")


def test_a_generator_cannot_be_protected():
    """
    Calling one does nothing yet, so that there would be nothing to count.
    """

    def numbers():
        yield 1

    async def more():
        yield 1

    for generator in (numbers, more):
        with pytest.raises(InvalidValue, match=rf"{generator.__name__} is a generator.*"):
            breaker(Hands()).protect(generator)


# ---- what counts


@pytest.mark.parametrize(
    ("kind", "verdict"), sorted(KINDS.items()), ids=lambda value: str(value).lower()
)
def test_an_error_counts_by_its_kind(kind: str, verdict: str):
    """
    Refused arguments trip nothing, however many; time-outs and losses do.
    """
    one = breaker(Hands(), failures=3)

    for _ in range(3):
        with pytest.raises(CallUnknown), one.admit():
            raise CallUnknown("no", kind=kind, request_id="1", elapsed_ms=1.0)

    assert one.state == ("open" if verdict == "failure" else "closed")


def test_every_kind_of_the_table_of_errors_has_its_verdict():
    """
    None is forgotten, so that no kind counts by accident.
    """
    from harness.errors import OUTCOMES

    assert set(OUTCOMES) <= set(KINDS)


def test_the_peer_has_failed_where_it_or_the_way_to_it_did():
    """
    Not by what callers do, and not by a tool that ran and failed inside.
    """
    of_verdict = {
        verdict: {kind for kind, each in KINDS.items() if each == verdict}
        for verdict in ("success", "failure")
    }

    assert of_verdict == {
        "success": {"TOOL_EXECUTION_ERROR", "RESULT_GONE"},
        "failure": {
            "OVER_CAPACITY",
            "SERVICE_UNAVAILABLE",
            "TIMEOUT",
            "PROVIDER_ERROR",
            "INTERNAL_ERROR",
            "PROTOCOL_ERROR",
            "connection_refused",
            "not_connected",
            "connection_lost",
            "time_limit",
        },
    }


def test_what_counts_is_the_callers_to_say():
    """
    Kinds first, then ignored errors, then failures; the rest is ignored.
    """
    counting = Counting(
        kinds={"OVER_CAPACITY": "ignored"}, ignored=(KeyError,), failures=(LookupError,)
    )
    busy = CallFailed("busy", kind="OVER_CAPACITY", request_id="1", elapsed_ms=1.0)

    odd = ValueError()
    odd.kind = ["not", "a name"]  # type: ignore[attr-defined]
    assert Counting().of_error(odd) == "failure"
    assert counting.of_error(busy) == "ignored"
    assert counting.of_error(KeyError()) == "ignored"
    assert counting.of_error(IndexError()) == "failure"
    assert counting.of_error(ValueError()) == "ignored"
    assert Counting().of_error(asyncio.CancelledError()) == "ignored"
    assert Counting().of_error(KeyboardInterrupt()) == "ignored"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_that_is_returned_counts_too(asynchronous: bool):
    """
    Where results carry kinds, one that means failure opens, one that does not closes.
    """
    one = breaker(Hands(), failures=2, counting=Counting(kind_of=lambda result: result))

    def returns(kind: str | None) -> str | None:
        return kind

    async def returns_async(kind: str | None) -> str | None:
        return kind

    def once(kind: str | None) -> None:
        if asynchronous:
            assert asyncio.run(one.call_async(returns_async, kind)) == kind
        else:
            assert one.call(returns, kind) == kind

    once("TIMEOUT")
    once(None)
    once("TIMEOUT")
    once("VALIDATION_ERROR")
    assert one.state == "closed"
    once("a kind that nobody knows")
    assert one.state == "open"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("kind", "state"), [("TIMEOUT", "open"), ("VALIDATION_ERROR", "half_open"), (None, "closed")]
)
def test_an_error_that_a_probe_returns_counts_too(
    asynchronous: bool, kind: str | None, state: State
):
    """
    As if it had been raised: a failure opens, what is the caller's own leaves it half-open.
    """
    clock = Hands()
    one = breaker(
        clock,
        counting=Counting(kind_of=lambda result: result),
        failures=1,
        open_s=10,
        successes=1,
    )
    fail(one)
    clock.pass_(10)

    async def returns_async() -> str | None:
        return kind

    if asynchronous:
        assert asyncio.run(one.call_async(returns_async)) == kind
    else:
        assert one.call(lambda: kind) == kind

    assert one.state == state


def test_a_kind_counts_as_one_of_three():
    """
    Anything else would count as nothing in silence.
    """
    with pytest.raises(
        InvalidValue, match='"success" or "failure" or "ignored": 1 problem\n  MINE  "bad"'
    ):
        Counting(kinds={"MINE": "bad", "TIMEOUT": "failure"})  # type: ignore[dict-item]
    assert Counting(kinds=KINDS | {"MINE": "failure"}).kinds["VALIDATION_ERROR"] == "ignored"


# ---- windows


@pytest.mark.parametrize(("failed", "state"), [(4, "closed"), (5, "open"), (6, "open")])
@pytest.mark.parametrize("policy", ["count_window", "time_window"])
def test_a_window_opens_at_its_rate(policy: str, failed: int, state: State):
    """
    Five of ten at a rate of a half, the failures last: open at the tenth, or not.
    """
    one = breaker(Hands(), policy=policy, minimum_calls=10, window_calls=10, failure_rate=0.5)
    seen: list[str] = []
    one.watch(lambda transition: seen.append(transition.why))

    succeed(one, 10 - failed)
    fail(one, failed)

    assert one.state == state
    assert seen == ([] if state == "closed" else [f"{failed} of 10 calls failed"])


@pytest.mark.parametrize("policy", ["count_window", "time_window"])
@pytest.mark.parametrize(("calls", "state"), [(9, "closed"), (10, "open")])
def test_a_window_judges_from_its_minimum_on(policy: str, calls: int, state: State):
    """
    The call that makes it up may be a success: it is the number that was missing.
    """
    one = breaker(Hands(), policy=policy, minimum_calls=10, window_calls=20, failure_rate=0.5)

    fail(one, 8)
    succeed(one, calls - 8)

    assert one.state == state


def test_a_rate_means_its_decimal():
    """
    Seven of ten are 0.7, and 21 of 30 too, whatever binary fractions are.
    """
    for failed, calls in [(7, 10), (21, 30), (70, 100)]:
        one = breaker(
            Hands(),
            policy="count_window",
            minimum_calls=calls,
            window_calls=calls,
            failure_rate=0.7,
        )
        succeed(one, calls - failed)
        fail(one, failed - 1)
        assert one.state == "closed"
        fail(one)
        assert one.state == "open"


def test_what_left_the_count_window_counts_no_more():
    """
    The failures of long ago are pushed out by the calls after them.
    """
    one = breaker(Hands(), policy="count_window", minimum_calls=4, window_calls=4, failure_rate=0.5)
    succeed(one, 3)
    fail(one)
    succeed(one, 3)
    assert one.report().window_failed == 1

    succeed(one)
    assert one.report().window_failed == 0
    fail(one)
    assert (one.state, one.report().window_calls) == ("closed", 4)
    fail(one)
    assert one.state == "open"


@pytest.mark.parametrize(("passed_s", "state"), [(8.9, "open"), (9.0, "open"), (10.0, "closed")])
def test_what_left_the_time_window_counts_no_more(passed_s: float, state: State):
    """
    A window of ten seconds in ten parts, from a full second on: ten seconds later it is gone.
    """
    clock = Hands(1000.0)
    one = breaker(clock, policy="time_window", window_s=10, minimum_calls=2, failure_rate=1.0)
    fail(one)

    clock.pass_(passed_s)
    fail(one)

    assert one.state == state


@pytest.mark.parametrize(("took_s", "state"), [(0.999, "closed"), (1.0, "open"), (1.001, "open")])
@pytest.mark.parametrize("policy", ["count_window", "time_window"])
@pytest.mark.parametrize("way", ["call", "admit", "call_async"])
def test_slow_calls_open_it_though_all_succeed(policy: str, took_s: float, state: State, way: str):
    """
    A peer that grew slow: half of the calls take as long as the limit.
    """
    clock = Hands(0.0)
    one = breaker(clock, policy=policy, minimum_calls=4, slow_call_s=1, slow_call_rate=0.5)

    async def work_async(seconds: float) -> None:
        clock.pass_(seconds)

    def work(seconds: float) -> None:
        if way == "call":
            one.call(clock.pass_, seconds)
        elif way == "call_async":
            asyncio.run(one.call_async(work_async, seconds))
        else:
            with one.admit():
                clock.pass_(seconds)

    for seconds in (0.1, 0.1, took_s, took_s):
        work(seconds)

    assert one.state == state


def test_a_slow_probe_is_a_failed_one():
    """
    A peer that answers too late has not recovered.
    """
    clock = Hands(0.0)
    one = breaker(clock, policy="count_window", minimum_calls=1, slow_call_s=1, open_s=10)
    one.call(clock.pass_, 1)
    assert one.state == "open"
    clock.pass_(10)

    seen: list[str] = []
    one.watch(lambda transition: seen.append(transition.why))

    one.call(clock.pass_, 1)

    assert one.state == "open"
    assert seen[1:] == ["a probe was slow"]


@pytest.mark.parametrize("way", ["call", "call_async", "with"])
def test_a_call_may_be_both_slow_and_failed(way: str):
    """
    It is counted in each of the two.
    """
    clock = Hands(0.0)
    one = breaker(clock, policy="count_window", minimum_calls=5, slow_call_s=1)

    def fails() -> None:
        clock.pass_(1)
        raise Broken

    async def fails_async() -> None:
        fails()

    def once() -> None:
        if way == "call":
            one.call(fails)
        elif way == "call_async":
            asyncio.run(one.call_async(fails_async))
        else:
            with one.admit():
                fails()

    with pytest.raises(Broken):
        once()

    report = one.report()
    assert (report.window_calls, report.window_failed, report.window_slow) == (1, 1, 1)


def test_a_closed_breaker_has_a_fresh_window():
    """
    What opened it the last time is not held against the peer again.
    """
    clock = Hands()
    one = breaker(
        clock, policy="count_window", minimum_calls=2, window_calls=4, successes=1, open_s=10
    )
    fail(one, 2)
    clock.pass_(10)
    succeed(one)
    assert one.state == "closed"

    fail(one)

    assert one.state == "closed"


# ---- by hand, events, settings


def test_a_reset_closes_it_and_is_on_record():
    """
    Also a half-open one; and what was under way then moves nothing afterwards.
    """
    one = half_open(Hands(), probes=2)
    seen: list[Transition] = []
    one.watch(seen.append)
    probe = one.admit()

    one.reset()
    probe.end("failure")

    assert one.state == "closed"
    assert [(each.at_s, each.before, each.after, each.why) for each in seen] == [
        (1010.0, "half_open", "closed", "reset by hand")
    ]


def test_a_reset_of_a_closed_one_forgets_its_failures():
    """
    Those that ended, and those that are under way.
    """
    one = breaker(Hands(), failures=2)
    fail(one)
    before = one.admit()

    one.reset()
    before.end("failure")
    fail(one)

    assert one.state == "closed"
    fail(one)
    assert one.state == "open"


def test_observers_are_told_of_each_change_once_in_order():
    """
    With the time, the reason, and an epoch that counts on.
    """
    clock = Hands(0.0)
    seen: list[Transition] = []
    one = Breaker(
        "a",
        clock=clock,
        settings=BreakerSettings(failures=1, open_s=10, half_open_s=5, successes=1),
        observers=(seen.append,),
    )
    fail(one)
    clock.pass_(12)
    assert one.state == "half_open"
    clock.pass_(6)
    assert one.state == "open"
    clock.pass_(9)
    succeed(one)
    fail(one)
    clock.pass_(10)
    fail(one)

    assert [(each.epoch, each.at_s, each.before, each.after, each.why) for each in seen] == [
        (1, 0.0, "closed", "open", "1 calls failed in a row"),
        (2, 12.0, "open", "half_open", "open for 10 s"),
        (3, 17.0, "half_open", "open", "half-open for 5 s without a verdict"),
        (4, 27.0, "open", "half_open", "open for 10 s"),
        (5, 27.0, "half_open", "closed", "1 probes succeeded"),
        (6, 27.0, "closed", "open", "1 calls failed in a row"),
        (7, 37.0, "open", "half_open", "open for 10 s"),
        (8, 37.0, "half_open", "open", "a probe failed"),
    ]


def test_an_observer_may_ask_the_breaker_and_may_fail(caplog: pytest.LogCaptureFixture):
    """
    Neither stops it, nor harms the call, nor keeps the news from the others.
    """
    seen: list[State] = []
    one = breaker(Hands(), failures=1)

    def broken(transition: Transition) -> None:
        raise RuntimeError("observer")

    one.watch(broken)
    one.watch(lambda transition: seen.append(one.state))

    fail(one)

    assert seen == ["open"]
    assert "breaker peer: an observer failed" in caplog.text


def test_other_settings_hold_from_now_on():
    """
    The state stays; the row of failures stays; the new threshold is asked at the next failure.
    """
    clock = Hands()
    one = breaker(clock, failures=5, open_s=60)
    fail(one, 3)

    one.adopt(BreakerSettings(failures=3, open_s=5))
    assert one.settings == BreakerSettings(failures=3, open_s=5)
    assert one.state == "closed"
    fail(one)
    assert one.state == "open"
    clock.pass_(5)
    assert one.state == "half_open"


def test_a_policy_may_change_while_calls_are_under_way():
    """
    They end in the new window, and count as not slow: nobody took their time.
    """
    one = breaker(Hands(), failures=5)
    under_way = one.admit()

    one.adopt(
        BreakerSettings(policy="count_window", minimum_calls=1, failure_rate=1, slow_call_s=1)
    )
    under_way.end("success")

    assert (one.state, one.report().window_calls) == ("closed", 1)


def test_a_permit_ends_once():
    """
    Ended by hand within its block, the block's end adds nothing.
    """
    one = breaker(Hands(), failures=2)

    with one.admit() as permit:
        permit.end("failure")
    permit.end("failure")

    assert one.state == "closed"


def test_a_report_tells_all():
    """
    What a dashboard shows of one.
    """
    clock = Hands(0.0)
    one = breaker(clock, failures=2, open_s=10)
    fail(one, 2)
    with pytest.raises(BreakerOpen):
        one.admit()
    clock.pass_(4)

    report = one.report()

    assert (report.name, report.state, report.since_s) == ("peer", "open", 0.0)
    assert (report.retry_after_s, report.refusals, report.opens) == (6.0, 1, 1)


def test_a_report_of_one_without_a_window_has_none():
    """
    The row of failures is what it has.
    """
    one = breaker(Hands(), failures=5)
    fail(one, 2)

    report = one.report()

    assert (report.state, report.failures_in_a_row, report.retry_after_s) == ("closed", 2, None)
    assert report.since_s == 1000
    assert (report.window_calls, report.window_failed, report.window_slow) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"failures": 0}, r"failures  expected a whole number, at least 1, .*found 0"),
        ({"open_s": 0}, "open_s  expected a number, above 0, .*found 0"),
        ({"failure_rate": 1.01}, "failure_rate  expected a number, above 0, at most 1, found 1.01"),
        ({"probes": 0}, "probes"),
        ({"policy": "sliding"}, 'policy  expected "consecutive" or "count_window" or'),
        ({"slow_call_s": 1}, "slow_call_s  slow calls are counted in a window"),
        (
            {"policy": "count_window", "minimum_calls": 11, "window_calls": 10},
            "minimum_calls  11 never come together in a window of 10 calls",
        ),
    ],
)
def test_settings_that_make_no_breaker_are_refused(settings: dict[str, Any], complaint: str):
    """
    With what was found and what would do.
    """
    with pytest.raises(InvalidValue, match=complaint.replace("  ", r"\s+")):
        BreakerSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"policy": "sliding", "slow_call_s": 1}, ["policy"]),
        ({"policy": "count_window", "minimum_calls": 200, "window_calls": 0}, ["window_calls"]),
    ],
)
def test_a_contradiction_with_a_wrong_setting_is_not_told(
    settings: dict[str, Any], wrong: list[str]
):
    """
    It would be one with the default, which nobody gave.
    """
    with pytest.raises(InvalidValue) as caught:
        BreakerSettings(**settings)

    assert [key for key, _ in caught.value.details] == wrong


# ---- one for each peer


def test_a_dead_peer_blocks_nobody_else():
    """
    Five dead peers, open; the sixth is served.
    """
    peers = Breakers(clock=Hands(), settings=BreakerSettings(failures=1))
    for name in "abcde":
        fail(peers.of(name))

    assert [peers.of(name).state for name in "abcde"] == ["open"] * 5
    assert peers.of("f").call(lambda: "served") == "served"
    assert peers.of("a") is peers.of("a")


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_registry_keeps_no_more_than_its_limit(limit: int):
    """
    The closed one asked for longest ago goes; open ones stay as long as one is closed.
    """
    peers = Breakers(clock=Hands(), settings=BreakerSettings(failures=1), limit=limit)
    names = [str(n) for n in range(limit)]
    for name in names:
        peers.of(name)
    fail(peers.of(names[0]))

    peers.of("new")

    assert len(peers) == limit
    assert "new" in peers
    assert (names[0] in peers) is (limit > 1)
    assert (peers.forgotten, peers.forgotten_open) == (1, int(limit == 1))


def test_a_registry_forgets_the_one_asked_for_longest_ago():
    """
    Asking for one makes it young again.
    """
    peers = Breakers(clock=Hands(), limit=2)
    peers.of("a")
    peers.of("b")
    peers.of("a")

    peers.of("c")

    assert ("a" in peers, "b" in peers) == (True, False)


def test_a_registry_changes_and_resets_them_all():
    """
    Those there are, and those to come.
    """
    peers = Breakers(clock=Hands(), settings=BreakerSettings(failures=5))
    peers.of("a")

    peers.adopt(BreakerSettings(failures=1))
    fail(peers.of("a"))
    fail(peers.of("b"))
    assert {name: each.state for name, each in peers.report().items()} == {
        "a": "open",
        "b": "open",
    }
    peers.reset()
    assert [each.state for each in peers] == ["closed", "closed"]
    peers.forget("a")
    assert "a" not in peers


def test_a_registry_counts_those_it_forgot():
    """
    For good, and those apart that were not closed; a peer that is not there is no mistake.
    """
    peers = Breakers(clock=Hands(), settings=BreakerSettings(failures=1), limit=1)
    for name in "abcd":
        peers.of(name)
    assert (peers.forgotten, peers.forgotten_open) == (3, 0)
    for name in "efg":
        peers.of(name)
        fail(peers.of(name))
    peers.forget("a")

    assert (peers.forgotten, peers.forgotten_open) == (6, 2)


def test_a_registrys_breakers_count_as_it_was_told():
    """
    What is ignored there is ignored by each.
    """
    peers = Breakers(
        clock=Hands(), settings=BreakerSettings(failures=1), counting=Counting(ignored=(Broken,))
    )

    fail(peers.of("a"))

    assert peers.of("a").state == "closed"


def test_a_registry_of_none_is_refused():
    """
    It would keep nothing.
    """
    with pytest.raises(InvalidValue, match="a limit of 0 breakers; expected 1 or more"):
        Breakers(clock=Hands(), limit=0)
