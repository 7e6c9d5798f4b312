"""What a session asks besides calls: tools, health, ping, cancel; on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from harness.client.session import Session
from harness.errors import (
    CallFailed,
    CallUnknown,
    InvalidValue,
)
from harness.run.store import HistoryWriter
from tests.integration.daemons import (
    answer,
    say,
    speaking,
)
from tests.integration.sessions import Frame, ops, session, silent, soon


@pytest.fixture
def history(tmp_path: Path):
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        yield writer


@pytest.fixture
async def asked() -> AsyncIterator[Session]:
    """A session with a daemon that answers every kind of question."""

    async def know(connection: ServerConnection, frame: Frame) -> None:
        request_id = frame["request_id"]
        match frame["op"]:
            case "list_tools":
                body: Frame = {"op": "list_tools_res", "tools": [{"name": "echo"}]}
            case "health":
                body = {"op": "health_res", "ok": True, "health": {"running": 0}}
            case "ping":
                body = {"op": "pong", "timestamp": 1.0}
            case "cancel" if request_id == "running":
                body = {"op": "cancelled", "ok": True}
            case _:
                error = {"code": "NOT_FOUND", "message": "no such call"}
                body = {"op": "cancelled", "ok": False, "error": error}
        await say(connection, body | {"request_id": request_id})

    async with speaking(know) as url, session(url) as opened:
        yield opened


async def test_tools_health_and_ping(asked: Session):
    """
    Each question gets its own kind of answer, also all at once.
    """
    tools, health, elapsed_ms = await asyncio.gather(
        asked.list_tools(), asked.health(), asked.ping()
    )

    assert tools == [{"name": "echo"}]
    assert health == {"running": 0}
    assert elapsed_ms > 0


async def test_a_cancel_says_whether_the_call_was_running(asked: Session):
    """
    "No such call" is an answer too.
    """
    assert await asked.cancel("running") is True
    assert await asked.cancel("over") is False


@pytest.mark.parametrize("kind", ["list_tools", "health", "ping", "cancel"])
async def test_an_error_frame_answers_any_kind_of_question(kind: str):
    """
    It is matched by its id alone.
    """

    async def confused(connection: ServerConnection, frame: Frame) -> None:
        error = {"code": "INVALID_REQUEST", "message": "what?"}
        body = {"op": "error", "request_id": frame["request_id"], "error": error}
        await say(connection, body)

    async with speaking(confused) as url, session(url) as opened:
        ask = getattr(opened, kind)
        with pytest.raises(CallFailed, match=r"what\?") as caught:
            await (ask("x") if kind == "cancel" else ask())

    assert caught.value.kind == "INVALID_REQUEST"


async def test_a_cancel_ends_the_call_it_names(history: HistoryWriter):
    """
    The call is unknown, the cancel true, and both are on record.
    """
    calls: list[Frame] = []
    arrived = asyncio.Event()

    async def cancellable(connection: ServerConnection, frame: Frame) -> None:
        if frame["op"] == "call_tool":
            calls.append(frame)
            arrived.set()
            return
        error = {"code": "CANCELLED", "message": "cancelled"}
        await answer(connection, calls[0], ok=False, error=error, outputs=[])
        await say(connection, {"op": "cancelled", "request_id": frame["request_id"], "ok": True})

    async with speaking(cancellable) as url, session(url, recorder=history) as opened:
        task = asyncio.create_task(opened.call("sleep", {}))
        await soon(arrived)
        assert await opened.cancel(calls[0]["request_id"]) is True
        with pytest.raises(CallUnknown) as caught:
            await task

    assert caught.value.kind == "CANCELLED"
    assert [op.type for op in ops(history, "cancel")] == ["invoke", "ok"]


async def test_a_refused_cancel_is_not_taken_for_the_end_of_its_call():
    """
    Both have one id. That the daemon knows no cancel proves nothing of the call, which runs on.
    """
    calls: list[Frame] = []
    arrived = asyncio.Event()

    async def stubborn(connection: ServerConnection, frame: Frame) -> None:
        if frame["op"] == "call_tool":
            calls.append(frame)
            arrived.set()
            return
        error = {"code": "INVALID_REQUEST", "message": "no cancel here"}
        body = {"op": "error", "request_id": frame["request_id"], "error": error}
        await say(connection, body)
        await answer(connection, calls[0], "done")

    async with speaking(stubborn) as url, session(url) as opened:
        task = asyncio.create_task(opened.call("sleep", {}))
        await soon(arrived)
        with pytest.raises(CallFailed, match="no cancel here"):
            await opened.cancel(calls[0]["request_id"])
        assert (await task).text == "done"


async def test_a_late_refusal_of_a_cancel_is_not_taken_for_the_end_of_its_call():
    """
    Nor where nobody waits for the cancel any more.
    """
    calls: list[Frame] = []
    arrived = asyncio.Event()

    async def slow(connection: ServerConnection, frame: Frame) -> None:
        if frame["op"] == "cancel":
            return
        calls.append(frame)
        arrived.set()
        if len(calls) == 2:
            error = {"code": "INVALID_REQUEST", "message": "no cancel here"}
            body = {"op": "error", "request_id": calls[0]["request_id"], "error": error}
            await say(connection, body)
            for call in calls:
                await answer(connection, call, "done")

    async with speaking(slow) as url, session(url, call_timeout_s=0.05) as opened:
        task = asyncio.create_task(opened.call("sleep", {}, timeout_s=5))
        await soon(arrived)
        with pytest.raises(CallUnknown):
            await opened.cancel(calls[0]["request_id"])
        await opened.call("echo", {}, timeout_s=5)
        assert (await task).text == "done"
        assert opened.strays == 1


async def test_one_cancel_of_a_call_at_a_time():
    """
    Two would have one id, and one answer could not be told from the other.
    """
    async with speaking(silent) as url, session(url, call_timeout_s=0.05) as opened:
        first = asyncio.create_task(opened.cancel("x"))
        await asyncio.sleep(0)
        with pytest.raises(InvalidValue, match="under way already"):
            await opened.cancel("x")
        with pytest.raises(CallUnknown):
            await first
