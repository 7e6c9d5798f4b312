"""Calls over one session: answers, errors, time limits, the record; on real sockets."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from harness.client.session import Reply, Session
from harness.clock import clock_id, now_ns
from harness.dialects.base import Progress
from harness.errors import (
    OUTCOMES,
    CallFailed,
    CallUnknown,
    EnvironmentFailed,
    InvalidValue,
)
from harness.run.store import HistoryWriter
from tests.integration.daemons import (
    WELCOME,
    answer,
    say,
    speaking,
)
from tests.integration.sessions import TOKEN, Frame, echo, ops, refusal, session, silent


@pytest.fixture
def history(tmp_path: Path):
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        yield writer


async def test_a_reply_says_what_came_and_how_long_it_took():
    """
    The first output's text is at hand.
    """
    async with speaking(echo) as url, session(url) as opened:
        before_ns = now_ns()
        reply = await opened.call("echo", {"text": "hi"}, key="k1")
        took_ms = (now_ns() - before_ns) / 1e6

    assert (reply.text, reply.key, reply.failure, reply.progress) == ("hi", "k1", None, 0)
    assert 0 < reply.elapsed_ms <= took_ms
    # This daemon says nothing of its clock.
    assert (reply.received_by_daemon_ms, reply.answered_by_daemon_ms) == (None, None)


async def test_the_call_goes_out_as_given():
    """
    Tool, arguments and key; without a key none is sent, and the record shows the request id.
    """
    seen: list[Frame] = []

    async def look(connection: ServerConnection, frame: Frame) -> None:
        seen.append(frame)
        await answer(connection, frame)

    async with speaking(look) as url, session(url) as opened:
        await opened.call("echo", {"a": [1, None, "é"]}, key="k1")
        reply = await opened.call("echo", {})

    assert (seen[0]["op"], seen[0]["name"], seen[0]["key"]) == ("call_tool", "echo", "k1")
    assert seen[0]["arguments"] == {"a": [1, None, "é"]}
    assert "key" not in seen[1]
    assert reply.key == reply.request_id == seen[1]["request_id"]


@pytest.mark.parametrize("same", [True, False])
async def test_the_daemons_stamps_count_only_on_our_clock(same: bool):
    """
    Across clocks a difference of stamps means nothing, so there is none.
    """

    async def greet(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, WELCOME | {"clock": clock_id() if same else "other"})

    async def stamped(connection: ServerConnection, frame: Frame) -> None:
        received_ns = now_ns()
        await answer(connection, frame, received_ns=received_ns, answered_ns=now_ns())

    async with speaking(stamped, hello=greet) as url, session(url) as opened:
        reply = await opened.call("echo", {})

    received_ms, answered_ms = reply.received_by_daemon_ms, reply.answered_by_daemon_ms
    if same:
        assert received_ms is not None
        assert answered_ms is not None
        assert 0 < received_ms <= answered_ms <= reply.elapsed_ms
    else:
        assert (received_ms, answered_ms) == (None, None)


async def test_latency_counts_from_the_intended_start(history: HistoryWriter):
    """
    A call that should have started a second ago is a second late already.
    """
    intended_ns = now_ns() - 1_000_000_000
    async with speaking(echo) as url, session(url, recorder=history) as opened:
        reply = await opened.call("echo", {}, intended_ns=intended_ns)

    assert 1000 <= reply.elapsed_ms < 3000
    assert [op.intended_ns for op in ops(history, "call")] == [intended_ns] * 2
    assert ops(history, "call")[1].value["elapsed_ms"] >= 1000


async def test_a_tool_that_failed_inside_is_an_answer(history: HistoryWriter):
    """
    It ran: the reply carries the failure, the record is `ok` with the error.
    """
    error = {"code": "TOOL_EXECUTION_ERROR", "message": "division by zero"}

    async def fail(connection: ServerConnection, frame: Frame) -> None:
        await answer(connection, frame, ok=False, error=error, outputs=[])

    async with speaking(fail) as url, session(url, recorder=history) as opened:
        reply = await opened.call("divide", {})

    assert reply.failure is not None
    assert (reply.failure.code, reply.failure.message) == (error["code"], error["message"])
    assert (reply.text, reply.outputs) == ("", ())
    end = ops(history, "call")[1]
    assert (end.type, end.error) == ("ok", "TOOL_EXECUTION_ERROR")


@pytest.mark.parametrize("frame", ["call_tool_res", "error"])
@pytest.mark.parametrize(
    "code", [code for code, outcome in OUTCOMES.items() if outcome != "ok"] + ["NEVER_HEARD_OF"]
)
async def test_an_error_answer_proves_what_the_table_says(
    history: HistoryWriter, code: str, frame: str
):
    """
    `fail` raises CallFailed, all else CallUnknown, and the record agrees.
    """

    async def refuse(connection: ServerConnection, call: Frame) -> None:
        body = {"op": frame, "request_id": call["request_id"]}
        error = {"code": code, "message": "because"}
        await say(connection, body | {"error": error} | ({"ok": False} if "res" in frame else {}))

    definite = OUTCOMES.get(code) == "fail"
    async with speaking(refuse) as url, session(url, recorder=history) as opened:
        with pytest.raises(CallFailed if definite else CallUnknown) as caught:
            await opened.call("echo", {})

    invoke, end = ops(history, "call")
    assert (caught.value.kind, caught.value.request_id) == (code, invoke.value["request_id"])
    assert "because" in str(caught.value)
    assert ("it did not happen" in str(caught.value)) == definite
    assert (end.type, end.error) == ("fail" if definite else "info", code)


async def test_an_answer_that_is_not_ok_and_has_no_error_proves_nothing():
    """
    Least of all that the tool ran.
    """

    async def refuse(connection: ServerConnection, frame: Frame) -> None:
        await answer(connection, frame, ok=False, outputs=[])

    async with speaking(refuse) as url, session(url) as opened:
        with pytest.raises(CallUnknown):
            await opened.call("echo", {})


async def test_a_time_limit_makes_a_call_unknown(history: HistoryWriter):
    """
    The daemon may have run it.
    """
    async with speaking(silent) as url, session(url, recorder=history) as opened:
        with pytest.raises(CallUnknown, match=r"no answer within 0\.05 s") as caught:
            await opened.call("echo", {}, timeout_s=0.05)

    assert caught.value.kind == "time_limit"
    assert 50 <= caught.value.elapsed_ms < 1000
    end = ops(history, "call")[1]
    assert (end.type, end.error) == ("info", "time_limit")
    assert end.value["elapsed_ms"] >= 50


async def test_the_sessions_time_limit_holds_where_a_call_brings_none():
    """
    Every wait has a bound.
    """
    async with speaking(silent) as url, session(url, call_timeout_s=0.05) as opened:
        with pytest.raises(CallUnknown, match=r"within 0\.05 s"):
            await opened.call("echo", {})
        with pytest.raises(CallUnknown, match=r"within 0\.05 s"):
            await opened.health()


async def test_a_late_answer_reaches_nobody(history: HistoryWriter):
    """
    The next call gets its own answer; the late one is counted and on record.
    """
    first: list[Frame] = []

    async def late(connection: ServerConnection, frame: Frame) -> None:
        if not first:
            first.append(frame)
            return
        await answer(connection, first[0], "late")
        await answer(connection, frame, "own")

    async with speaking(late) as url, session(url, recorder=history) as opened:
        with pytest.raises(CallUnknown):
            await opened.call("echo", {}, timeout_s=0.05)
        reply = await opened.call("echo", {})
        strays = opened.strays

    assert (reply.text, strays) == ("own", 1)
    (stray,) = ops(history, "stray")
    assert stray.value == {
        "request_id": first[0]["request_id"],
        "kind": "call",
        "late": True,
    }


async def test_repeated_and_foreign_answers_reach_nobody():
    """
    A second answer, one to a request we never made, one without a name: all counted.
    """

    async def babble(connection: ServerConnection, frame: Frame) -> None:
        pong = {"op": "pong", "request_id": frame["request_id"], "timestamp": 1.0}
        if frame["op"] == "ping":
            await say(connection, pong)
            return
        await answer(connection, {"request_id": "somebody-elses"}, "foreign")
        await answer(connection, {"request_id": None}, "nameless")
        await answer(connection, frame, "own")
        await answer(connection, frame, "again")
        await say(connection, pong)

    async with speaking(babble) as url, session(url) as opened:
        texts = [(await opened.call("echo", {})).text for _ in range(3)]
        # What follows the last answer has been read when this one is there.
        await opened.ping()
        strays = opened.strays
    assert texts == ["own"] * 3
    assert strays == 12


async def test_many_calls_at_once_get_their_own_answers():
    """
    A hundred calls on one connection, answered in reverse.
    """
    calls: list[Frame] = []

    async def reverse(connection: ServerConnection, frame: Frame) -> None:
        calls.append(frame)
        if len(calls) == 100:
            for call in reversed(calls):
                await echo(connection, call)

    async with speaking(reverse) as url, session(url) as opened:
        replies: list[Reply] = await asyncio.gather(
            *(opened.call("echo", {"text": str(number)}) for number in range(100))
        )

    assert [reply.text for reply in replies] == [str(number) for number in range(100)]
    assert len({reply.request_id for reply in replies}) == 100


async def test_request_ids_differ_between_sessions_of_one_name():
    """
    Also in another process, so that the effect log tells them apart.
    """
    async with speaking(echo) as url:
        ids = set()
        for _ in range(3):
            async with session(url, process="same") as opened:
                ids.add((await opened.call("echo", {})).request_id)

    assert len(ids) == 3
    assert all(each.startswith("same-") for each in ids)


async def test_progress_is_counted_and_told():
    """
    To the call it belongs to, before the call returns; what belongs to none is harmless.
    """

    async def slow(connection: ServerConnection, frame: Frame) -> None:
        body = {"op": "progress", "request_id": frame["request_id"], "total": 2.0}
        await say(connection, body | {"progress": 1.0})
        await say(connection, body | {"progress": 2.0, "request_id": "nobody"})
        await say(connection, body | {"progress": 2.0, "message": "done"})
        await answer(connection, frame)

    told: list[Progress] = []
    async with speaking(slow) as url, session(url) as opened:
        reply = await opened.call("echo", {}, on_progress=told.append)
        without = await opened.call("echo", {})

    assert (reply.progress, without.progress) == (2, 2)
    assert [(each.progress, each.message) for each in told] == [(1.0, ""), (2.0, "done")]


async def test_a_progress_callback_that_raises_harms_nobody():
    """
    The loop hears of it; call and session go on.
    """

    async def slow(connection: ServerConnection, frame: Frame) -> None:
        await say(
            connection, {"op": "progress", "request_id": frame["request_id"], "progress": 1.0}
        )
        await answer(connection, frame)

    def broken(progress: Progress) -> None:
        raise ZeroDivisionError

    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
    async with speaking(slow) as url, session(url) as opened:
        assert (await opened.call("echo", {}, on_progress=broken)).text == "hi"
        assert (await opened.call("echo", {})).text == "hi"

    assert [type(context["exception"]) for context in heard] == [ZeroDivisionError]


async def test_frames_that_make_no_sense_are_counted():
    """
    The session goes on.
    """

    async def noisy(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, "nonsense")
        await connection.send(b"\xff\xfe")
        await say(connection, {"op": "call_tool_res", "request_id": 7})
        await say(connection, WELCOME)
        await answer(connection, frame)

    async with speaking(noisy) as url, session(url) as opened:
        await opened.call("echo", {})
        assert opened.junk == 4


async def test_arguments_that_are_no_json_are_refused_unrecorded(history: HistoryWriter):
    """
    The mistake is the caller's; nothing was tried.
    """
    async with speaking(echo) as url, session(url, recorder=history) as opened:
        with pytest.raises(InvalidValue, match="cannot be sent as JSON"):
            await opened.call("echo", {"x": object()})

    assert ops(history, "call") == []


async def test_an_invoke_is_on_file_before_its_first_byte_is_sent(
    history: HistoryWriter, monkeypatch: pytest.MonkeyPatch
):
    """
    The line is there when the frame is handed to the library, and when the daemon gets it.
    """

    def invoked() -> list[str]:
        return [op.value["request_id"] for op in ops(history, "call") if op.type == "invoke"]

    early: list[str] = []

    async def look(connection: ServerConnection, frame: Frame) -> None:
        if frame["request_id"] not in invoked():
            early.append(frame["request_id"])
        await answer(connection, frame)

    async with speaking(look) as url, session(url, recorder=history) as opened:
        connection = opened._connection
        assert connection is not None
        send = connection.send

        async def look_and_send(frame: bytes, **options: Any) -> None:
            if not any(request_id.encode() in frame for request_id in invoked()):
                early.append(frame.decode())
            await send(frame, **options)

        monkeypatch.setattr(connection, "send", look_and_send)
        await asyncio.gather(*(opened.call("echo", {}) for _ in range(50)))

    assert early == []
    assert len(ops(history, "call")) == 100


async def test_the_token_is_nowhere(
    history: HistoryWriter, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """
    Not in a log at DEBUG, not on record, not in repr, and not in an error, although this
    daemon says it back wherever it can.
    """

    async def blab(connection: ServerConnection, frame: Frame) -> None:
        error = {"code": "OVER_CAPACITY", "message": f"no more for {TOKEN}"}
        await answer(connection, frame, ok=False, error=error)
        await connection.close(1008, f"bye {TOKEN}")

    async def refuse(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, {"op": "hello_ack", "ok": False, "error": f"not {frame['token']}"})

    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "asyncio", "harness"):
        caplog.set_level(logging.DEBUG, logger=name)
    options: dict[str, Any] = {"token": TOKEN, "recorder": history}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    said = []
    async with speaking(blab) as url, speaking(blab, hello=refuse) as closed:
        address = f"{url.replace('//', f'//user:{TOKEN}@')}/ws?token={TOKEN}"
        async with session(address, headers=headers, **options) as opened:
            said.append(repr(opened))
            with pytest.raises(CallFailed) as caught:
                await opened.call("echo", {})
            said += [str(caught.value), repr(caught.value)]
        said.append(repr(opened))
        error = await refusal(closed, **options)
        said += [str(error), repr(error), error.kind]

    said += [caplog.text, history.path.read_text(), *capsys.readouterr()]
    assert not [text for text in said if TOKEN in text]
    assert "***" in str(caught.value)


async def test_keepalive_pings_are_off_unless_asked_for():
    """
    They would repair or reveal what a test means to break.
    """
    async with speaking(echo) as url:
        async with session(url) as quiet:
            assert quiet._connection is not None
            assert quiet._connection.keepalive_task is None
        async with session(url, ping_interval_s=10) as pinging:
            assert pinging._connection is not None
            assert pinging._connection.keepalive_task is not None


async def test_a_large_reply_arrives_whole():
    """
    Larger than the library's own limit of 1 MiB.
    """

    async def large(connection: ServerConnection, frame: Frame) -> None:
        await answer(connection, frame, "x" * 4_000_000)

    async with speaking(large) as url, session(url) as opened:
        assert len((await opened.call("blob", {})).text) == 4_000_000


async def test_a_history_that_cannot_be_written_is_loud(history: HistoryWriter):
    """
    A call that cannot be put on record is not made.
    """
    seen: list[Frame] = []

    async def look(connection: ServerConnection, frame: Frame) -> None:
        seen.append(frame)

    async with speaking(look) as url:
        # The end of the connection cannot be put on record either, and says so in its turn.
        with pytest.raises(EnvironmentFailed, match="takes no more ops"):
            await call_without_record(session(url, recorder=history), history)

    assert seen == []


async def call_without_record(unopened: Session, history: HistoryWriter) -> None:
    async with unopened as opened:
        history.close()
        await opened.call("echo", {})
