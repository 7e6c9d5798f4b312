"""Messages of any kind on record, and daemons with a dialect of their own; on real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from harness.dialects.base import Answer, Dialect, Failure, Incoming, Junk, Kind
from harness.dialects.plain import Plain
from harness.errors import CallFailed, CallUnknown, InvalidValue
from harness.report.timeline import timeline
from harness.run.store import HistoryWriter, load_history
from tests.integration.daemons import bare, speaking
from tests.integration.sessions import TOKEN, echo, ops, session, soon

Message = str | bytes


@pytest.fixture
def history(tmp_path: Path):
    with HistoryWriter(tmp_path / "history.jsonl", secrets=[TOKEN]) as writer:
        yield writer


async def back(connection: ServerConnection, message: Message) -> None:
    await connection.send(message)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("hello", "hello"),
        ("grüß".encode(), "grüß"),
        (b"\x00\xff", "\x00\\xff"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        (b"x" * 1_000_000, "x" * 199 + "…"),
    ],
)
async def test_a_message_on_record_is_text_of_a_sane_length(
    history: HistoryWriter, message: Message, shown: str
):
    """
    What is sent is whole all the same.
    """
    async with bare(back) as url, session(url, dialect=Plain(), recorder=history) as opened:
        reply = await opened.call(message)

    invoke, ok = ops(history, "call")
    assert invoke.value == {"request_id": reply.request_id, "tool": shown, "arguments": {}}
    (whole,) = reply.outputs
    assert ok.type == "ok"
    assert whole == (message if isinstance(whole, type(message)) else message.decode())


async def test_replies_that_are_no_text_are_on_record_too(history: HistoryWriter):
    """
    What is not UTF-8 in them is escaped; the reply itself has the bytes.
    """
    async with bare(back) as url, session(url, dialect=Plain(), recorder=history) as opened:
        reply = await opened.call(b"a\xff")

    assert reply.outputs == (b"a\xff",)
    assert ops(history, "call")[1].value["outputs"] == ["a\\xff"]


@pytest.mark.parametrize("message", ["\n\n", "two\nlines", b"\xff" * 300, "", "x" * 1000])
async def test_any_message_can_be_drawn(history: HistoryWriter, message: Message):
    """
    Each op has one line of the timeline, as long as any other.
    """
    async with bare(back) as url, session(url, dialect=Plain(), recorder=history) as opened:
        await opened.call(message)

    drawn = timeline(load_history(history.path), width=100, fold=False).splitlines()
    assert len(drawn) == 1 + len(ops(history))
    assert max(len(line) for line in drawn) <= 100


@pytest.mark.parametrize("at", [0, 150, 190, 199])
async def test_a_token_that_is_cut_off_is_not_left_in_half(history: HistoryWriter, at: int):
    """
    It is hidden before the message is cut: nobody would recognise half of it.
    """
    message = "x" * at + TOKEN + "y" * 300
    async with bare(back) as url:
        options = {"dialect": Plain(), "token": TOKEN, "recorder": history}
        async with session(url, **options) as opened:
            await opened.call(message)
            await opened.call(message.encode())

    for op in ops(history, "call"):
        if op.type == "invoke":
            assert TOKEN[:4] not in op.value["tool"]


async def test_an_error_names_a_long_message_in_short():
    """
    One line, whatever the message.
    """
    unopened = session("ws://127.0.0.1:1", dialect=Plain())
    with pytest.raises(CallFailed) as caught:
        await unopened.call("two\nlines " + "x" * 1000)

    assert caught.value.headline.startswith("call two lines xxx")
    assert len(caught.value.headline) < 200
    assert "\n" not in caught.value.headline


async def test_arguments_of_a_tool_stay_whole_on_record(history: HistoryWriter):
    """
    Only the name is cut, and no tool's is that long.
    """
    async with speaking(echo) as url, session(url, recorder=history) as opened:
        await opened.call("echo", {"text": "x" * 5000})

    assert ops(history, "call")[0].value["arguments"] == {"text": "x" * 5000}


async def test_arguments_may_be_left_out():
    """
    They are empty then, as far as the daemon can see.
    """
    async with speaking(echo) as url, session(url) as opened:
        assert (await opened.call("echo")).text == ""


@pytest.mark.parametrize("dialect", [Plain(), None])
async def test_a_call_the_dialect_cannot_say_is_refused_unrecorded(
    history: HistoryWriter, dialect: Dialect | None
):
    """
    Arguments for a plain message, bytes for a tool's name: the mistake is the caller's.
    """
    options: dict[str, Any] = {"recorder": history} | ({"dialect": dialect} if dialect else {})
    async with bare(back) if dialect else speaking(echo) as url, session(url, **options) as opened:
        with pytest.raises(InvalidValue):
            await opened.call("add" if dialect else b"echo", {"a": 1} if dialect else {})

    assert ops(history, "call") == []


class Numbered(Dialect):
    """A stranger's dialect: `{"id": 1, "method": "add", "params": {...}}`."""

    name = "numbered"

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> str:
        return json.dumps({"id": request_id, "method": tool, "params": arguments})

    def receive(self, frame: bytes | str) -> Incoming:
        try:
            reply = json.loads(frame)
        except ValueError as error:
            return Junk(why=str(error))
        failure = Failure(code="NOT_FOUND", message="unknown") if "error" in reply else None
        return Answer(
            kind="call", request_id=reply["id"], value=reply.get("result"), failure=failure
        )


