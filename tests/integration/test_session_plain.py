"""Sessions with a daemon that takes and sends messages as they are; on real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from harness.client import opening
from harness.client.session import Session
from harness.dialects.plain import Plain
from harness.errors import CallFailed, CallUnknown, InvalidValue
from harness.history import Silent
from tests.integration.daemons import bare, end_with_fin, end_with_rst, raw
from tests.integration.sessions import TOKEN, refusal, session, soon

Message = str | bytes


class Heard(Silent):
    """A recorder that tells when a stray came."""

    def __init__(self) -> None:
        self.stray = asyncio.Event()
        self.strays: list[Any] = []

    def record(self, *, f: str, value: Any = None, **_: Any) -> None:
        if f == "stray":
            self.strays.append(value)
            self.stray.set()


class Holding:
    """A daemon that answers the messages "hold" never, all others with what they say."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.held = asyncio.Event()
        self.connection: ServerConnection | None = None

    async def __call__(self, connection: ServerConnection, message: Message) -> None:
        self.received.append(message)
        self.connection = connection
        if message == "hold":
            self.held.set()
        else:
            await connection.send(message)


def plain(url: str, **options: Any) -> Session:
    return session(url, dialect=Plain(), **options)


async def back(connection: ServerConnection, message: Message) -> None:
    await connection.send(message)


async def given_up(opened: Session) -> None:
    with pytest.raises(CallUnknown, match="no answer within"):
        await opened.call("hold", timeout_s=0.05)


async def test_who_answers_the_upgrade_has_taken_us_in():
    """
    Nothing is sent before the first call, whatever token and session were given.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url, token=TOKEN, session_id="mine") as opened:
        assert opened.welcome is not None
        assert (opened.welcome.session_id, opened.welcome.promises) == ("", ())
        await opened.call("first")

    assert daemon.received == ["first"]


@pytest.mark.parametrize("message", ["hello", "", "grüß\n", b"\x00\xff", b"", b"text"])
async def test_a_message_arrives_as_it_was_given(message: Message):
    """
    Text as a text message, bytes as a binary one, with nothing added.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        await opened.call(message, key="not sent")

    assert daemon.received == [message]


@pytest.mark.parametrize(
    ("message", "outputs", "text"),
    [
        ("grüß", ("grüß",), "grüß"),
        ("grüß".encode(), ("grüß",), "grüß"),
        (b"\xff\x00", (b"\xff\x00",), ""),
        ("", ("",), ""),
    ],
)
async def test_the_next_message_is_the_reply(
    message: Message, outputs: tuple[Message, ...], text: str
):
    """
    With the call's own id and key; bytes that are no text stay bytes.
    """
    async with bare(back) as url, plain(url, process="c") as opened:
        reply = await opened.call(message, key="k1")

    assert (reply.outputs, reply.text, reply.key) == (outputs, text, "k1")
    assert reply.request_id.startswith("c-")


async def test_calls_one_after_the_other_get_their_own_replies():
    """
    A hundred of them on one connection.
    """
    async with bare(back) as url, plain(url) as opened:
        texts = [(await opened.call(str(number))).text for number in range(100)]

    assert texts == [str(number) for number in range(100)]


async def test_a_call_beside_another_is_refused():
    """
    The error names the one under way, which gets its reply all the same.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        first = asyncio.create_task(opened.call("hold"))
        await soon(daemon.held)
        with pytest.raises(InvalidValue, match="one request at a time") as caught:
            await opened.call("second")
        (under_way,) = opened.under_way
        assert daemon.connection is not None
        await daemon.connection.send("for the first")
        reply = await first
        after = await opened.call("third")

    assert (reply.text, after.text) == ("for the first", "third")
    assert under_way == reply.request_id
    assert under_way in str(caught.value)
    assert "open another session" in dict(caught.value.details)["next"]
    assert daemon.received == ["hold", "third"]


async def test_calls_begun_together_are_one_too_many():
    """
    Of two in one breath the second is refused; no reply is mistaken.
    """
    async with bare(back) as url, plain(url) as opened:
        first, second = await asyncio.gather(
            opened.call("first"), opened.call("second"), return_exceptions=True
        )

    assert not isinstance(first, BaseException)
    assert first.text == "first"
    assert isinstance(second, InvalidValue)


async def test_after_a_call_that_was_given_up_nothing_is_sent():
    """
    The next message might be the late reply: further calls certainly did not happen.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        await given_up(opened)
        for _ in range(2):
            with pytest.raises(CallFailed, match="nothing was sent") as caught:
                await opened.call("next")

    assert caught.value.kind == "out_of_step"
    assert dict(caught.value.details)["next"] == "open a new session"
    assert daemon.received == ["hold"]


async def test_a_late_reply_is_a_stray():
    """
    It reaches nobody, and is on record as late.
    """
    daemon, heard = Holding(), Heard()
    async with bare(daemon) as url, plain(url, recorder=heard) as opened:
        await given_up(opened)
        assert daemon.connection is not None
        await daemon.connection.send("late")
        await soon(heard.stray)
        with pytest.raises(CallFailed):
            await opened.call("next")
        strays = opened.strays

    assert strays == 1
    assert heard.strays == [{"request_id": None, "kind": "call", "late": True}]


