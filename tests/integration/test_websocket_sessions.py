"""
Sessions that outlive their connections, and keys that run once: on every ground, through real cuts.
"""

from __future__ import annotations

import pytest

from harness.clock import now
from harness.faults.timeout import Timeout
from tests.integration.changing import setting
from tests.integration.metered import Client, Tally, outcome_of, put_away, soon
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import TOKEN
from tests.integration.standing import Stand, Standing, on_usual_grounds

pytestmark = on_usual_grounds

_LONG_MS = 600_000
CUTS = ("leave", "break_off")


async def nobody_there(daemon: Standing) -> None:
    """Wait until the daemon knows that all connections are gone."""
    await eventually(daemon.status, lambda status: status["connections"] == 0)


def ran(daemon: Standing) -> list[str]:
    """The keys of all that ran, in order."""
    return [effect.key for effect in daemon.effects()]


# ---- sessions


@pytest.mark.parametrize("cut", CUTS)
async def test_an_answer_that_found_nobody_is_there_when_its_session_is(
    stand: Stand, cut: str
) -> None:
    """
    A call goes on while its connection is gone; what it came to is sent when its session is back,
    once, and it ran once.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        first = await client.connect()
        calls = [client.begin("sleep", {"ms": 1000 + n}) for n in range(3)]
        await client.ask({"op": "ping", "request_id": "p"})
        await getattr(client, cut)()
        await nobody_there(daemon)
        await eventually(daemon.status, lambda status: status["waiting_answers"] == 3)
        second = await client.connect()
        answers = [await soon(call) for call in calls]
        after = await client.call("echo", {"text": "x"})
        status = await daemon.status()

        assert (first["resumed"], second["resumed"]) == (False, True)
        assert first["session_id"] == second["session_id"] == "client"
        assert [outcome_of(answer) for answer in answers] == ["executed"] * 3
        assert after["ok"]
        assert (status["waiting_answers"], status["counters"]["replies_left"]) == (0, 0)
        assert len(ran(daemon)) == 4


@pytest.mark.parametrize("way", ["downstream", "upstream"])
async def test_a_lost_answer_is_had_by_its_key_and_nothing_runs_twice(
    stand: Stand, way: str
) -> None:
    """
    The answer vanishes in a black hole, or the call does: the client cannot tell, and asks again.
    """
    add = {"name": "counter", "arguments": {"name": "n", "by": 1}, "key": "once"}
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        async with daemon.here.inject(Timeout(timeout_ms=0, stream=way)):
            client.say({"op": "call_tool", "request_id": "first", **add})
            if way == "downstream":
                await eventually(lambda: _seen(daemon), lambda keys: keys == ["once"])
            await client.break_off()
        await nobody_there(daemon)
        await client.connect()
        answer = await client.call("counter", add["arguments"], key="once")

        assert answer["outputs"][0]["text"] == "1"
        assert outcome_of(answer) == ("replayed" if way == "downstream" else "executed")
        assert ran(daemon) == ["once"]


async def _seen(daemon: Standing) -> list[str]:
    return ran(daemon)


async def test_whoever_takes_a_session_over_gets_its_answers(stand: Stand) -> None:
    """
    The connection before is closed with 4004; a half-open one would be, too.
    """
    async with stand() as daemon, daemon.peer(session_id="one") as first:
        await first.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 1000})
        await first.health_when("running_calls", 1)
        async with daemon.peer(session_id="one") as second:
            assert await first.close_code() == 4004
            answer = await second.receive()
            health = await second.health()

    assert (answer["request_id"], answer["ok"]) == ("1", True)
    assert (health["connections"], health["sessions"]) == (1, 1)


async def test_a_session_is_forgotten_in_time(stand: Stand) -> None:
    """
    With its keys: it is another one then, and the same key runs anew.
    """
    async with stand(*setting(connections__session_ttl_s=0.3)) as daemon:
        async with daemon.peer(session_id="one") as peer:
            await peer.call("1", "echo", text="x")
        await eventually(daemon.status, lambda status: status["sessions_remembered"] == 0)
        async with daemon.connected() as peer:
            welcome = await peer.ask(op="hello", token=TOKEN, session_id="one")
            answer = await peer.call("1", "echo", text="x")
        events = await daemon.events("session expired")

        assert welcome["resumed"] is False
        assert outcome_of(answer) == "executed"
        assert "one" in {event["session"] for event in events}
        assert ran(daemon) == ["1", "1"]


async def test_progress_is_not_kept_for_whoever_is_away(stand: Stand) -> None:
    """
    Who comes back hears what comes from then on, and the answer.
    """
    async with stand(*setting(server__progress_interval_s=0.1)) as daemon:
        async with daemon.peer(session_id="one") as peer:
            await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 900})
            assert (await peer.receive())["op"] == "progress"
        await nobody_there(daemon)
        async with daemon.peer(session_id="one") as peer:
            frames = [await peer.receive()]
            while frames[-1]["op"] == "progress":
                frames.append(await peer.receive())

    assert frames[-1]["ok"]
    # Every 100 ms, over 900 ms in all.
    assert len(frames) <= 9


# ---- keys


async def test_who_asks_again_while_it_runs_waits_for_the_same(stand: Stand) -> None:
    """
    On this connection and on the next; it runs once, and each has an answer of its own id.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        calls = [client.begin("sleep", {"ms": 500}, key="k") for _ in range(2)]
        await client.ask({"op": "ping", "request_id": "p"})
        await client.break_off()
        await nobody_there(daemon)
        await client.connect()
        calls.append(client.begin("sleep", {"ms": 500}, key="k"))
        answers = [await soon(call) for call in calls]
        later = await client.call("sleep", {"ms": 500}, key="k")

        assert [outcome_of(answer) for answer in answers] == ["executed", "replayed", "replayed"]
        assert {answer["answered_ns"] for answer in answers} == {answers[0]["answered_ns"]}
        assert outcome_of(later) == "replayed"
        assert ran(daemon) == ["k"]