class Lines(Dialect):
    """A stranger's dialect without ids: the first word of a reply tells what it answers."""

    name = "lines"
    questions = frozenset({"health"})
    one_at_a_time = True

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes | str:
        return tool

    def ask(self, kind: Kind, request_id: str) -> bytes:
        return b"how are you?"

    def receive(self, frame: bytes | str) -> Incoming:
        word, _, rest = (frame if isinstance(frame, str) else frame.decode()).partition(" ")
        kind: Kind = "health" if word == "status" else "call"
        return Answer(kind=kind, request_id=None, value={"status": rest} if word != "ok" else rest)


async def test_an_answer_of_another_kind_is_not_the_calls():
    """
    Although it names nobody, and the call is the only one that waits.
    """

    async def moody(connection: ServerConnection, message: Message) -> None:
        await connection.send("status bored")
        await connection.send("ok done")

    async with bare(moody) as url, session(url, dialect=Lines()) as opened:
        reply = await opened.call("work")
        strays = opened.strays

    assert (reply.text, strays) == ("done", 1)


async def test_a_question_is_one_at_a_time_too():
    """
    Its answer names no request either.
    """
    arrived = asyncio.Event()

    async def tell(connection: ServerConnection, message: Message) -> None:
        if message == "how are you?":
            await connection.send("status fine")
        arrived.set()

    async with bare(tell) as url, session(url, dialect=Lines()) as opened:
        assert await opened.health() == {"status": "fine"}
        arrived.clear()
        task = asyncio.create_task(opened.call("work", timeout_s=0.2))
        await soon(arrived)
        with pytest.raises(InvalidValue, match="one request at a time"):
            await opened.health()
        with pytest.raises(CallUnknown):
            await task
        with pytest.raises(CallFailed) as caught:
            await opened.health()

    assert caught.value.kind == "out_of_step"


async def test_a_strangers_dialect_has_little_in_it():
    """
    With ids of its own it has as many calls at once as any; one value is one output.
    """
    calls: list[dict[str, Any]] = []

    async def reverse(connection: ServerConnection, message: Message) -> None:
        calls.append(json.loads(message))
        if len(calls) == 3:
            await connection.send("what a day")
            for call in reversed(calls):
                said = {"error": 1} if call["method"] == "sing" else {"result": call["params"]["n"]}
                await connection.send(json.dumps({"id": call["id"], **said}))

    async with bare(reverse) as url, session(url, dialect=Numbered()) as opened:
        first, second, third = await asyncio.gather(
            opened.call("add", {"n": "one"}),
            opened.call("add", {"n": ["two", 2]}),
            opened.call("sing", {"n": 3}),
            return_exceptions=True,
        )
        junk = opened.junk

    assert not isinstance(first, BaseException)
    assert not isinstance(second, BaseException)
    assert (first.text, first.outputs, second.outputs) == ("one", ("one",), ("two", 2))
    assert isinstance(third, CallFailed)
    assert junk == 1
