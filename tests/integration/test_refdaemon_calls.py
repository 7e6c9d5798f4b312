"""The reference daemon's calls: tools, side by side, cancelled, reported on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.clock import now_ns
from tests.integration.refdaemon_process import TEXT, Serve, masked, on_both_transports, started

pytestmark = on_both_transports

_LONG_MS = 600_000


def _one_write(*frames: dict[str, Any]) -> bytes:
    """Frames between whose sending no time passes."""
    return b"".join(masked(TEXT, json.dumps(frame).encode()) for frame in frames)


def _text(reply: dict[str, Any]) -> str:
    assert reply["ok"], reply
    (output,) = reply["outputs"]
    text: str = output["text"]
    return text


async def test_list_tools_describes_every_tool(serve: Serve) -> None:
    """
    Each tool comes with a description and a schema that names its required arguments.
    """
    async with serve() as daemon, daemon.peer() as peer:
        reply = await peer.ask(op="list_tools", request_id="7")

    assert (reply["op"], reply["request_id"]) == ("list_tools_res", "7")
    assert {tool["name"]: tool["inputSchema"]["required"] for tool in reply["tools"]} == {
        "echo": ["text"],
        "sleep": ["ms"],
        "counter": ["name"],
        "fail": ["message"],
        "blob": ["size_bytes"],
        "stream": ["chunks"],
    }
    assert all(tool["description"] for tool in reply["tools"])


async def test_echo_says_the_text_back(serve: Serve) -> None:
    """
    The answer carries the text and the two stamps, in the order of what happened.
    """
    async with serve() as daemon, daemon.peer() as peer:
        before = now_ns()
        reply = await peer.call("1", "echo", text="grüß dich\n")
        after = now_ns()

    assert _text(reply) == "grüß dich\n"
    assert (reply["op"], reply["request_id"]) == ("call_tool_res", "1")
    assert before <= reply["received_ns"] <= reply["answered_ns"] <= after


async def test_counter_counts_across_connections(serve: Serve) -> None:
    """
    A counter keeps its total by name, for all sessions of the daemon.
    """
    async with serve() as daemon:
        async with daemon.peer() as peer:
            assert _text(await peer.call("1", "counter", name="a")) == "1"
            assert _text(await peer.call("2", "counter", name="a", by=41)) == "42"
        async with daemon.peer() as peer:
            assert _text(await peer.call("1", "counter", name="a", by=-2)) == "40"
            assert _text(await peer.call("2", "counter", name="b")) == "1"


async def test_fail_fails_in_the_tool(serve: Serve) -> None:
    """
    The tool's own failure is TOOL_EXECUTION_ERROR with its message, and has an effect.
    """
    async with serve() as daemon, daemon.peer() as peer:
        reply = await peer.call("1", "fail", message="as asked")
        effects = daemon.effects()

    assert not reply["ok"]
    assert reply["error"] == {
        "code": "TOOL_EXECUTION_ERROR",
        "message": "as asked",
        "details": {},
    }
    assert [effect.tool for effect in effects] == ["fail"]


@pytest.mark.parametrize("name", ["echo_EXAI-WS", "echo-EXAI-WS", "echo_EXAI_WS", "echo-EXAI_WS"])
async def test_suffix_of_older_clients_is_taken_off(serve: Serve, name: str) -> None:
    """
    A tool is found under its name with one of the four suffixes, and logged under its own.
    """
    async with serve() as daemon, daemon.peer() as peer:
        assert _text(await peer.call("1", name, text="x")) == "x"
        assert [effect.tool for effect in daemon.effects()] == ["echo"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("sing", {}, "TOOL_NOT_FOUND"),
        ("", {}, "TOOL_NOT_FOUND"),
        ("echo_EXAI-WS-VSCode1", {"text": "x"}, "TOOL_NOT_FOUND"),
        ("echo", {}, "VALIDATION_ERROR"),
        ("echo", {"text": 7}, "VALIDATION_ERROR"),
        ("echo", {"text": "x", "loud": True}, "VALIDATION_ERROR"),
        ("sleep", {"ms": -1}, "VALIDATION_ERROR"),
        ("sleep", {"ms": 1, "steps": 0}, "VALIDATION_ERROR"),
        ("sleep", {"ms": 10**30}, "VALIDATION_ERROR"),
        ("counter", {"name": ""}, "VALIDATION_ERROR"),
        ("counter", {"name": "n", "by": 0.5}, "VALIDATION_ERROR"),
        ("counter", {"name": "n", "by": True}, "VALIDATION_ERROR"),
        ("fail", {"message": None}, "VALIDATION_ERROR"),
    ],
)
async def test_call_that_cannot_run_is_refused_without_effect(
    serve: Serve, name: str, arguments: dict[str, Any], code: str
) -> None:
    """
    An unknown tool and wrong arguments are refused before anything happens.
    """
    async with serve() as daemon, daemon.peer() as peer:
        reply = await peer.call("1", name, **arguments)
        counters = (await peer.health())["counters"]

        assert (reply["ok"], reply["error"]["code"]) == (False, code)
        assert reply["request_id"] == "1"
        assert daemon.effects() == []
        assert (counters["calls_refused"], counters["calls_executed"]) == (1, 0)


async def test_empty_request_id_is_refused(serve: Serve) -> None:
    """
    A call needs an id of its own: the empty one is refused.
    """
    async with serve() as daemon, daemon.peer() as peer:
        reply = await peer.call("", "echo", text="x")

        assert (reply["request_id"], reply["error"]["code"]) == ("", "VALIDATION_ERROR")
        assert daemon.effects() == []


async def test_slow_call_delays_nothing(serve: Serve) -> None:
    """
    While a call sleeps, a ping, another call and a health report on its connection are answered.
    """
    async with serve() as daemon, daemon.peer() as peer:
        await peer.send(op="call_tool", request_id="slow", name="sleep", arguments={"ms": _LONG_MS})
        pong = await peer.ask(op="ping", request_id="p")
        reply = await peer.call("quick", "echo", text="x")
        health = await peer.health()

    assert (pong["op"], pong["request_id"]) == ("pong", "p")
    assert reply["request_id"] == "quick"
    assert health["running_calls"] == 1


async def test_calls_finish_in_the_order_of_their_work(serve: Serve) -> None:
    """
    Two sleeps of one connection overlap: the shorter is answered first, neither too early.
    """
    call = {"op": "call_tool", "name": "sleep"}
    long = {**call, "request_id": "long", "arguments": {"ms": 200}}
    short = {**call, "request_id": "short", "arguments": {"ms": 50}}
    async with serve() as daemon, daemon.raw() as peer:
        peer.writer.write(_one_write(long, short))
        replies = [json.loads((await peer.receive())[1]) for _ in range(2)]

    assert [reply["request_id"] for reply in replies] == ["short", "long"]
    for reply, asked_ms in zip(replies, (50, 200), strict=True):
        assert reply["answered_ns"] - reply["received_ns"] >= asked_ms * 1_000_000


async def test_a_request_id_is_one_call_in_its_session(serve: Serve) -> None:
    """
    Another call of the same id is refused, while the first runs and afterwards; in another
    session the id is free.
    """
    async with (
        serve() as daemon,
        daemon.peer() as peer,
        daemon.peer() as other,
    ):
        await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 1000})
        meanwhile = await peer.call("1", "echo", text="x")
        elsewhere = await other.call("1", "echo", text="x")
        slept = await peer.receive()
        afterwards = await peer.call("1", "echo", text="x")
        effects = daemon.effects()

    for refused in (meanwhile, afterwards):
        assert refused["error"]["code"] == "INVALID_REQUEST"
        assert refused["error"]["details"] == {"key": "1"}
    assert _text(elsewhere) == "x"
    assert _text(slept) == "slept 1000 ms"
    assert [effect.tool for effect in effects] == ["echo", "sleep"]


async def test_a_request_id_that_waits_is_no_other_calls(serve: Serve) -> None:
    """
    Under it no call of another key begins, and none joins one; those that wait are answered.
    """
    call = {"op": "call_tool", "name": "sleep", "arguments": {"ms": 1000}}
    async with serve() as daemon, daemon.peer() as peer:
        for request_id, key in (("1", "a"), ("2", "b")):
            await peer.send(**call, request_id=request_id, key=key)
        refused = [await peer.ask(**call, request_id="1", key=key) for key in ("c", "b")]
        answers = [await peer.receive() for _ in range(2)]
        effects = daemon.effects()

    for reply, key in zip(refused, ("c", "b"), strict=True):
        assert reply["error"]["code"] == "INVALID_REQUEST"
        assert reply["error"]["details"] == {"key": key}
    # They end at the same moment, in any order.
    ended = sorted((reply["request_id"], reply["ok"]) for reply in answers)
    assert ended == [("1", True), ("2", True)]
    assert sorted(effect.key for effect in effects) == ["a", "b"]


async def test_a_request_that_is_repeated_while_it_runs_is_answered_once(serve: Serve) -> None:
    """
    Its wait counts from the repetition; both are counted, one as executed, one as replayed.
    """
    call = {"op": "call_tool", "request_id": "1", "name": "sleep", "arguments": {"ms": 150}}
    async with serve() as daemon, daemon.peer() as other, daemon.raw() as peer:
        peer.writer.write(_one_write({**call, "timeout_ms": 50}, {**call, "timeout_ms": 60_000}))
        answer = json.loads((await peer.receive())[1])
        health = await other.health()

    assert _text(answer) == "slept 150 ms"
    counters = health["counters"]
    counts = [counters[f"calls_{how}"] for how in ("executed", "replayed", "timed_out")]
    assert counts == [1, 1, 0]


async def test_progress_comes_after_each_step_but_the_last(serve: Serve) -> None:
    """
    A sleep of four steps reports three times and then answers.
    """
    async with serve() as daemon, daemon.peer() as peer:
        first = await peer.call("1", "sleep", ms=40, steps=4)
        frames = [first, *[await peer.receive() for _ in range(3)]]

    assert [frame["op"] for frame in frames] == ["progress"] * 3 + ["call_tool_res"]
    assert {frame["request_id"] for frame in frames} == {"1"}
    assert [(frame["progress"], frame["total"]) for frame in frames[:3]] == [
        (1, 4),
        (2, 4),
        (3, 4),
    ]


async def test_cancel_ends_a_running_call(serve: Serve) -> None:
    """
    A cancelled call is answered CANCELLED, stops running, has no effect, and frees its id.
    """
    async with serve() as daemon, daemon.peer() as peer:
        await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": _LONG_MS})
        await peer.health_when("running_calls", 1)
        reply = await peer.ask(op="cancel", request_id="1")
        cancelled = await peer.receive()
        health = await peer.health_when("running_calls", 0)
        again = await peer.call("1", "sleep", ms=1)
        effects = daemon.effects()

    assert (reply["op"], reply["request_id"]) == ("call_tool_res", "1")
    assert (reply["ok"], reply["error"]["code"]) == (False, "CANCELLED")
    assert cancelled == {"op": "cancelled", "request_id": "1", "ok": True}
    assert health["counters"]["calls_cancelled"] == 1
    assert _text(again) == "slept 1 ms"
    assert len(effects) == 1


async def test_cancel_in_the_same_write_as_its_call(serve: Serve) -> None:
    """
    A call cancelled before its tool took a first step is answered all the same.
    """
    call = {"op": "call_tool", "request_id": "1", "name": "sleep", "arguments": {"ms": 1}}
    cancel = {"op": "cancel", "request_id": "1"}
    async with serve() as daemon, daemon.raw() as peer:
        peer.writer.write(_one_write(call, cancel))
        replies = [json.loads((await peer.receive())[1]) for _ in range(2)]

        assert replies[0]["error"]["code"] == "CANCELLED"
        assert replies[1]["ok"]
        assert daemon.effects() == []


@pytest.mark.parametrize("request_id", ["never-was", "done", ""])
async def test_cancel_of_nothing_is_not_found(serve: Serve, request_id: str) -> None:
    """
    Cancelling an unknown or finished call says so.
    """
    async with serve() as daemon, daemon.peer() as peer:
        await peer.call("done", "echo", text="x")
        reply = await peer.ask(op="cancel", request_id=request_id)

    assert (reply["op"], reply["request_id"], reply["ok"]) == ("cancelled", request_id, False)
    assert reply["error"]["code"] == "NOT_FOUND"


async def test_calls_of_others_cannot_be_cancelled(serve: Serve) -> None:
    """
    A cancel reaches only the calls of its own connection.
    """
    async with (
        serve() as daemon,
        daemon.peer() as peer,
        daemon.peer() as other,
    ):
        await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 1000})
        await other.health_when("running_calls", 1)
        refused = await other.ask(op="cancel", request_id="1")
        slept = await peer.receive()

    assert refused["error"]["code"] == "NOT_FOUND"
    assert slept["ok"]


async def test_health_reports_what_is_going_on(tmp_path: Path, transport: str) -> None:
    """
    The report names the process, its load and its counters, and says it is not draining.
    """
    async with started(tmp_path, transport=transport) as daemon, daemon.peer() as peer:
        await peer.call("1", "echo", text="x")
        await peer.call("2", "fail", message="x")
        health = await peer.health()

    assert health["pid"] == daemon.process.pid
    assert (health["connections"], health["sessions"], health["running_calls"]) == (1, 1, 0)
    assert health["draining"] is False
    assert 0 < health["uptime_s"] < 60
    assert health["counters"] == {
        **dict.fromkeys(health["counters"], 0),
        "connections_opened": 1,
        "calls_executed": 1,
        "calls_failed": 1,
    }


BROKEN = """
import sys
from harness.refdaemon import tools
from harness.refdaemon.__main__ import main

