"""Another configuration for a running daemon: taken up on live connections, and none is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.clock import now
from tests.integration.changing import WAYS, Way, by_op, by_put, by_reload, by_signal, toml
from tests.integration.metered import Client, Tally, put_away
from tests.integration.refdaemon_process import PING
from tests.integration.standing import ADMIN, Stand, on_usual_grounds

pytestmark = on_usual_grounds

_LONG_MS = 600_000
_CLIENTS = 6
# Whose calls never end need not be waited for.
_SOON_OVER = ("--set", "server.drain_s=0")


def code_of(answer: dict[str, Any]) -> str:
    """An answer's error code; "" where it has none."""
    return answer["error"]["code"] if "error" in answer else ""


async def call_on(client: Client, until: asyncio.Event) -> int:
    """Call without a pause, every call awaited; how often."""
    count = 0
    while not until.is_set():
        calls = [client.begin("echo", {"text": "x" * 200}), client.begin("sleep", {"ms": 3})]
        for answer in await asyncio.gather(*calls):
            assert answer["ok"], answer
        count += len(calls)
    return count


async def test_no_call_is_lost_while_limits_go_up_and_down(stand: Stand) -> None:
    """
    By all ways in turn, below what is there as well; every call has its answer and its effect.
    """
    high = {"admission.max_connections": 900, "admission.max_connections_per_address": 900}
    low = {"admission.max_connections": 7, "admission.max_connections_per_address": 7}
    few = {"admission.max_inflight_per_session": 2, "connections.ping_interval_s": 0.5}
    many = {"admission.max_inflight_per_session": 90, "connections.ping_interval_s": 50}
    async with stand() as daemon, put_away(Tally()) as tally:
        clients = [Client(daemon.port, f"worker-{n}", tally) for n in range(_CLIENTS)]
        for client in clients:
            await client.connect()
        over = asyncio.Event()
        calling = [asyncio.create_task(call_on(client, over)) for client in clients]
        for _ in range(4):
            for change, values in ((by_signal, low), (by_put, few), (by_reload, high)):
                await change(daemon, values)
            await by_op(daemon, many)
        over.set()
        counts = await asyncio.gather(*calling)
        status = await daemon.status()
        effects = daemon.effects()

        assert min(counts) > 20
        assert tally.calls == {"executed": sum(counts)} == {"executed": len(effects)}
        assert not any(line.over.is_set() for line in tally.lines)
        assert status["connections"] == _CLIENTS
        changed = [event["changed"] for event in await daemon.events("configuration applied")]
        assert [bool(each) for each in changed] == [True] * 16


@pytest.mark.parametrize("change", WAYS.values(), ids=WAYS)
async def test_fewer_connections_are_for_those_who_come(stand: Stand, change: Way) -> None:
    """
    Whoever is in stays in; the next is closed with 1008, and let in once there may be more.
    """
    limit = "admission.max_connections"
    few = {limit: 1, f"{limit}_per_address": 1}
    async with stand() as daemon, daemon.peer() as first, daemon.peer() as second:
        await change(daemon, few)
        async with daemon.connected() as third:
            assert await third.close_code() == 1008
        for peer in (first, second):
            assert (await peer.call("1", "echo", text="still here"))["ok"]
        await by_put(daemon, {limit: 9, f"{limit}_per_address": 9})
        async with daemon.peer() as fourth:
            assert (await fourth.call("1", "echo", text="in"))["ok"]


async def test_fewer_calls_at_a_time_are_for_those_to_come(stand: Stand) -> None:
    """
    Those that run go on; another is refused until there may be more.
    """
    limit = "admission.max_inflight_per_session"
    async with stand() as daemon, daemon.peer() as peer:
        for n in range(3):
            await peer.send(
                op="call_tool", request_id=f"s{n}", name="sleep", arguments={"ms": 1500}
            )
        await peer.health_when("running_calls", 3)
        await by_reload(daemon, {limit: 2})
        refused = await peer.call("r", "sleep", ms=1)
        await by_put(daemon, {limit: 4})
        taken = await peer.call("t", "sleep", ms=1)
        slept = [await peer.receive() for _ in range(3)]

    assert (code_of(refused), code_of(taken)) == ("OVER_CAPACITY", "")
    details = refused["error"]["details"]
    assert (details["limit"], details["allowed"]) == ("max_inflight_per_session", 2)
    assert [answer["ok"] for answer in slept] == [True] * 3


async def test_a_rate_holds_for_sessions_that_are_there(stand: Stand) -> None:
    """
    Put on and taken away again, on a connection that is open all the time.
    """
    rate, burst = (
        f"admission.{key}" for key in ("messages_per_s_per_session", "burst_messages_per_session")
    )
    async with stand() as daemon, daemon.peer() as peer:
        await by_op(daemon, {rate: 0.01, burst: 3})
        answers = [await peer.call(f"a{n}", "echo", text="x") for n in range(6)]
        await by_put(daemon, {rate: None})
        after = [await peer.call(f"b{n}", "echo", text="x") for n in range(20)]

    assert [code_of(answer) for answer in answers] == [""] * 3 + ["OVER_CAPACITY"] * 3
    assert {code_of(answer) for answer in after} == {""}


