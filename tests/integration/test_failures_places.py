"""Failures in which places of calls, or sessions, are lost, doubled, or kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.failures import LONG_MS, Case, failure, monitor_of, set_to, until
from tests.integration.refdaemon_process import TEXT, Daemon, Peer

_OFTEN = {"server.progress_interval_s": 0.02}
_TWO = {"admission.max_inflight": 2, "admission.max_inflight_per_session": 2}


def sleep(request_id: str, ms: int, **more: Any) -> dict[str, Any]:
    call = {"op": "call_tool", "request_id": request_id, "name": "sleep", "arguments": {"ms": ms}}
    return call | more


async def reset_in_a_call(daemon: Daemon) -> None:
    """A client that is gone while its call runs."""
    async with daemon.raw() as lost:
        lost.send(TEXT, json.dumps(sleep("1", 200)).encode())
        assert b'"progress"' in (await lost.receive())[1]
        lost.reset()


@failure("leaked-slot")
async def test_f12_a_call_gives_its_place_back_however_it_ends(case: Case, tmp_path: Path):
    """
    Cancelled, given up by its caller, or alone since its caller is gone: afterwards as many run
    at once as before.
    """
    async with case.daemon(tmp_path, *set_to(_TWO | _OFTEN)) as daemon, daemon.peer() as peer:
        await peer.send(**sleep("cancelled", LONG_MS))
        await peer.send(op="cancel", request_id="cancelled")
        await _end_of(peer, "cancelled")
        assert (await peer.receive())["ok"]
        await peer.send(**sleep("late", LONG_MS, timeout_ms=50))
        late = await _end_of(peer, "late")
        await reset_in_a_call(daemon)
        await peer.health_when("calls_executed", 1)
        for request_id in ("a", "b"):
            await peer.send(**sleep(request_id, 100))
        together = [await _end_of(peer, "a", "b") for _ in range(2)]

    assert late["error"]["code"] == "TIMEOUT"
    # Which of two that are equally long ends first is nobody's promise.
    assert {frame["request_id"]: frame["ok"] for frame in together} == {"a": True, "b": True}


async def _end_of(peer: Peer, *request_ids: str) -> dict[str, Any]:
    """The answer to one of these calls, past what is told of them before."""
    frame = await peer.receive()
    while frame["op"] == "progress":
        frame = await peer.receive()
    assert frame["request_id"] in request_ids, frame
    return frame


@failure("slots-recovered", above_transport=True)
async def test_f13_a_place_in_use_is_nobody_elses(case: Case, tmp_path: Path):
    """
    However long calls run, never more than may run at once: all the time a further one is refused.
    """
    beats = {"alerts.interval_s": 0.02}
    spans: list[tuple[int, int]] = []
    async with case.daemon(tmp_path, *set_to(_TWO | beats)) as daemon, daemon.peer() as peer:
        held = {"a", "b"}
        for request_id in ("a", "b"):
            await peer.send(**sleep(request_id, 300))
        tried = 0
        while held:
            tried += 1
            await peer.send(**sleep(str(tried), 0))
            request_id = ""
            while request_id != str(tried):
                frame = await peer.receive()
                request_id = frame["request_id"]
                held.discard(request_id)
                if frame["ok"]:
                    spans.append((frame["began_ns"], frame["answered_ns"]))

    assert tried > 2
    at_once = [sum(began <= at < ended for began, ended in spans) for at, _ in spans]
    assert max(at_once) == 2


@failure("sessions-kept")
async def test_f18_what_is_kept_of_sessions_goes_with_them(case: Case, tmp_path: Path):
    """
    After many came, called and went, one of them in the middle of a call, nothing is kept of any.
    """
    at_once = set_to({"connections.session_ttl_s": 0, **_OFTEN})
    many = 20
    async with (
        case.daemon(tmp_path, "--monitor-port", "0", *at_once) as daemon,
        daemon.peer() as other,
    ):
        monitor = await monitor_of(daemon)
        for n in range(many):
            async with daemon.peer() as peer:
                await peer.call("1", "echo", text=f"text {n}")
        await reset_in_a_call(daemon)
        await other.health_when("calls_executed", many + 1)
        status = await until(
            "all sessions but one are forgotten",
            monitor.status,
            lambda seen: seen["sessions_remembered"] == 1,
            within_s=2.5,
        )

    assert (status["keys"]["kept"], status["keys"]["bytes"]) == (0, 0)