@pytest.mark.parametrize("running", [True, False])
async def test_a_key_with_another_call_is_an_error(stand: Stand, running: bool) -> None:
    """
    Other arguments, or another tool: nothing runs, and the first call's answer is as it was.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        first = client.begin("sleep", {"ms": 300}, key="k")
        if not running:
            await soon(first)
        others = [
            await client.call("sleep", {"ms": 301}, key="k"),
            await client.call("echo", {"text": "x"}, key="k"),
        ]
        answer = await soon(first)
        again = await client.call("sleep", {"ms": 300}, key="k")

        for other in others:
            assert other["error"]["code"] == "INVALID_REQUEST"
            assert other["error"]["details"] == {"key": "k"}
        assert (outcome_of(answer), outcome_of(again)) == ("executed", "replayed")
        assert ran(daemon) == ["k"]


async def test_a_key_is_one_in_its_session_alone(stand: Stand) -> None:
    """
    Two sessions may choose the same.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        for name in ("one", "two"):
            client = Client(daemon.port, name, tally)
            await client.connect()
            assert outcome_of(await client.call("echo", {"text": name}, key="k")) == "executed"

        assert ran(daemon) == ["k", "k"]


async def test_an_answer_too_heavy_to_keep_is_gone_and_its_key_is_not(stand: Stand) -> None:
    """
    RESULT_GONE says that it ran; it does not run again.
    """
    options = setting(idempotency__answers_bytes_per_session=3000)
    async with stand(*options) as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        first = await client.call("blob", {"size_bytes": 2500}, key="old")
        small = await client.call("echo", {"text": "x"}, key="small")
        await client.call("blob", {"size_bytes": 2500}, key="new")
        gone = await client.call("blob", {"size_bytes": 2500}, key="old")
        kept = await client.call("blob", {"size_bytes": 2500}, key="new")
        status = await daemon.status()

        assert (first["ok"], small["ok"]) == (True, True)
        assert gone["error"]["code"] == "RESULT_GONE"
        assert gone["error"]["details"] == {"key": "old"}
        assert (outcome_of(kept), len(kept["outputs"][0]["text"])) == ("replayed", 2500)
        assert status["keys"]["bytes"] <= 3000
        assert status["keys"]["kept"] == 3
        assert ran(daemon) == ["old", "small", "new"]


async def test_a_key_is_remembered_for_its_time(stand: Stand) -> None:
    """
    And runs anew after that.
    """
    async with (
        stand(*setting(idempotency__ttl_s=0.4)) as daemon,
        put_away(Tally()) as tally,
    ):
        client = Client(daemon.port, "client", tally)
        await client.connect()
        began = now()
        await client.call("echo", {"text": "x"}, key="k")
        assert outcome_of(await client.call("echo", {"text": "x"}, key="k")) == "replayed"

        async def again() -> str:
            return outcome_of(await client.call("echo", {"text": "x"}, key="k"))

        await eventually(again, lambda outcome: outcome == "executed")

        assert now() - began >= 0.4
        assert ran(daemon) == ["k", "k"]


async def test_no_more_keys_are_remembered_than_may_be(stand: Stand) -> None:
    """
    The oldest goes; of one that runs nothing is forgotten.
    """
    async with (
        stand(*setting(idempotency__keys_per_session=3)) as daemon,
        put_away(Tally()) as tally,
    ):
        client = Client(daemon.port, "client", tally)
        await client.connect()
        runs = client.begin("sleep", {"ms": 400}, key="runs")
        for n in range(6):
            await client.call("echo", {"text": "x"}, key=f"k{n}")
        oldest = await client.call("echo", {"text": "x"}, key="k0")
        newest = await client.call("echo", {"text": "x"}, key="k5")
        waits = await client.call("sleep", {"ms": 400}, key="runs")
        status = await daemon.status()

        assert [outcome_of(each) for each in (oldest, newest)] == ["executed", "replayed"]
        assert [outcome_of(each) for each in (await soon(runs), waits)] == ["executed", "replayed"]
        assert status["keys"]["kept"] == 3
        assert status["keys"]["forgotten"] >= 3


@pytest.mark.parametrize("end", ["refused", "cancelled", "timed_out"])
async def test_what_came_to_nothing_may_be_tried_again_by_its_key(stand: Stand, end: str) -> None:
    """
    Nothing is remembered of a call that was refused, cancelled, or timed out.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        if end == "refused":
            first = await client.call("sleep", {"ms": -1}, key="k")
        elif end == "timed_out":
            first = await client.call("sleep", {"ms": _LONG_MS}, key="k", timeout_ms=30)
        else:
            call = client.begin("sleep", {"ms": _LONG_MS}, key="k")
            await client.ask({"op": "cancel", "request_id": client.last_id})
            first = await soon(call)
        again = await client.call("sleep", {"ms": 1}, key="k")

        assert (outcome_of(first), outcome_of(again)) == (end, "executed")
        assert ran(daemon) == ["k"]
