"""Sessions whose connection ends under them, on real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection

from harness.client.session import Session
from harness.clock import now_ns
from harness.errors import (
    CallFailed,
    CallUnknown,
)
from harness.run.store import HistoryWriter, load_history
from tests.integration.daemons import (
    answer,
    end_with_fin,
    end_with_rst,
    speaking,
)
from tests.integration.sessions import Frame, echo, ops, session, soon


@pytest.fixture
def history(tmp_path: Path):
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        yield writer


async def reset_it(connection: ServerConnection, frame: Frame) -> None:
    end_with_rst(connection)


async def end_it(connection: ServerConnection, frame: Frame) -> None:
    end_with_fin(connection)


async def close_it(connection: ServerConnection, frame: Frame) -> None:
    await connection.close(1011, "oops")


async def garble_it(connection: ServerConnection, frame: Frame) -> None:
    # Opcode 3 is reserved: the client must fail the connection.
    connection.transport.write(b"\x83\x00")


LOSSES = {
    "reset": (reset_it, {"kind": "reset"}),
    "eof": (end_it, {"kind": "eof"}),
    "closed by the daemon": (
        close_it,
        {"kind": "closed", "code": 1011, "reason": "oops", "first": "daemon"},
    ),
}


async def lose(url: str, **options: Any) -> tuple[Session, CallUnknown]:
    opened = session(url, **options)
    async with opened:
        with pytest.raises(CallUnknown) as caught:
            await opened.call("echo", {})
        with pytest.raises(CallFailed) as refused:
            await opened.call("echo", {})
        assert refused.value.kind == "not_connected"
    return opened, caught.value


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_loss_while_waiting_makes_a_call_unknown(history: HistoryWriter, loss: str):
    """
    RST, FIN and close frame are told apart; the next call is refused without a byte sent.
    """
    behave, ending = LOSSES[loss]
    async with speaking(behave) as url:
        opened, error = await lose(url, recorder=history)

    assert (error.kind, opened.ending.settings()) == ("connection_lost", ending)
    types = [(op.f, op.type, op.error) for op in ops(history)[2:]]
    # The close stands before the ends of the calls it ended.
    assert types == [
        ("call", "invoke", None),
        ("close", "info", None),
        ("call", "info", "connection_lost"),
        ("call", "invoke", None),
        ("call", "fail", "not_connected"),
    ]
    assert ops(history, "close")[0].value["ending"] == ending
    assert ops(history, "call")[1].value["ending"] == ending


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_told_apart_on_uvloop_too(loss: str):
    """
    The programs run on it where it is there.
    """
    behave, ending = LOSSES[loss]

    async def main() -> None:
        async with speaking(behave) as url:
            opened, error = await lose(url)
        assert (error.kind, opened.ending.settings()) == ("connection_lost", ending)

    uvloop.run(main())


async def test_a_connection_the_client_had_to_fail_was_closed_by_it_first():
    """
    A frame that no WebSocket allows: code 1002, from us.
    """
    async with speaking(garble_it) as url, session(url, close_timeout_s=0.1) as opened:
        with pytest.raises(CallUnknown):
            await opened.call("echo", {}, timeout_s=1)

    assert (opened.ending.kind, opened.ending.code, opened.ending.first) == (
        "closed",
        1002,
        "client",
    )


async def test_a_loss_ends_all_calls_under_way(history: HistoryWriter):
    """
    Each of twenty has one end.
    """
    calls: list[Frame] = []

    async def reset(connection: ServerConnection, frame: Frame) -> None:
        calls.append(frame)
        if len(calls) == 20:
            end_with_rst(connection)

    async with speaking(reset) as url, session(url, recorder=history) as opened:
        results = await asyncio.gather(
            *(opened.call("echo", {}) for _ in range(20)), return_exceptions=True
        )

    assert {type(each) for each in results} == {CallUnknown}
    pairs = list(load_history(history.path).calls())
    assert len(pairs) == 20
    assert all(end is not None and end.error == "connection_lost" for _, end in pairs)
    assert len(ops(history, "call")) == 40


async def test_leaving_a_session_ends_the_calls_of_others():
    """
    A call that still waits learns that nobody will answer.
    """
    arrived = asyncio.Event()

    async def arrive(connection: ServerConnection, frame: Frame) -> None:
        arrived.set()

    async with speaking(arrive) as url:
        async with session(url) as opened:
            task = asyncio.create_task(opened.call("echo", {}))
            await soon(arrived)
        with pytest.raises(CallUnknown) as caught:
            await task

    assert caught.value.kind == "connection_lost"


@pytest.mark.parametrize("opened_before", [True, False])
async def test_a_call_without_a_connection_certainly_did_not_happen(
    history: HistoryWriter, opened_before: bool
):
    """
    After the session, or before: `fail`, and on record like any other.
    """
    async with speaking(echo) as url:
        closed = session(url, recorder=history)
        if opened_before:
            async with closed:
                pass
        with pytest.raises(CallFailed) as caught:
            await closed.call("echo", {})

    assert caught.value.kind == "not_connected"
    assert [(op.type, op.error) for op in ops(history, "call")] == [
        ("invoke", None),
        ("fail", "not_connected"),
    ]


async def test_an_end_that_is_on_its_way_is_waited_for(history: HistoryWriter):
    """
    A call that comes while the connection closes fails; how it ended is known then.
    """
    rest = asyncio.Event()

    async def close_slowly(connection: ServerConnection, frame: Frame) -> None:
        await echo(connection, frame)
        # Past the library, which would close the socket when it reads the client's own goodbye.
        connection.transport.pause_reading()
        connection.transport.write(b"\x88\x02\x03\xe9")
        await rest.wait()
        connection.transport.close()

    async with speaking(close_slowly) as url, session(url, recorder=history) as opened:
        await opened.call("echo", {})
        async with asyncio.timeout(5):
            while opened._exchange.is_open:
                await asyncio.sleep(0)
        late = asyncio.create_task(opened.call("echo", {}))
        await asyncio.sleep(0)
        assert opened.ending.kind == "open"
        rest.set()
        with pytest.raises(CallFailed) as caught:
            await late

        assert caught.value.kind == "not_connected"
        assert (opened.ending.kind, opened.ending.code) == ("closed", 1001)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "reset"), RuntimeError("odd"), TimeoutError("110")]
)
async def test_an_exception_out_of_a_send_proves_nothing(
    history: HistoryWriter, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    """
    The bytes may have left before it was raised, as here, where the daemon gets the call.
    """
    arrived = asyncio.Event()

    async def arrive(connection: ServerConnection, frame: Frame) -> None:
        arrived.set()

    async with speaking(arrive) as url, session(url, recorder=history) as opened:
        send = opened._connection.send  # type: ignore[union-attr]

        async def send_and_break(*args: Any, **kwargs: Any) -> None:
            await send(*args, **kwargs)
            raise error

        monkeypatch.setattr(opened._connection, "send", send_and_break)
        with pytest.raises(CallUnknown) as caught:
            await opened.call("echo", {})
        await soon(arrived)

    assert caught.value.kind == "connection_lost"
    assert type(error).__name__ in str(caught.value)
    assert [op.type for op in ops(history, "call")] == ["invoke", "info"]


async def test_a_reset_while_a_call_is_being_sent_makes_it_unknown():
    """
    Part of it had left: the daemon stopped reading in the middle, then broke the connection.
    """
    connections: list[ServerConnection] = []

    async def stop_reading(connection: ServerConnection, frame: Frame) -> None:
        connection.transport.pause_reading()
        connections.append(connection)
        await answer(connection, frame)

    async with speaking(stop_reading) as url, session(url) as opened:
        await opened.call("echo", {})
        task = asyncio.create_task(opened.call("echo", {"text": "x" * 30_000_000}, timeout_s=10))
        # The call fills the buffers and then waits for room.
        await asyncio.sleep(0)
        assert opened._connection is not None
        assert opened._connection.paused
        end_with_rst(connections[0])
        with pytest.raises(CallUnknown) as caught:
            await task

    assert caught.value.kind == "connection_lost"
    assert "while the request was being sent" in str(caught.value)


async def test_the_time_limit_covers_sending(history: HistoryWriter):
    """
    A daemon that does not read holds nobody: not the call, and not the end of the session.
    """

    async def stop_reading(connection: ServerConnection, frame: Frame) -> None:
        connection.transport.pause_reading()
        await answer(connection, frame)

    async with speaking(stop_reading) as url:
        start_ns = now_ns()
        async with session(url, recorder=history, close_timeout_s=0.1) as opened:
            await opened.call("echo", {})
            with pytest.raises(CallUnknown) as caught:
                await opened.call("echo", {"text": "x" * 30_000_000}, timeout_s=0.1)
        took_s = (now_ns() - start_ns) / 1e9

    assert caught.value.kind == "time_limit"
    assert took_s < 3


async def test_a_daemon_that_ignores_the_close_holds_nobody():
    """
    The socket is closed when the limit is over.
    """

    async def freeze(connection: ServerConnection, frame: Frame) -> None:
        await answer(connection, frame)
        connection.transport.pause_reading()

    async with speaking(freeze) as url, session(url, close_timeout_s=0.05) as opened:
        await opened.call("echo", {})

    assert (opened.ending.kind, opened.ending.first) == ("closed", "client")


async def test_a_cancelled_call_is_on_record_and_its_answer_reaches_nobody(
    history: HistoryWriter,
):
    """
    CancelledError comes out as it is; the record says `info`; the session goes on.
    """
    arrived = asyncio.Event()
    held: list[Frame] = []

    async def hold(connection: ServerConnection, frame: Frame) -> None:
        if not held:
            held.append(frame)
            arrived.set()
            return
        await answer(connection, held[0], "late")
        await answer(connection, frame, "own")

    async with speaking(hold) as url, session(url, recorder=history) as opened:
        task = asyncio.create_task(opened.call("echo", {}))
        await soon(arrived)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reply = await opened.call("echo", {})
        assert (reply.text, opened.strays) == ("own", 1)

    first = ops(history, "call")[:2]
    assert [(op.type, op.error) for op in first] == [("invoke", None), ("info", "cancelled")]
    assert first[1].value["request_id"] == held[0]["request_id"]


async def test_every_invoke_has_one_end_whatever_happens(history: HistoryWriter):
    """
    Answers, refusals, silence, cancellation and at last a reset, all at once.
    """
    calls: list[Frame] = []

    async def mixed(connection: ServerConnection, frame: Frame) -> None:
        calls.append(frame)
        match len(calls) % 4:
            case 0:
                await answer(connection, frame)
            case 1:
                error = {"code": "OVER_CAPACITY", "message": ""}
                await answer(connection, frame, ok=False, error=error)
        if len(calls) == 80:
            end_with_rst(connection)

    async with speaking(mixed) as url, session(url, recorder=history) as opened:
        tasks = [
            asyncio.create_task(opened.call("echo", {}, timeout_s=0.02 if n % 8 == 2 else 5))
            for n in range(80)
        ]
        asyncio.get_running_loop().call_soon(tasks[3].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(opened.call("echo", {}), return_exceptions=True)

    recorded = ops(history, "call")
    ids = [op.value["request_id"] for op in recorded]
    assert len(set(ids)) == 81
    assert all(ids.count(each) == 2 for each in ids)
    assert {op.type for op in recorded} == {"invoke", "ok", "fail", "info"}
