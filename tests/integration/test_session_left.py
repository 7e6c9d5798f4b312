"""What can be seen of a session from outside: whether it is open, and what is under way."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from harness.errors import CallUnknown, ConnectFailed
from tests.integration.daemons import end_with_rst, speaking
from tests.integration.sessions import Frame, echo, session, silent, soon


async def test_a_session_is_open_from_its_welcome_until_we_leave():
    """
    Not before, not after.
    """
    async with speaking(echo) as url:
        opened = session(url)
        before = opened.is_open
        async with opened:
            inside = opened.is_open

    assert (before, inside, opened.is_open) == (False, True, False)


async def test_a_block_is_entered_until_it_is_left():
    """
    Whatever becomes of the connection meanwhile.
    """

    async def reset(connection: ServerConnection, frame: Frame) -> None:
        end_with_rst(connection)

    async with speaking(reset) as url:
        opened = session(url)
        before = opened.is_entered
        async with opened:
            with pytest.raises(CallUnknown):
                await opened.call("echo")
            lost = (opened.is_open, opened.is_entered)

    assert lost == (False, True)
    assert (before, opened.is_entered) == (False, False)


async def test_a_session_that_was_never_taken_in_is_not_open():
    """
    Nor has it anything under way.
    """

    async def close(connection: ServerConnection, frame: Frame) -> None:
        await connection.close(4001)

    async with speaking(echo, hello=close) as url:
        opened = session(url)
        with pytest.raises(ConnectFailed):
            await opened.__aenter__()

    assert (opened.is_open, opened.is_entered, opened.under_way) == (False, False, ())


async def test_a_session_whose_connection_was_lost_is_over():
    """
    Although nobody has left it.
    """

    async def reset(connection: ServerConnection, frame: Frame) -> None:
        end_with_rst(connection)

    async with speaking(reset) as url, session(url) as opened:
        with pytest.raises(CallUnknown):
            await opened.call("echo")
        assert not opened.is_open


async def test_calls_under_way_are_those_that_somebody_waits_for():
    """
    Named by their request ids, until they are answered.
    """
    calls: list[Frame] = []
    arrived = asyncio.Event()

    async def gather(connection: ServerConnection, frame: Frame) -> None:
        calls.append(frame)
        if len(calls) == 2:
            arrived.set()
        if len(calls) == 3:
            for call in calls:
                await echo(connection, call)

    async with speaking(gather) as url, session(url) as opened:
        assert opened.under_way == ()
        tasks = [asyncio.create_task(opened.call("echo")) for _ in range(2)]
        await soon(arrived)
        under_way = opened.under_way
        await opened.call("echo")
        await asyncio.gather(*tasks)
        assert opened.under_way == ()

    assert under_way == tuple(call["request_id"] for call in calls[:2])


async def test_a_call_that_was_given_up_is_not_under_way():
    """
    Whether its time was over or it was cancelled.
    """
    arrived = asyncio.Event()

    async def arrive(connection: ServerConnection, frame: Frame) -> None:
        arrived.set()

    async with speaking(arrive) as url, session(url) as opened:
        task = asyncio.create_task(opened.call("echo"))
        await soon(arrived)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(CallUnknown):
            await opened.call("echo", timeout_s=0.05)
        assert opened.under_way == ()


async def test_a_question_is_no_call():
    """
    It changes nothing, so nothing of it is left.
    """
    async with speaking(silent) as url, session(url, call_timeout_s=0.1) as opened:
        task = asyncio.create_task(opened.health())
        await asyncio.sleep(0)
        under_way = opened.under_way
        with pytest.raises(CallUnknown):
            await task

    assert under_way == ()
