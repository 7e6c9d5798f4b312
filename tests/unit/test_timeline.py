"""A history as a picture of text."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history import History, Op, OpType
from harness.records import Effect
from harness.report.timeline import timeline

MS = 1_000_000


class Script:
    """A made-up history: one op after another, a millisecond apart unless said otherwise."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def add(self, process: str, type: OpType, f: str, *, at_ms: float | None = None, **more: Any):
        index = len(self.ops)
        at_ms = float(index) if at_ms is None else at_ms
        fields = {"time_ns": int((100 + at_ms) * MS), "clock": "ours"} | more
        self.ops.append(Op(index=index, process=process, type=type, f=f, **fields))

    def call(self, key: str, end: OpType = "ok", *, process: str = "client", **more: Any) -> None:
        request = {"request_id": f"{process}-{key}-{len(self.ops)}"}
        attempt = more.pop("attempt", 1)
        self.add(
            process, "invoke", "call", value=request | {"tool": "echo"}, key=key, attempt=attempt
        )
        value = request | {"elapsed_ms": 1.25} | more.pop("value", {})
        self.add(process, end, "call", value=value, key=key, attempt=attempt, **more)

    def fault(self, f: str, type: OpType, **value: Any) -> None:
        self.add("nemesis", type, f, value={"name": "latency_1", **value})

    def draw(self, **options: Any) -> list[str]:
        return timeline(History(self.ops), **options).splitlines()


def effect(key: str, at_ms: float, *, clock: str = "ours") -> Effect:
    return Effect(
        sequence=1,
        time_ns=int((100 + at_ms) * MS),
        clock=clock,
        tool="echo",
        key=key,
        request_id="r",
        session="s",
        pid=1,
        digest="0",
    )


def column(lines: list[str], name: str) -> int:
    return lines[0].index(name)


def test_the_columns_are_named_and_times_count_from_the_start():
    """
    The first op stands at 0.0 ms, whatever the clock read.
    """
    script = Script()
    script.call("k")

    lines = script.draw()

    assert lines[0].split() == ["timeline", "(ms", "after", "start)", "client", "proxy", "daemon"]
    assert lines[1].split()[:4] == ["0.0", "call", "echo", "key=k"]
    assert lines[2].split()[:5] == ["1.0", "ok", "1.2", "ms", "key=k"]


def test_a_call_points_to_the_daemon_and_its_answer_back():
    """
    Both arrows stand in the client's column.
    """
    script = Script()
    script.call("k")

    lines = script.draw()

    at = column(lines, "client")
    assert lines[1][at] == "─"
    assert lines[1].rstrip().endswith("▶")
    assert lines[2][at] == "◀"


@pytest.mark.parametrize(
    ("ending", "mark"),
    [
        ({"kind": "reset"}, "✗ RST"),
        ({"kind": "eof"}, "✗ FIN"),
        ({"kind": "closed", "code": 1011}, "✗ closed 1011"),
        (None, "✗ time_limit"),
    ],
)
def test_a_call_without_an_answer_says_how_it_ended(ending: dict[str, Any] | None, mark: str):
    """
    A reset, a FIN, a close code, or what the client gave up for.
    """
    script = Script()
    script.call("k", "info", error="time_limit", value={"ending": ending} if ending else {})

    lines = script.draw()

    assert lines[2][column(lines, "client") :] == mark


def test_what_the_proxy_did_stands_in_its_column():
    """
    With direction, bytes and the toxic that did it.
    """
    script = Script()
    script.add("proxy", "info", "reset", value={"stream": "downstream", "bytes": 81, "toxic": "r1"})

    lines = script.draw(width=140)

    assert lines[1][column(lines, "proxy") :].rstrip() == "◀ reset 81 bytes r1"


def test_what_the_daemon_did_stands_in_its_column():
    """
    A process that started or ended, and an effect that was recorded.
    """
    script = Script()
    script.add("daemon", "info", "ended", value={"how": "signal 9", "pid": 4711})
    script.add("daemon", "info", "effect", key="k7")

    lines = script.draw(width=140)

    at = column(lines, "daemon")
    assert [line[at:] for line in lines[1:]] == ["ended signal 9 pid 4711", "executed k7"]


@pytest.mark.parametrize(
    ("process", "value", "drawn"),
    [
        ("daemon", {"pid": 4711, "ready_ms": 203.3}, "ready pid 4711 after 203.3 ms"),
        ("proxy", {"pid": 4712}, "ready pid 4712"),
    ],
)
def test_a_start_is_drawn_as_what_was_seen_of_it(process: str, value: dict[str, Any], drawn: str):
    """
    The row stands where the program was found ready; it may have worked before, in rows above.
    """
    script = Script()
    script.call("k")
    script.add(process, "info", "started", value=value)

    lines = script.draw(effects=[effect("k", 0.5)], width=160)

    assert "executed k" in lines[2]
    assert lines[4][column(lines, process) :] == drawn


