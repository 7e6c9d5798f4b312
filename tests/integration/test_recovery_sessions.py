"""Sessions that outlive what happens to their connections; peers that vanish, on either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from harness.client.resilient import ResilientSession
from harness.client.session import Session
from harness.clock import now
from harness.environment.base import Environment
from harness.errors import CallFailed, CallUnknown, ConnectFailed
from harness.faults.base import Fault
from harness.faults.down import Down
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.resilience.backoff import RetrySettings
from tests.integration.asked import callers, on_each_backend, options
from tests.integration.metered import soon
from tests.integration.proxy_process import eventually
from tests.integration.sessions import until
from tests.integration.standing import Stand

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

INTERVAL_S = 0.5
TIMEOUT_S = 0.5
# What a busy machine may add to a time that is configured.
BOUND_S = 8.0
LONG_MS = 2_500
KEEPALIVE = {
    "connections.ping_interval_s": INTERVAL_S,
    "connections.ping_timeout_s": TIMEOUT_S,
}
QUICK = RetrySettings(attempts=100, base_s=0.01, cap_s=0.05, proof_s=0, budget=1000)


@asynccontextmanager
async def swallowed(here: Environment) -> AsyncIterator[None]:
    """Nothing that either side says reaches the other; nobody is told."""
    async with here.inject(Timeout(stream="upstream")), here.inject(Timeout(stream="downstream")):
        yield


async def let_in(here: Environment) -> Session | None:
    """A session past the proxy; None where the daemon has no place for it."""
    session = here.client(direct=True)
    try:
        return await session.__aenter__()
    except ConnectFailed as refused:
        if "too many connections" not in str(refused):
            raise
        return None


async def served(session: Session) -> str:
    """What a call comes to: its answer, or the code it is refused with."""
    try:
        return (await session.call("sleep", {"ms": 1})).text
    except CallFailed as refused:
        return refused.kind


async def test_a_client_that_vanished_gives_its_places_back(stand: Stand) -> None:
    """
    Connection, session and running call are the only ones there may be. When interval and time-out
    are over the next client has the first two, and the third when that call has ended; what it came
    to is kept for the one that is gone.
    """
    limits = {
        "admission.max_connections": 1,
        "admission.max_connections_per_address": 1,
        "admission.max_sessions": 1,
        "admission.max_inflight": 1,
        "admission.max_inflight_per_session": 1,
    }
    async with (
        stand(*options(KEEPALIVE | limits)) as daemon,
        callers(daemon) as clients,
        AsyncExitStack() as harm,
    ):
        clients.first.begin("sleep", {"ms": LONG_MS}, key="left")
        heard_s = now()
        await eventually(daemon.status, lambda it: it["running_calls"] == 1)
        await harm.enter_async_context(swallowed(daemon.here))
        assert await let_in(daemon.here) is None
        session = await eventually(lambda: let_in(daemon.here), lambda it: it is not None)
        took_s = now() - heard_s
        assert session is not None
        try:
            first = await served(session)
            await eventually(lambda: served(session), lambda said: said == "slept 1 ms")
            status = await daemon.status()
        finally:
            await session.__aexit__(None, None, None)
        refused = await daemon.events("connection refused")
        effects = daemon.effects()

    assert len(refused) >= 1
    assert INTERVAL_S + TIMEOUT_S < took_s < INTERVAL_S + TIMEOUT_S + BOUND_S
    assert first == "OVER_CAPACITY" or took_s > LONG_MS / 1000
    assert effects[0].key == "left"
    assert (status["connections"], status["sessions"], status["permits"]["in_use"]) == (1, 1, 0)
    assert status["waiting_answers"] == 1
    assert status["counters"]["pings_missed"] == 1


async def test_a_daemon_that_vanished_is_noticed_by_its_client(stand: Stand) -> None:
    """
    When interval and time-out are over its session is no more, a call under way has ended, and the
    next call has another connection.
    """
    async with stand() as daemon:
        here = daemon.here

        def open_session(session_id: str | None) -> Session:
            return Session(
                here.daemon_url,
                dialect=here.stack.daemon.dialect,
                token=here.stack.daemon.token,
                session_id=session_id,
                via=here.address,
                allow_remote=here.stack.daemon.allow_remote,
                ping_interval_s=INTERVAL_S,
                ping_timeout_s=TIMEOUT_S,
                call_timeout_s=60,
            )

        async with ResilientSession(open_session, retry=RetrySettings(attempts=1)) as client:
            await client.call("echo", {"text": "hi"})
            vanished = client.session
            assert vanished is not None
            call = asyncio.create_task(client.call("sleep", {"ms": 600_000}))
            await eventually(daemon.status, lambda it: it["running_calls"] == 1)
            began_s = now()
            async with swallowed(here):
                await until(lambda: not vanished.is_open)
                took_s = now() - began_s
                with pytest.raises(CallUnknown) as caught:
                    await soon(call)
            again = await client.call("echo", {"text": "hi again"})
        results = client.results()

    assert caught.value.kind == "connection_lost"
    assert TIMEOUT_S <= took_s < INTERVAL_S + TIMEOUT_S + BOUND_S
    assert again.text == "hi again"
    assert results.reconnections == 1


CUTS = {
    "the link goes down": Down(),
    "a reset": ResetPeer(),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_an_answer_goes_to_the_sessions_next_connection(stand: Stand, cut: Fault) -> None:
    """
    It is cut in the middle of a long call. Back, the session gets what that came to unasked, before
    anything else; it ran once.
    """
    progress = {"server.progress_interval_s": 0.1}
    async with stand(*options(progress)) as daemon, callers(daemon) as clients:
        client = clients.first
        call = client.begin("sleep", {"ms": 1_000}, key="long")
        await eventually(daemon.status, lambda it: it["running_calls"] == 1)
        async with daemon.here.inject(cut):
            # What is told of progress meets it.
            await eventually(daemon.status, lambda it: it["running_calls"] == 0)
        await soon(client.line.over.wait())
        await eventually(daemon.status, lambda it: it["connections"] == 0)
        welcome = await client.connect()
        answer = await soon(call)
        replayed = await client.call("sleep", {"ms": 1_000}, key="long")
        effects = daemon.effects()

    assert welcome["resumed"] is True
    assert (answer["ok"], answer.get("replayed", False)) == (True, False)
    assert (replayed["ok"], replayed["replayed"]) == (True, True)
    assert [effect.key for effect in effects] == ["long"]


async def test_a_call_goes_on_while_its_client_comes_back(stand: Stand) -> None:
    """
    The client asks again by the key before the call is over, and waits for it with whoever does.
    """
    async with stand() as daemon:
        here = daemon.here
        async with ResilientSession(
            lambda session_id: here.client(session_id=session_id, call_timeout_s=60), retry=QUICK
        ) as client:
            call = asyncio.create_task(client.call("sleep", {"ms": 2_000}, key="long"))
            await eventually(daemon.status, lambda it: it["running_calls"] == 1)
            async with here.inject(Down()):
                await eventually(daemon.status, lambda it: it["connections"] == 0)
            reply = await soon(call)
        effects, status = daemon.effects(), await daemon.status()

    assert reply.text == "slept 2000 ms"
    assert [effect.key for effect in effects] == ["long"]
    assert client.results().reconnections == 1
    assert status["counters"]["calls_executed"] == 1


async def test_silence_and_a_busy_tool_cost_no_connection(stand: Stand) -> None:
    """
    Many intervals and time-outs long a client says nothing, then waits for a tool, then is sent
    chunk after chunk; it is there all the time, and its daemon is too.
    """
    async with stand(*options(KEEPALIVE)) as daemon:
        here = daemon.here
        async with (
            ResilientSession(
                lambda session_id: here.client(session_id=session_id, call_timeout_s=60)
            ) as client,
            here.client(direct=True) as other,
        ):
            await client.call("echo", {"text": "hi"})
            # It is the other one that waits: for five times as long as silence is suffered.
            await other.call("sleep", {"ms": 5_000}, timeout_s=60)
            await client.call("echo", {"text": "still here"})
            await client.call("sleep", {"ms": 3_000})
            chunks = {"chunks": 30, "size_bytes": 60_000, "every_ms": 100}
            assert (await client.call("stream", chunks)).text == "30 chunks"
            status = await daemon.status()
        results = client.results()

    assert results.reconnections == 0
    assert status["counters"]["pings_missed"] == 0
    assert status["counters"]["connections_opened"] == 3