async def test_a_cancelled_call_is_given_up_at_once():
    """
    A call in the very breath of the cancellation is refused already.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        task = asyncio.create_task(opened.call("hold"))
        await soon(daemon.held)
        task.cancel()
        with pytest.raises(CallFailed) as caught:
            await opened.call("next")
        with pytest.raises(asyncio.CancelledError):
            await task

    assert caught.value.kind == "out_of_step"
    assert daemon.received == ["hold"]


async def test_a_call_that_was_cancelled_beside_its_reply_leaves_the_session_in_step():
    """
    The reply is there, so the next message is not it.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        task = asyncio.create_task(opened.call("hold"))
        await soon(daemon.held)
        receive(opened, b"its reply")
        # After the reader has taken the reply, before the call has.
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        reply = await opened.call("next")

    assert (reply.text, opened.strays) == ("next", 0)


def receive(opened: Session, text: bytes) -> None:
    """Let a text message arrive at this very moment."""
    assert opened._connection is not None
    opened._connection.data_received(bytes([0x81, len(text)]) + text)


async def test_what_arrived_before_a_call_is_no_reply_to_it():
    """
    Although nobody had read it when the call began.
    """
    async with bare(back) as url, plain(url) as opened:
        receive(opened, b"early")
        reply = await opened.call("own")

    assert (reply.text, opened.strays) == ("own", 1)


async def test_a_message_nobody_waits_for_is_a_stray():
    """
    Counted, on record, and not kept for the next call.
    """
    heard = Heard()

    async def twice(connection: ServerConnection, message: Message) -> None:
        await connection.send(message)
        await connection.send("again")

    async with bare(twice) as url, plain(url, recorder=heard) as opened:
        await opened.call("first")
        await soon(heard.stray)
        reply = await opened.call("second")

    assert reply.text == "second"
    assert heard.strays[0] == {"request_id": None, "kind": "call", "late": False}


@pytest.mark.parametrize("end", [end_with_rst, end_with_fin])
async def test_a_call_whose_connection_ended_leaves_no_connection(end: Any):
    """
    The next one is refused for that, not for being out of step.
    """

    async def break_it(connection: ServerConnection, message: Message) -> None:
        end(connection)

    async with bare(break_it) as url, plain(url) as opened:
        with pytest.raises(CallUnknown) as caught:
            await opened.call("first")
        with pytest.raises(CallFailed) as refused:
            await opened.call("second")

    assert (caught.value.kind, refused.value.kind) == ("connection_lost", "not_connected")


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_a_connection_whose_end_arrives_with_the_call(how: str):
    """
    It is seen before anything is sent, so the call certainly did not happen.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        assert opened._connection is not None
        if how == "closed":
            opened._connection.data_received(b"\x88\x02\x03\xf0")
        else:
            opened._connection.transport.abort()
        with pytest.raises(CallFailed) as caught:
            await opened.call("late")

    assert caught.value.kind == "not_connected"
    assert daemon.received == []


@pytest.mark.parametrize("question", ["health", "list_tools", "ping"])
async def test_there_are_no_questions(question: str):
    """
    It is the caller's mistake to ask, and nothing is sent.
    """
    daemon = Holding()
    async with bare(daemon) as url, plain(url) as opened:
        with pytest.raises(InvalidValue, match='dialect "plain" has no such question'):
            await getattr(opened, question)()

    assert daemon.received == []


@pytest.mark.parametrize("end", [end_with_rst, end_with_fin, None])
async def test_no_error_speaks_of_a_hello(end: Any):
    """
    There is none that could have gone unanswered.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if end is not None:
            end(writer)
        await reader.read()

    async with raw(handle) as url:
        error = await refusal(url, dialect=Plain(), open_timeout_s=0.1)

    assert "no session" in str(error)
    assert "hello" not in str(error)


async def test_an_end_before_the_upgrade_was_asked_for(monkeypatch: pytest.MonkeyPatch):
    """
    The connection is accepted and gone: nothing was asked, least of all a hello.
    """
    connect = opening._Dial.open_tcp_connection

    async def connect_and_lose(dial: opening._Dial) -> ClientConnection:
        connection = await connect(dial)
        connection.transport.abort()
        await connection.wait_closed()
        return connection

    monkeypatch.setattr(opening._Dial, "open_tcp_connection", connect_and_lose)
    async with bare(back) as url:
        error = await refusal(url, dialect=Plain())

    assert error.kind == "closed"
    assert "before the upgrade was answered" in error.headline


async def test_a_close_right_after_the_upgrade():
    """
    The session opens; the first call says why it could not be sent.
    """

    async def never(connection: ServerConnection, message: Message) -> None:
        raise AssertionError

    def look(connection: ServerConnection, *_: Any) -> None:
        task = asyncio.get_running_loop().create_task(turn_away(connection))
        tasks.append(task)

    async def turn_away(connection: ServerConnection) -> None:
        await connection.close(4003, "not you")

    tasks: list[asyncio.Task[None]] = []
    async with bare(never, process_response=look) as url, plain(url) as opened:
        (task,) = tasks
        await task
        with pytest.raises(CallFailed, match='4003 "not you"') as caught:
            await opened.call("first")

    assert caught.value.kind == "not_connected"