async def test_larger_calls_on_an_open_connection(stand: Stand) -> None:
    """
    A call that was too large is let in once it may be so large, and the other way round.
    """
    large = "x" * 2000
    async with stand() as daemon, daemon.peer() as peer:
        for n, (most, code) in enumerate([(1000, "OVER_CAPACITY"), (4000, "")]):
            await by_reload(daemon, {"server.max_call_bytes": most})
            assert code_of(await peer.call(str(n), "echo", text=large)) == code


async def test_a_peer_that_is_there_is_pinged_sooner(stand: Stand) -> None:
    """
    A shorter interval counts from when the peer was last heard, not from when the old one ends.
    """
    async with stand() as daemon, daemon.raw() as peer:
        began = now()
        await by_signal(daemon, {"connections.ping_interval_s": 0.1})
        opcode, _ = await peer.receive()

    assert opcode == PING
    # The interval was 30 s.
    assert now() - began < 10


async def test_a_change_is_seen_whole_or_not_at_all(stand: Stand) -> None:
    """
    Two keys that always change together are never seen apart, whoever changes them when.
    """
    one, two = "breaker.failures", "retry.attempts"
    async with stand() as daemon:
        await by_put(daemon, {one: 1, two: 1})
        over = asyncio.Event()

        async def look() -> set[tuple[int, int]]:
            seen = set()
            while not over.is_set():
                shown = (await daemon.status())["config"]
                seen.add((shown[one]["value"], shown[two]["value"]))
            return seen

        async def change(n: int) -> None:
            for _ in range(10):
                await by_put(daemon, {one: n, two: n})

        looking = asyncio.create_task(look())
        await asyncio.gather(change(2), change(3), change(4))
        over.set()
        seen = await looking

    assert seen <= {(n, n) for n in range(1, 5)}
    assert len(seen) > 1


async def test_a_storm_of_signals_loses_nothing(stand: Stand) -> None:
    """
    While the file is now good, now broken, now another; calls go on, and the last file holds.
    """
    files = (toml({"retry.attempts": 3}), toml({"retry.attempts": 4}), "[retry\nattempts = 5")
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "worker", tally)
        await client.connect()
        over = asyncio.Event()
        calling = asyncio.create_task(call_on(client, over))
        for n in range(60):
            daemon.configure(files[n % 3])
            daemon.signal()
            if n % 5 == 0:
                # Somebody else has a turn, and what was sent so far is taken up.
                await daemon.status()
        await by_signal(daemon, {"retry.attempts": 6})
        over.set()
        count = await calling
        value, origin = await daemon.value("retry.attempts")

        assert (value, origin.partition(" ")[0]) == (6, "file")
        assert tally.calls == {"executed": count}
        assert not tally.lines[0].over.is_set()


async def test_who_says_what_is_told(stand: Stand) -> None:
    """
    Of each value where it came from: by request, argument, file, preset, or nobody.
    """
    options = ("--set", "retry.attempts=4", "--preset", "testing")
    async with stand(*options, config=toml({"breaker.failures": 7})) as daemon:
        await by_put(daemon, {"breaker.open_s": 9})
        told = {
            name: (await daemon.value(name))[1].partition(" ")[0]
            for name in (
                "breaker.open_s",
                "retry.attempts",
                "breaker.failures",
                "retry.base_s",
                "alerts.interval_s",
                "server.admin_token",
            )
        }
        token, _ = await daemon.value("server.admin_token")

    assert list(told.values()) == [
        "request",
        "argument",
        "file",
        "preset",
        "default",
        "environment",
    ]
    assert token == "(secret)"


async def test_what_waits_for_a_restart_is_told(stand: Stand) -> None:
    """
    What can be taken up is; the rest is pending, until the file takes it back.
    """
    async with stand() as daemon, daemon.peer() as peer:
        values = {"server.hello_timeout_s": 3.0, "server.drain_s": 0.5, "retry.attempts": 7}
        await by_signal(daemon, values)
        status = await daemon.status()
        answer = await peer.ask(
            op="reconfigure",
            request_id="c",
            token=ADMIN,
            values={"server.port": 1234, "retry.attempts": 8},
        )
        (event, *_) = await daemon.events("configuration applied")
        await by_signal(daemon, {})
        left = (await daemon.status())["pending"]

    assert status["config"]["server.drain_s"]["value"] == 0.5
    assert status["config"]["server.hello_timeout_s"]["value"] == 15.0
    assert [line.partition(":")[0] for line in status["pending"]] == ["server.hello_timeout_s"]
    assert event["pending"] == {"server.hello_timeout_s": 3.0}
    assert event["changed"] == {"server.drain_s": 0.5, "retry.attempts": 7}
    assert answer["changed"] == {"retry.attempts": 8}
    assert answer["pending"] == {"server.port": 1234, "server.hello_timeout_s": 3.0}
    assert [line.partition(":")[0] for line in left] == ["server.port"]
