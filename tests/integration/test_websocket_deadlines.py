"""How long a call may take, whose time that is, and what an answer says of it: on every ground."""

from __future__ import annotations

import json

from harness.clock import now
from tests.integration.changing import setting
from tests.integration.metered import outcome_of
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import TEXT, masked
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
    call = {"op": "call_tool", "name": "sleep", "arguments": {"ms": 500}, "key": "k"}
    asked = [
        {**call, "request_id": "hasty", "timeout_ms": 100},
        {**call, "request_id": "patient"},
        {**call, "request_id": "same", "timeout_ms": 150},
        {**call, "request_id": "same", "timeout_ms": 5000},
    ]
    echo = {"op": "call_tool", "request_id": "after", "name": "echo", "arguments": {"text": "x"}}
    async with stand() as daemon, daemon.raw() as peer:
        # In one write: all are there before the time of any is over.
        peer.writer.write(b"".join(masked(TEXT, json.dumps(each).encode()) for each in asked))
        answers = [json.loads((await peer.receive())[1]) for _ in range(3)]
        peer.send(TEXT, json.dumps(echo).encode())
        after = json.loads((await peer.receive())[1])
        errors = (await daemon.status())["error_codes"]

        assert {answer["request_id"]: outcome_of(answer) for answer in answers} == {
            "hasty": "timed_out",
            "patient": "executed",
            "same": "replayed",
        }
        assert (after["request_id"], after["ok"]) == ("after", True)
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


async def test_who_comes_to_a_call_that_runs_had_it_begin_as_he_came(stand: Stand) -> None:
    """
    Whoever waits no longer is told a time at which he had come.
    """
    call = {"op": "call_tool", "name": "sleep", "arguments": {"ms": _LONG_MS}, "key": "k"}
    async with stand(*setting(server__drain_s=0)) as daemon, daemon.peer() as peer:
        await peer.send(**call, request_id="1")
        await peer.health_when("running_calls", 1)
        answer = await peer.ask(**call, request_id="2", timeout_ms=50)

    assert answer["error"]["code"] == "TIMEOUT"
    assert answer["received_ns"] <= answer["began_ns"] <= answer["answered_ns"]
