"""Failures in which an answer is lost, doubled, somebody else's, or nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.client.session import Session
from harness.dialects.exai import Exai
from harness.faults.reset_peer import ResetPeer
from harness.proxy.control import Control
from harness.proxy.ports import Reservation
from tests.integration.failures import Case, expected, failure, set_to, through
from tests.integration.proxy_process import proxy_process
from tests.integration.refdaemon_process import TOKEN, Peer


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """A proxy server that the tests of this module share."""
    with proxy_process() as server:
        yield server.control


def call(request_id: str, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"op": "call_tool", "request_id": request_id, "name": tool, "arguments": arguments}


def said(frame: dict[str, Any]) -> str:
    """What a tool said."""
    assert frame["op"] == "call_tool_res", frame
    assert frame["ok"], frame
    text: str = frame["outputs"][0]["text"]
    return text


async def _cut_off(peer: Peer, **frame: Any) -> None:
    """Send a frame and see the connection end."""
    await peer.send(**frame)
    async with expected("the end of the connection"):
        assert await peer.close_code() == -1


@failure("forget-on-disconnect")
async def test_f05_a_result_outlives_its_connection(case: Case, tmp_path: Path, control: Control):
    """
    Reset while the call runs: the answer waits for the session, and whoever asks again, by the
    same request id or by the key, is told the same; it ran once.
    """
    async with (
        case.daemon(tmp_path, *set_to({"server.progress_interval_s": 0.02})) as daemon,
        daemon.peer() as other,
        through(control, daemon) as edge,
    ):
        async with edge.peer(session_id="session") as peer:
            # The first frame that tells of the call is what the connection breaks over.
            async with edge.harmed(ResetPeer(stream="downstream")):
                await _cut_off(peer, **call("1", "sleep", ms=500), key="intent")
            cut_off = daemon.effects()
        await other.health_when("calls_executed", 1)
        async with edge.peer(session_id="session") as peer:
            await peer.send(op="ping", request_id="ping")
            for request_id in ("1", "2"):
                await peer.send(**call(request_id, "sleep", ms=500), key="intent")
            frames = [await peer.receive() for _ in range(4)]
        effects = daemon.effects()

    assert [frame["request_id"] for frame in frames] == ["1", "ping", "1", "2"]
    assert [frame.get("replayed") for frame in frames[2:]] == [True, True]
    assert (len(cut_off), len(effects)) == (0, 1)


@failure("shared-keys", above_transport=True)
async def test_f06_a_request_id_is_its_sessions_own(case: Case, tmp_path: Path):
    """
    Two clients that use the same id for the same call each have theirs carried out; without an
    id nothing is.
    """
    async with case.daemon(tmp_path) as daemon, daemon.peer() as one, daemon.peer() as two:
        totals = [said(await peer.call("1", "counter", name="n")) for peer in (one, two)]
        without = [await peer.ask(op="call_tool", name="counter") for peer in (one, two)]

    assert totals == ["1", "2"]
    assert {frame["error"]["code"] for frame in without} == {"VALIDATION_ERROR"}


@failure("poisoned-key", above_transport=True)
async def test_f07_a_tool_that_fails_does_not_poison_its_key(case: Case, tmp_path: Path):
    """
    The same request id may be tried again, by this client and by others, and is answered.
    """
    codes = []
    with closing(Reservation("127.0.0.1")) as nobody:
        options = ("--provider", f"http://{nobody.address}", *set_to({"retry.attempts": 1}))
        async with (
            case.daemon(tmp_path, *options) as daemon,
            daemon.peer() as one,
            daemon.peer() as two,
        ):
            for peer in (one, one, two, one):
                async with expected("an answer", within_s=2.5):
                    reply = await peer.call("1", "chat", prompt="why?")
                codes.append(reply["error"]["code"])

    assert codes == ["PROVIDER_ERROR"] * 4


@failure("uncorrelated-errors")
async def test_f08_every_error_names_its_request(case: Case, tmp_path: Path):
    """
    An op and a tool that are unknown, and calls above a rate: whoever waits learns of it.
    """
    rate = set_to(
        {
            "admission.messages_per_s_per_session": 0.01,
            "admission.burst_messages_per_session": 3,
        }
    )
    async with case.daemon(tmp_path, *rate) as daemon, daemon.peer() as peer:
        await peer.send(op="tool_call", request_id="op")
        await peer.send(**call("tool", "sing"))
        asked = [str(n) for n in range(20)]
        for request_id in asked:
            await peer.send(**call(request_id, "echo", text="x"))
        frames = [await peer.receive() for _ in range(22)]

    assert [frame["request_id"] for frame in frames] == ["op", "tool", *asked]
    codes = [frame["error"]["code"] for frame in frames if not frame.get("ok")]
    assert codes == ["INVALID_REQUEST", "TOOL_NOT_FOUND", *["OVER_CAPACITY"] * 19]
    assert all(frame["error"]["details"]["retry_after_s"] > 0 for frame in frames[3:])


@failure("swapped-replies")
async def test_f09_an_answer_is_its_requests_own(case: Case, tmp_path: Path):
    """
    Calls that are under way together and end in another order than they began.
    """
    took = {"a": 600, "b": 50, "c": 100}
    async with case.daemon(tmp_path) as daemon, daemon.peer() as peer:
        for request_id, ms in took.items():
            await peer.send(**call(request_id, "sleep", ms=ms))
        frames = [await peer.receive() for _ in took]

    answers = {frame["request_id"]: said(frame) for frame in frames}
    assert answers == {request_id: f"slept {ms} ms" for request_id, ms in took.items()}


@failure("content-dedup")
async def test_f10_what_looks_alike_is_sent_all_the_same(case: Case, tmp_path: Path):
    """
    The list of tools, asked for twice without an id, comes twice, and again after a reconnect.
    """
    ops = []
    async with case.daemon(tmp_path) as daemon:
        for _ in range(2):
            async with daemon.peer(session_id="session") as peer:
                for frame in ({"op": "list_tools"}, {"op": "list_tools"}, {"op": "ping"}):
                    await peer.send(**frame)
                while not ops or ops[-1] != "pong":
                    ops.append((await peer.receive())["op"])
            ops.append("reconnect")

    assert ops == ["list_tools_res", "list_tools_res", "pong", "reconnect"] * 2


@failure("no-keys")
async def test_f11_a_retry_has_no_second_effect(case: Case, tmp_path: Path, control: Control):
    """
    The reply is cut off after the execution; the retry, under another id, brings what it was.
    """
    async with case.daemon(tmp_path) as daemon, through(control, daemon) as edge:
        async with edge.peer(session_id="session") as peer:
            async with edge.harmed(ResetPeer(stream="downstream")):
                await _cut_off(peer, **call("1", "counter", name="n"), key="intent")
            executed = len(daemon.effects())
        async with edge.peer(session_id="session") as peer:
            reply = await peer.ask(**call("2", "counter", name="n"), key="intent")
        effects = daemon.effects()

    assert executed == 1
    assert said(reply) == "1"
    assert reply.get("replayed")
    assert len(effects) == 1


@failure("renamed-op")
async def test_f29_the_frames_have_the_names_that_clients_know(case: Case, tmp_path: Path):
    """
    Each request is answered with the op and the fields of the protocol, and our client, which
    knows nothing else, understands it.
    """
    requests = {
        "ping": {"op": "ping", "request_id": "1"},
        "list_tools": {"op": "list_tools", "request_id": "2"},
        "health": {"op": "health", "request_id": "3"},
        "cancel": {"op": "cancel", "request_id": "4"},
        "call_tool": call("5", "echo", text="hi"),
        "nonsense": {"op": "nonsense", "request_id": "6"},
    }
    async with case.daemon(tmp_path) as daemon:
        async with daemon.peer() as peer:
            answers = {name: await peer.ask(**frame) for name, frame in requests.items()}
        shapes = {name: (frame["op"], {*frame} - {"op"}) for name, frame in answers.items()}
        stamps = {"received_ns", "began_ns", "answered_ns"}
        assert shapes == {
            "ping": ("pong", {"request_id", "timestamp"}),
            "list_tools": ("list_tools_res", {"request_id", "tools"}),
            "health": ("health_res", {"request_id", "ok", "health"}),
            "cancel": ("cancelled", {"request_id", "ok", "error"}),
            "call_tool": ("call_tool_res", {"request_id", "ok", "outputs", *stamps}),
            "nonsense": ("error", {"request_id", "error"}),
        }
        async with Session(daemon.url, dialect=Exai(), token=TOKEN) as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"
