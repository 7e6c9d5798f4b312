"""How long a call may take, whose time that is, and what an answer says of it: on every ground."""

from __future__ import annotations

from harness.clock import now
from tests.integration.changing import setting
from tests.integration.metered import Client, Tally, outcome_of, put_away, soon
from tests.integration.proxy_process import eventually
from tests.integration.standing import Stand, on_usual_grounds

pytestmark = on_usual_grounds

_LONG_MS = 600_000


async def test_a_deadline_of_the_caller_is_kept(stand: Stand) -> None:
    """
    The answer comes when it is over, says how long it was, and the tool has ended: no effect.
    """
    async with stand() as daemon, daemon.peer() as peer:
        before_s = now()
        answer = await peer.ask(
            op="call_tool",
            request_id="1",
            name="sleep",
            arguments={"ms": _LONG_MS},
            timeout_ms=200,
        )
        took_s = now() - before_s
        await eventually(daemon.status, lambda status: status["running_calls"] == 0)

        assert answer["error"]["code"] == "TIMEOUT"
        assert answer["error"]["details"] == {"timeout_ms": 200}
        # uvloop's timers may fire up to a millisecond early.
        assert took_s >= 0.199
        assert 0.199e9 <= answer["answered_ns"] - answer["received_ns"] < 5e9
        assert daemon.effects() == []


async def test_a_deadline_is_of_who_set_it_alone(stand: Stand) -> None:
    """
    Another who waits for the same call has its answer; so has the same one that asked again with
    more time.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        hasty = client.begin("sleep", {"ms": 500}, key="k", timeout_ms=100)
        patient = client.begin("sleep", {"ms": 500}, key="k")
        frame = {"op": "call_tool", "name": "sleep", "arguments": {"ms": 500}, "key": "k"}
        same = client.begin("sleep", {"ms": 500}, key="k", timeout_ms=150)
        client.say({**frame, "request_id": client.last_id, "timeout_ms": 5000})
        outcomes = [outcome_of(await soon(each)) for each in (hasty, patient, same)]
        after = await client.call("echo", {"text": "x"})
        errors = (await daemon.status())["error_codes"]

        assert outcomes == ["timed_out", "executed", "replayed"]
        assert after["ok"]
        assert errors == {"TIMEOUT": 1}
        assert daemon.effects()[0].key == "k"
        assert "Traceback" not in daemon.said


async def test_the_daemons_own_time_limit_holds_without_one(stand: Stand) -> None:
    """
    And is the most that a caller can have.
    """
    async with stand(*setting(server__call_timeout_s=0.3)) as daemon, daemon.peer() as peer:
        for n, more in enumerate(({}, {"timeout_ms": 5000})):
            answer = await peer.ask(
                op="call_tool",
                request_id=str(n),
                name="sleep",
                arguments={"ms": _LONG_MS},
                **more,
            )
            assert answer["error"]["code"] == "TIMEOUT"
            assert answer["error"]["details"] == {"timeout_ms": 300}


async def test_waiting_and_working_are_told_apart(stand: Stand) -> None:
    """
    In each answer of a call that ran; one that was refused never began.
    """
    async with stand() as daemon, daemon.peer() as peer:
        slept = await peer.call("1", "sleep", ms=120)
        echoed = await peer.call("2", "echo", text="x")
        refused = await peer.call("3", "sing")

    for answer in (slept, echoed):
        assert answer["received_ns"] <= answer["began_ns"] <= answer["answered_ns"]
    assert slept["answered_ns"] - slept["began_ns"] >= 120e6
    assert slept["began_ns"] - slept["received_ns"] < 120e6
    assert "began_ns" not in refused
    assert refused["received_ns"] <= refused["answered_ns"]
