"""How a session comes about, and what is left where none does; on real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from harness.errors import (
    InvalidValue,
    TargetRefused,
)
from harness.run.store import HistoryWriter
from tests.integration.daemons import (
    WELCOME,
    end_with_fin,
    end_with_rst,
    raw,
    say,
    speaking,
)
from tests.integration.sessions import TOKEN, Frame, echo, ops, refusal, session, soon


@pytest.fixture
def history(tmp_path: Path):
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        yield writer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host: str):
    """
    The kernel refuses; the error says so and asks whether the daemon runs.
    """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    error = await refusal(f"ws://{host}:{port}/ws")

    assert error.kind == "refused"
    assert dict(error.details)["address"] == f"ws://{host}:{port}/ws"
    assert "running" in dict(error.details)["next"]


async def test_a_reset_before_the_upgrade():
    """
    An RST instead of an answer to the upgrade is told apart from a FIN.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        end_with_rst(writer)

    async with raw(handle) as url:
        assert (await refusal(url)).kind == "reset"


async def test_an_end_before_the_upgrade():
    """
    A FIN instead of an answer to the upgrade: what a proxy does for a daemon that is dead.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        end_with_fin(writer)

    async with raw(handle) as url:
        assert (await refusal(url)).kind == "closed"


async def test_an_upgrade_that_is_never_answered():
    """
    The time limit ends it, and the error says how far it came.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(handle) as url:
        error = await refusal(url, open_timeout_s=0.5)

    assert error.kind == "timeout"
    assert "not open within 0.5 s" in str(error)
    assert "upgrade never answered" in str(error)