def break_(*arguments):
    raise RuntimeError("as if it had a bug")

async def break_late(arguments, context, *, wait):
    raise RuntimeError("as if it had a bug")

tools._echo, tools._sleep = break_, break_late
# Behind the command that it stands before.
sys.exit(main(sys.argv[4:]))
"""


@pytest.mark.parametrize(("tool", "arguments"), [("echo", {"text": "x"}), ("sleep", {"ms": 1})])
async def test_a_tool_that_breaks_takes_nothing_with_it(
    tmp_path: Path, transport: str, tool: str, arguments: dict[str, Any]
) -> None:
    """
    Its caller is told, again where it asks again, and its connection lives.
    """
    program = tmp_path / "broken.py"
    program.write_text(BROKEN)
    before = (sys.executable, str(program))
    async with (
        started(tmp_path, transport=transport, before=before) as daemon,
        daemon.peer() as peer,
    ):
        broke = await peer.call("1", tool, **arguments)
        again = await peer.call("1", tool, **arguments)
        counted = await peer.call("2", "counter", name="n")
        health = await peer.health()

    assert broke["error"]["code"] == "INTERNAL_ERROR"
    assert "RuntimeError" in broke["error"]["message"]
    assert (again["error"], again["replayed"]) == (broke["error"], True)
    assert counted["ok"]
    assert health["counters"]["calls_failed"] == 1
    assert daemon.log.read_text().count("RuntimeError: as if it had a bug") == 1
