"""A daemon that is killed, restarted, frozen or asked to end, and its clients: what goes on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import count

import pytest

from harness.client.resilient import ResilientSession
from harness.clock import now
from harness.environment.base import Environment
from harness.environment.hops import EDGE
from harness.errors import CallUnknown
from harness.faults.base import Fault
from harness.faults.kill import Kill
from harness.faults.pause import Pause
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings
from tests.integration.asked import callers, on_each_backend, options, told_on
from tests.integration.following import following
from tests.integration.metered import soon
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import CLOSE, PING, PONG, TEXT
from tests.integration.sessions import until
from tests.integration.standing import Stand

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

WORKERS = 5
# What a busy machine may add to a time that is configured.
BOUND_S = 8.0
# Long enough to freeze a container.
ANSWER_S = 2.0
PERSISTENT = RetrySettings(attempts=1000, base_s=0.01, cap_s=0.1, proof_s=0, budget=100_000)
# Not again before a connection that is about to end has ended.
UNHURRIED = replace(PERSISTENT, base_s=1, cap_s=1, jitter="none")


def patient() -> Breaker:
    """One that stays closed, whatever comes."""
    return Breaker("daemon", clock=now, settings=BreakerSettings(failures=10**6))


def resilient(here: Environment, retry: RetrySettings) -> ResilientSession:
    """A client that goes on."""
    return ResilientSession(
        lambda session_id: here.client(session_id=session_id, call_timeout_s=60),
        retry=retry,
        breaker=patient(),
    )


@pytest.mark.parametrize(
    ("fault", "how"),
    [(Kill(), "connection_lost"), (Restart(within_s=60), "CANCELLED")],
    ids=["kill", "restart"],
)
async def test_calls_go_on_over_the_end_of_a_daemon(stand: Stand, fault: Fault, how: str) -> None:
    """
    Each call is answered by either daemon, or may have run in the first: no later one repeats it.
    """
    ended: dict[str, list[str]] = {"ok": [], "unknown": []}
    async with stand("--set", "server.drain_s=0.5") as daemon:
        here = daemon.here
        async with resilient(here, PERSISTENT) as client:

            async def work(worker: int, over: asyncio.Event) -> None:
                for number in count():
                    key = f"{worker}-{number}"
                    try:
                        await client.call("counter", {"name": "orders"}, key=key)
                    except CallUnknown:
                        ended["unknown"].append(key)
                    else:
                        ended["ok"].append(key)
                    if over.is_set():
                        return

            over = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                long = tasks.create_task(unknown(here))
                await eventually(daemon.status, lambda it: it["running_calls"] == 1)
                for worker in range(WORKERS):
                    tasks.create_task(work(worker, over))
                await until(lambda: len(ended["ok"]) >= WORKERS)
                async with here.inject(fault):
                    pass
                before = len(ended["ok"])
                await until(lambda: len(ended["ok"]) >= before + 10 * WORKERS)
                over.set()
        effects = daemon.effects()

    ran = Counter(effect.key for effect in effects)
    assert set(ran.values()) == {1}
    assert all(ran[key] == 1 for key in ended["ok"])
    assert long.result() == how
    assert "long" not in ran
    # There were two daemons, each of which counts its effects anew.
    assert [effect.sequence for effect in effects].count(1) == 2
    assert client.results().reconnections >= 1
    assert client.results().failed == 0


async def unknown(here: Environment) -> str:
    """A call in the middle of which the daemon ends; the kind of its error."""
    async with resilient(here, UNHURRIED) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("sleep", {"ms": 600_000}, key="long")
    return caught.value.kind


async def test_a_frozen_daemon_is_late_and_loses_nothing(stand: Stand) -> None:
    """
    It is away for longer than it gives a peer to answer, and one has just been asked: that was its
    own silence, and when it is back every call is answered on the connection it came by.
    """
    keepalive = {"connections.ping_interval_s": 0.5, "connections.ping_timeout_s": ANSWER_S}
    async with (
        stand(*options(keepalive)) as daemon,
        callers(daemon, 10) as clients,
        daemon.raw() as asked,
    ):
        connections = len(await told_on(daemon.here, EDGE, "opened"))
        assert (await asked.receive())[0] == PING
        async with daemon.here.inject(Pause()):
            began_s = now()
            asked.send(PONG, b"")
            calls = [client.begin("counter", {"name": "orders"}) for client in clients.all]
            early, _ = await asyncio.wait(calls, timeout=ANSWER_S * 2)
            frozen_s = now() - began_s
        answers = await soon(asyncio.gather(*calls))
        again = [await client.call("counter", {"name": "orders"}) for client in clients.all]
        status = await daemon.status()
        opened = len(await told_on(daemon.here, EDGE, "opened"))
        effects = daemon.effects()

    assert not early
    assert frozen_s >= ANSWER_S * 2
    assert all(answer["ok"] for answer in answers + again)
    assert sorted(effect.value or 0 for effect in effects) == list(range(1, 21))
    assert (status["connections"], status["counters"]["pings_missed"]) == (11, 0)
    assert opened == connections


async def test_a_daemon_that_is_asked_to_end_finishes_what_it_began(stand: Stand) -> None:
    """
    It says that it is not ready, and why; refuses new calls and connections; ends those that run,
    closes with 1001, and is gone as soon as that is done.
    """
    async with (
        stand("--set", "server.drain_s=60") as daemon,
        following(daemon) as events,
        daemon.peer() as busy,
        daemon.peer() as idle,
    ):
        began_s = now()
        await busy.send(op="call_tool", request_id="long", name="sleep", arguments={"ms": 2_500})
        await eventually(daemon.status, lambda it: it["running_calls"] == 1)
        stopping = daemon.here.inject(Stop(within_s=60))
        stopped = asyncio.create_task(stopping.__aenter__())
        try:
            draining = await events.until("draining")
            refused = await idle.call("late", "echo", text="hi")
            health = await daemon.ask("GET", "/health")
            status = await daemon.status()
            answer = await busy.receive()
            codes = [await busy.close_code(), await idle.close_code()]
            await stopped
            took_s = now() - began_s
            ending = daemon.here.stack.site.program.state
            await events.to_the_end()
        finally:
            await stopping.__aexit__(None, None, None)
        effects = daemon.effects()

    assert draining["calls_running"] == 1
    assert (refused["ok"], refused["error"]["code"]) == (False, "SERVICE_UNAVAILABLE")
    assert health.status == 503
    assert "the daemon is shutting down" in json.loads(health.body)["why_not"]
    assert status["draining"] is True
    assert (answer["request_id"], answer["ok"]) == ("long", True)
    assert codes == [1001, 1001]
    assert "exited with 0" in ending
    assert 2.5 <= took_s < 2.5 + BOUND_S
    assert [effect.request_id for effect in effects] == ["long"]


async def test_what_does_not_end_by_itself_is_ended(stand: Stand) -> None:
    """
    After `drain_s` a call that still runs is answered with CANCELLED, and did nothing.
    """
    async with stand("--set", "server.drain_s=1") as daemon, daemon.peer() as peer:
        await peer.send(op="call_tool", request_id="long", name="sleep", arguments={"ms": 600_000})
        await eventually(daemon.status, lambda it: it["running_calls"] == 1)
        began_s = now()
        async with daemon.here.inject(Stop(within_s=60)):
            took_s = now() - began_s
            ending = daemon.here.stack.site.program.state
            answer, code = await peer.receive(), await peer.close_code()
            effects = daemon.effects()

    assert answer["error"]["code"] == "CANCELLED"
    assert code == 1001
    assert "exited with 0" in ending
    assert 1 <= took_s < 1 + BOUND_S
    assert effects == []


async def test_a_daemon_that_ends_sends_what_waits_first(stand: Stand) -> None:
    """
    A client that did not read reads again while the daemon ends: it gets what was under way to it,
    then what was kept, and then 1001.
    """
    patience = {
        "server.close_timeout_s": 30,
        "server.slow_reader_s": 60,
        # However little is left of what those in between can hold, what comes after it is kept.
        "connections.high_water_bytes": 0,
    }
    async with stand(*options(patience)) as daemon, daemon.raw(receive_bytes=4096) as peer:
        asked = [("kept", "sleep", {"ms": 3_000})]
        # More than all that stands between the two can hold.
        asked += [(f"{n}", "blob", {"size_bytes": 16_000_000}) for n in range(6)]
        for request_id, tool, arguments in asked:
            call = {"op": "call_tool", "request_id": request_id, "name": tool}
            peer.send(TEXT, json.dumps({**call, "arguments": arguments}).encode())
        before = await eventually(daemon.status, lambda it: it["waiting_answers"] == 1)
        stopping = daemon.here.inject(Stop(within_s=60))
        stopped = asyncio.create_task(stopping.__aenter__())
        try:
            await eventually(daemon.status, lambda it: it["draining"])
            answered = []
            opcode, payload = await peer.receive()
            while opcode != CLOSE:
                answered.append(json.loads(payload))
                opcode, payload = await peer.receive()
            peer.send(CLOSE, payload)
            await stopped
            ending = daemon.here.stack.site.program.state
        finally:
            await stopping.__aexit__(None, None, None)

    carried_out = before["counters"]["calls_executed"]
    assert before["unread_bytes"] > 0
    # What it had not read of the others was refused, or it closed before.
    assert [it["request_id"] for it in answered if it["ok"]] == [
        *(f"{n}" for n in range(carried_out - 1)),
        "kept",
    ]
    assert int.from_bytes(payload[:2], "big") == 1001
    assert "exited with 0" in ending