def test_a_fault_is_shown_with_its_settings_for_as_long_as_it_is_in_place():
    """
    Rows under a fault carry a bar; those before and after do not.
    """
    script = Script()
    script.call("a")
    script.fault("latency", "invoke", latency_ms=200)
    script.fault("latency", "ok", latency_ms=200)
    script.call("b")
    script.fault("heal", "ok")
    script.call("c")

    lines = script.draw()

    harmed = [("▌" in line) for line in lines[1:]]
    assert harmed == [False, False, False, True, True, True, False, False, False]
    assert "▲ latency_1 in place: latency_ms 200" in lines[4]
    assert "▼ latency_1 lifted" in lines[7]


def test_a_record_that_came_late_stands_under_the_fault_of_its_own_time():
    """
    The proxy's events are fetched when the fault is lifted already.
    """
    script = Script()
    script.fault("latency", "ok")
    script.fault("heal", "ok")
    script.add("proxy", "info", "delayed", at_ms=0.5)
    script.add("proxy", "info", "opened", at_ms=1.5)

    lines = script.draw(effects=[effect("k", 0.6), effect("k", 1.6)])

    assert [("▌" in line) for line in lines[1:]] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("ending", "mark"),
    [
        ({"kind": "closed", "code": 1000, "first": "client"}, "closed"),
        ({"kind": "closed", "code": 1000, "first": "daemon"}, "✗ closed 1000"),
        ({"kind": "eof"}, "✗ FIN"),
    ],
)
def test_a_close_that_was_not_ours_is_marked(ending: dict[str, Any], mark: str):
    """
    The client's own orderly close is no harm.
    """
    script = Script()
    script.add("client", "info", "close", value={"ending": ending})

    lines = script.draw()

    assert lines[1][column(lines, "client") :] == mark


def test_folded_attempts_to_open_are_counted():
    """
    So that a storm of them shows.
    """
    script = Script()
    for _ in range(10):
        script.add("client", "invoke", "open")
        script.add("client", "fail", "open", error="refused")

    assert script.draw()[5].split() == ["...", "7", "opens"]


def test_a_fault_that_could_not_be_put_on_or_lifted_says_why():
    """
    Its error stands there, and the bar stays: the harm may be in place.
    """
    script = Script()
    script.fault("latency", "ok")
    script.ops[-1] = Op(**{**_fields(script.ops[-1]), "type": "info", "error": "not injected"})
    script.fault("heal", "info")
    script.ops[-1] = Op(**{**_fields(script.ops[-1]), "error": "not lifted"})
    script.call("a")

    lines = script.draw()

    assert "▲ latency_1: not injected" in lines[1]
    assert "▼ latency_1: not lifted" in lines[2]
    assert "▌" in lines[3]


def _fields(op: Op) -> dict[str, Any]:
    return {name: getattr(op, name) for name in op.__struct_fields__}


def test_phases_are_named_where_they_begin():
    """
    Once each.
    """
    script = Script()
    script.add("client", "invoke", "open", phase="baseline")
    script.add("client", "ok", "open", phase="baseline")
    script.add("client", "info", "close", phase="fault")

    text = "\n".join(script.draw())

    assert text.count("[baseline]") == text.count("[fault]") == 1
    assert text.index("[baseline]") < text.index("open ok") < text.index("[fault]")


def test_many_calls_alike_become_one_line():
    """
    The first two and the last stay; the line between counts the calls it stands for.
    """
    script = Script()
    for number in range(40):
        script.call(f"k{number}")

    lines = script.draw()

    assert len(lines) == 1 + 4 + 1 + 2
    assert lines[5].split() == ["...", "37", "calls"]
    assert "key=k39" in lines[-1]


def test_few_calls_are_not_folded():
    """
    One line in place of one line would save nothing.
    """
    script = Script()
    for number in range(4):
        script.call(f"k{number}")

    assert len(script.draw()) == 1 + 8


def test_nothing_is_folded_where_that_is_asked_for():
    """
    Every op has its line.
    """
    script = Script()
    for number in range(40):
        script.call(f"k{number}")

    assert len(script.draw(fold=False)) == 1 + 80


def test_what_is_odd_is_seen_in_a_crowd():
    """
    The one call that failed among a hundred stays, with its invoke.
    """
    script = Script()
    for number in range(100):
        if number == 50:
            script.call("odd", "info", error="time_limit")
        script.call(f"k{number}")

    text = "\n".join(script.draw())

    assert "call echo key=odd" in text
    assert "info 1.2 ms time_limit key=odd" in text
    assert text.count("...") == 2


def test_calls_that_were_tried_again_are_never_folded():
    """
    Both attempts stay, and so do those with keys that were asked for.
    """
    script = Script()
    for number in range(50):
        script.call(f"k{number}")
    script.call("k20", attempt=2)
    for number in range(50, 100):
        script.call(f"k{number}")

    text = "\n".join(script.draw(keys=["k70"]))

    assert text.count("key=k20") == 4
    assert "key=k20 attempt 2" in text
    assert text.count("key=k70") == 2
    assert "key=k30" not in text