async def test_a_server_that_speaks_no_http():
    """
    Garbage instead of an answer is a rejection, whatever the garbage.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()

    async with raw(handle) as url:
        error = await refusal(url, open_timeout_s=0.5)

    assert error.kind == "rejected"


async def test_an_upgrade_that_is_rejected():
    """
    The HTTP status is in the message.
    """

    def reject(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(404, "not here\n")

    async with speaking(echo, process_request=reject) as url:
        error = await refusal(url)

    assert error.kind == "rejected"
    assert "HTTP 404" in str(error)


async def test_a_redirect_is_a_rejection():
    """
    Nobody is sent elsewhere: the target was checked, another one was not.
    """
    visited = asyncio.Event()

    def redirect(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/elsewhere":
            visited.set()
            return None
        response = connection.respond(302, "")
        response.headers["Location"] = "/elsewhere"
        return response

    async with speaking(echo, process_request=redirect) as url:
        error = await refusal(url)

    assert error.kind == "rejected"
    assert "HTTP 302" in str(error)
    assert not visited.is_set()


async def test_a_hello_that_is_never_answered():
    """
    The time limit ends it, the error says that hello was sent, and the socket is closed.
    """
    gone = asyncio.Event()

    async def wait(connection: ServerConnection, frame: Frame) -> None:
        await connection.wait_closed()
        gone.set()

    async with speaking(echo, hello=wait) as url:
        error = await refusal(url, open_timeout_s=0.5)
        await soon(gone)

    assert error.kind == "timeout"
    assert "hello was sent and never answered" in str(error)


@pytest.mark.parametrize(
    ("token", "words"),
    [(TOKEN, "refused the token it was given"), (None, "wants a token, and none was given")],
)
async def test_a_token_that_is_refused(token: str | None, words: str):
    """
    A wrong one and a missing one are told apart; the message says what to set, not what was.
    """

    async def refuse(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, {"op": "hello_ack", "ok": False, "error": "unauthorized"})
        await connection.close(4003, "unauthorized")

    async with speaking(echo, hello=refuse) as url:
        error = await refusal(url, token=token)

    assert error.kind == "unauthorized"
    assert words in str(error)
    assert "set EXAI_WS_TOKEN" in dict(error.details)["next"]
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"op": "hello_ack", "ok": False, "error": "overloaded"}, "overloaded"),
        (
            {"op": "error", "request_id": None, "error": {"code": "UNAUTHORIZED", "message": ""}},
            "unauthorized",
        ),
        (
            {"op": "error", "request_id": None, "error": {"code": "INTERNAL_ERROR", "message": ""}},
            "INTERNAL_ERROR",
        ),
    ],
)
async def test_the_daemons_own_word_is_the_kind(frame: Frame, kind: str):
    """
    Whether it comes in an answer to hello or in an error.
    """

    async def refuse(connection: ServerConnection, _: Frame) -> None:
        await say(connection, frame)

    async with speaking(echo, hello=refuse) as url:
        assert (await refusal(url)).kind == kind


async def test_a_close_instead_of_a_welcome():
    """
    The close code is in the message.
    """

    async def close(connection: ServerConnection, frame: Frame) -> None:
        await connection.close(4001, "no hello")

    async with speaking(echo, hello=close) as url:
        error = await refusal(url)

    assert error.kind == "closed"
    assert '4001 "no hello"' in str(error)


async def test_a_reset_instead_of_a_welcome():
    """
    It is told apart from a close.
    """

    async def reset(connection: ServerConnection, frame: Frame) -> None:
        end_with_rst(connection)

    async with speaking(echo, hello=reset) as url:
        assert (await refusal(url)).kind == "reset"


async def test_a_machine_that_is_not_this_one_is_refused():
    """
    Before a packet leaves, and without leave only.
    """
    async with speaking(echo) as url:
        # Leads here, but is no loopback address.
        elsewhere = url.replace("127.0.0.1", "0.0.0.0")
        with pytest.raises(TargetRefused):
            await session(elsewhere).__aenter__()

        async with session(elsewhere, allow_remote=True) as opened:
            assert (await opened.call("echo", {"text": "a"})).text == "a"


@pytest.mark.parametrize("url", ["http://localhost", "localhost:80", ""])
def test_what_is_no_address_is_refused_at_once(url: str):
    """
    No loop is needed to see that.
    """
    with pytest.raises(InvalidValue):
        session(url)


async def test_nothing_is_left_after_sessions_that_failed_and_ended():
    """
    No task and no descriptor, however it ended.
    """

    async def never(connection: ServerConnection, frame: Frame) -> None:
        await connection.wait_closed()

    async def refuse(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, {"op": "hello_ack", "ok": False, "error": "no"})

    gc.collect()
    before = descriptors()
    names = {task.get_name() for task in asyncio.all_tasks()}
    async with (
        speaking(echo, hello=never) as mute,
        speaking(echo, hello=refuse) as unfriendly,
        speaking(echo) as friendly,
    ):
        await refusal(mute, open_timeout_s=0.05)
        await refusal(unfriendly)
        async with session(friendly) as opened:
            await opened.call("echo", {})

        ours = {task.get_name() for task in asyncio.all_tasks()} - names
        assert not [name for name in ours if "reader" in name]
    assert descriptors() == before


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_path_headers_and_subprotocols_go_as_given(monkeypatch: pytest.MonkeyPatch):
    """
    No compression is offered, and no HTTP proxy of the environment stands between.
    """
    seen: list[Request] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    options: dict[str, Any] = {"headers": {"X-Tenant": "7"}, "subprotocols": ["mcp", "x"]}
    async with (
        speaking(echo, process_request=look, subprotocols=["mcp"]) as url,
        session(f"{url}/ws?a=1", **options),
    ):
        pass

    (request,) = seen
    assert request.path == "/ws?a=1"
    assert request.headers["X-Tenant"] == "7"
    assert request.headers["Sec-WebSocket-Protocol"] == "mcp, x"
    assert "Sec-WebSocket-Extensions" not in request.headers


async def test_hello_carries_token_and_session_id():
    """
    And what the daemon answers is kept.
    """
    seen: list[Frame] = []

    async def greet(connection: ServerConnection, frame: Frame) -> None:
        seen.append(frame)
        await say(connection, WELCOME | {"promises": ["keys"], "clock": "c"})

    async with (
        speaking(echo, hello=greet) as url,
        session(url, token=TOKEN, session_id="mine") as opened,
    ):
        welcome = opened.welcome

    assert seen == [{"op": "hello", "token": TOKEN, "session_id": "mine"}]
    assert welcome is not None
    assert (welcome.session_id, welcome.promises, welcome.clock) == ("s1", ("keys",), "c")


async def test_frames_that_make_no_sense_before_the_welcome_are_passed_over():
    """
    The welcome counts, whenever it comes within the limit.
    """

    async def stutter(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, "nonsense")
        await say(connection, {"op": "pong", "request_id": "x", "timestamp": 1.0})
        await say(connection, WELCOME)

    async with speaking(echo, hello=stutter) as url, session(url) as opened:
        assert (await opened.call("echo", {"text": "a"})).text == "a"


async def test_a_session_opens_once():
    """
    What ended does not come back; a new connection is a new session.
    """
    async with speaking(echo) as url:
        once = session(url)
        async with once:
            pass
        with pytest.raises(InvalidValue, match="opens once"):
            async with once:
                pass


async def test_opening_and_closing_are_on_record(history: HistoryWriter):
    """
    open: invoke, ok. close: info, with how it ended.
    """
    async with speaking(echo) as url, session(f"{url}/ws?q=1", recorder=history, process="c1"):
        pass

    invoke, ok, close = ops(history)
    assert [op.process for op in (invoke, ok, close)] == ["c1"] * 3
    assert (invoke.type, invoke.f, invoke.value) == ("invoke", "open", {"url": f"{url}/ws"})
    assert (ok.type, ok.f, ok.value["session_id"]) == ("ok", "open", "s1")
    assert (close.type, close.f) == ("info", "close")
    assert close.value["ending"] == {"kind": "closed", "code": 1000, "first": "client"}


async def test_an_opening_that_failed_is_on_record(history: HistoryWriter):
    """
    It is a `fail`: no call of that session can have happened. There is nothing to close.
    """

    async def close(connection: ServerConnection, frame: Frame) -> None:
        await connection.close(4001)

    async with speaking(echo, hello=close) as url:
        await refusal(url, recorder=history)

    invoke, fail = ops(history)
    assert (invoke.type, fail.type, fail.f, fail.error) == ("invoke", "fail", "open", "closed")


async def test_an_opening_that_was_cancelled_is_on_record(history: HistoryWriter):
    """
    The invoke has its end, and the socket is closed.
    """
    greeted, gone = asyncio.Event(), asyncio.Event()

    async def wait(connection: ServerConnection, frame: Frame) -> None:
        greeted.set()
        await connection.wait_closed()
        gone.set()

    async def enter(url: str) -> None:
        async with session(url, recorder=history):
            pass

    async with speaking(echo, hello=wait) as url:
        task = asyncio.create_task(enter(url))
        await soon(greeted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(gone)

    assert [(op.type, op.error) for op in ops(history)] == [("invoke", None), ("info", "cancelled")]