def test_folding_starts_anew_after_a_fault():
    """
    The first calls under a fault are seen, however many came before.
    """
    script = Script()
    for number in range(20):
        script.call(f"before{number}")
    script.fault("latency", "ok")
    for number in range(20):
        script.call(f"after{number}")

    text = "\n".join(script.draw())

    assert "key=before0" in text
    assert "key=after0" in text
    assert "key=after9" not in text


def test_folded_proxy_events_are_counted_as_events():
    """
    They are no calls.
    """
    script = Script()
    for _ in range(10):
        script.add("proxy", "info", "delayed", value={"bytes": 3})

    assert script.draw()[3].split() == ["...", "7", "events"]


def test_of_an_execution_that_is_too_long_the_end_is_shown():
    """
    Request ids of one client begin alike; the second run of one is told in its last word.
    """
    keys = ["client-1-d648ec11-1", "client-1-d648ec11-2"]
    script = Script()
    script.call(keys[0])

    lines = script.draw(effects=[effect(key, 0.5) for key in (*keys, keys[0])], width=100)

    cells = [line[column(lines, "daemon") :] for line in lines if "executed" in line]
    assert cells == ["executed …648ec11-1", "executed …648ec11-2", "executed …1 (again)"]


def test_effects_stand_where_they_happened_and_a_second_one_says_so():
    """
    An effect under our clock is put in order by its stamp.
    """
    script = Script()
    script.call("k7", "info", error="connection_lost")
    script.call("k7", attempt=2)

    lines = script.draw(effects=[effect("k7", 0.5), effect("k7", 2.5)], width=120)

    at = column(lines, "daemon")
    assert [line[at:] for line in lines[1:]] == [
        "",
        "executed k7",
        "",
        "",
        "executed k7 (again)",
        "",
    ]


def test_another_clocks_records_keep_their_place_and_show_no_time():
    """
    Their stamps are not compared with ours.
    """
    script = Script()
    script.call("a")
    script.add("proxy", "info", "reset", at_ms=-90, clock="theirs")
    script.call("b")

    lines = script.draw()

    assert "reset" in lines[3]
    assert lines[3][:9] == " " * 9
    assert lines[4].split()[0] == "3.0"


def test_stamps_put_records_of_one_clock_in_order():
    """
    A proxy's event that was fetched late stands where it happened.
    """
    script = Script()
    script.call("a")
    script.add("proxy", "info", "reset", at_ms=0.5)

    lines = script.draw()

    assert [line.split()[0] for line in lines[1:]] == ["0.0", "0.5", "1.0"]


def test_several_callers_are_told_apart():
    """
    One client needs no name; two do.
    """
    script = Script()
    script.call("a", process="w1")
    assert "w1 call" not in "\n".join(script.draw())

    script.call("b", process="w2")
    assert "w2 call" in "\n".join(script.draw())


@pytest.mark.parametrize("width", [72, 80, 100, 160])
def test_no_line_is_wider_than_it_may_be(width: int):
    """
    Long texts are cut with an ellipsis, lines inside them joined.
    """
    script = Script()
    script.call("k" * 200, "fail", error="e" * 200)
    script.add("proxy", "info", "reset", value={"detail": "d\n" * 200})
    script.add("daemon", "info", "ended", value={"how": "h" * 200})
    script.fault("latency", "ok", why="w" * 200)

    lines = script.draw(width=width)

    assert max(map(len, lines)) <= width
    assert len(lines) == 6
    assert all("…" in line for line in lines[1:])


def test_an_empty_history_says_so():
    """
    No picture, no crash.
    """
    assert timeline(History([])) == "  the history is empty"


def test_a_torn_tail_is_mentioned():
    """
    The run was killed while it wrote.
    """
    script = Script()
    script.call("k")

    text = timeline(History(script.ops, torn=b'{"ind'))

    assert text.splitlines()[-1] == "  the last line is torn: 5 bytes of it"


def test_of_an_engine_it_is_told_whose_container_it_was():
    """The daemon's own, or one that was there for a moment."""
    script = Script()
    script.call("a")
    run = "harness-20261129-142050-9041a1cb68d9"
    for name in (f"{run}-daemon-66", f"{run}-stand-in-67"):
        script.add("engine", "info", "die", clock="wall:x", value={"container": name})
    _, *rows = script.draw(width=160)

    assert [row.split() for row in rows if "engine:" in row] == [
        ["engine:", "die"],
        ["engine:", "stand-in-67", "die"],
    ]


def test_what_containers_say_has_no_time_of_ours():
    """A daemon's line stands where it was received; what a Toxiproxy says is left out."""
    script = Script()
    wall = {"clock": "wall:container-engine", "time_ns": 7}
    script.add("proxy", "info", "log", value={"line": "GET /proxies"}, **wall)
    script.add("daemon", "info", "log", value={"line": "begun"}, **wall)
    script.call("a")
    script.add("daemon", "info", "log", value={"line": "out of memory"}, **wall)
    _, *rows = script.draw()

    assert [row.split() for row in rows if "log:" in row] == [
        ["log:", "begun"],
        ["log:", "out", "of", "memory"],
    ]
    assert not [row for row in rows if "GET" in row]
    assert "out of memory" in rows[-1]
